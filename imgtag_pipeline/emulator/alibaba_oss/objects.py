"""The emulator's buckets: objects with their checksums, kept in memory within a bound or in a folder."""

from __future__ import annotations

import asyncio
import hashlib
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from imgtag_pipeline.emulator.alibaba_oss.address import is_bucket_name
from imgtag_pipeline.emulator.alibaba_oss.bodies import Bodies, FolderBodies, MemoryBodies
from imgtag_pipeline.emulator.alibaba_oss.crc64 import crc64
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.gateway import Refused

Kind = Literal["Normal", "Appendable", "Multipart"]
_LARGE = 1 << 18


@dataclass(frozen=True, slots=True)
class Digest:
    """What OSS knows of some bytes: the MD5 as hex, in upper case, and the CRC-64."""

    md5: str
    crc64: int


async def digest(data: bytes) -> Digest:
    """The checksums of some bytes; large ones are computed off the event loop."""
    if len(data) < _LARGE:
        return _digest(data)
    return await asyncio.to_thread(_digest, data)


def _digest(data: bytes) -> Digest:
    return Digest(hashlib.md5(data, usedforsecurity=False).hexdigest().upper(), crc64(data))


@dataclass(frozen=True, slots=True)
class Stored:
    """One object but for its bytes. `headers` are those that are given back with it, Content-Type among them."""

    size: int
    etag: str
    crc64: int
    modified: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: Kind = "Normal"
    storage_class: str = "Standard"

    @property
    def is_archived(self) -> bool:
        """Whether the bytes cannot be read before they are restored."""
        return self.storage_class in ("Archive", "ColdArchive", "DeepColdArchive")


@dataclass(slots=True)
class Upload:
    """A multipart upload that is not complete; `parts` by number."""

    key: str
    started: datetime
    headers: Mapping[str, str]
    parts: dict[int, tuple[bytes, Digest, datetime]] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    """One bucket; `keys` are sorted as OSS lists them, by their UTF-8 bytes."""

    name: str
    created: datetime
    objects: dict[str, Stored] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    uploads: dict[str, Upload] = field(default_factory=dict)


class ObjectStore:
    """All buckets of the emulator. Raises `Refused` with OSS's codes; nothing is half written."""

    def __init__(self, options: OssOptions, now: datetime) -> None:
        self._options = options
        self._bodies: Bodies = FolderBodies(options.folder) if options.folder else MemoryBodies()
        self._buckets: dict[str, Bucket] = {}
        self._bytes = 0
        for name in options.buckets:
            self.create(name, now)
        for name, key, facts in self._bodies.found():
            bucket = self._buckets.get(name) or self.create(name, now)
            self._enter(bucket, key, _from_facts(facts))

    @property
    def buckets(self) -> list[Bucket]:
        """All buckets, by name."""
        return [self._buckets[name] for name in sorted(self._buckets)]

    def has(self, name: str, key: str = "") -> bool:
        """Whether the bucket exists, and the object in it."""
        bucket = self._buckets.get(name)
        return bucket is not None and (not key or key in bucket.objects)

    def create(self, name: str, now: datetime) -> Bucket:
        """A new, empty bucket."""
        bucket = self._buckets[name] = Bucket(name, now)
        return bucket

    def remove(self, name: str) -> None:
        """Take an empty bucket away."""
        if self.bucket(name).objects:
            raise Refused("BucketNotEmpty", details={"BucketName": name})
        del self._buckets[name]

    def bucket(self, name: str) -> Bucket:
        """The bucket; raises NoSuchBucket."""
        try:
            return self._buckets[name]
        except KeyError:
            raise Refused("NoSuchBucket", details={"BucketName": name}) from None

    def bucket_or_new(self, name: str, now: datetime) -> Bucket:
        """The bucket, made when it is missing and that is allowed; raises NoSuchBucket."""
        if name not in self._buckets and self._options.creates_buckets and is_bucket_name(name):
            return self.create(name, now)
        return self.bucket(name)

    def stored(self, name: str, key: str) -> Stored:
        """The object; raises NoSuchBucket or NoSuchKey."""
        try:
            return self.bucket(name).objects[key]
        except KeyError:
            raise Refused("NoSuchKey", details={"Key": key}) from None

    def read(self, name: str, key: str) -> bytes:
        """The object's bytes; raises also InvalidObjectState."""
        if self.stored(name, key).is_archived:
            raise Refused("InvalidObjectState", details={"ObjectName": key})
        return self._bodies.read(name, key)

    def put(self, bucket: Bucket, key: str, data: bytes, stored: Stored) -> None:
        """Store an object, whole, in place of the one that was there; raises QuotaExceeded."""
        before = bucket.objects[key].size if key in bucket.objects else 0
        if not self._options.folder and self._bytes - before + stored.size > self._options.max_bytes:
            raise Refused("QuotaExceeded")
        self._bodies.write(bucket.name, key, data, _to_facts(stored))
        self._enter(bucket, key, stored)

    def delete(self, bucket: Bucket, key: str) -> None:
        """Delete an object; one that is not there is deleted already."""
        stored = bucket.objects.pop(key, None)
        if stored is None:
            return
        self._bytes -= stored.size
        raw = key.encode(errors="surrogateescape")
        del bucket.keys[bisect_left(bucket.keys, raw)]
        self._bodies.delete(bucket.name, key)

    def _enter(self, bucket: Bucket, key: str, stored: Stored) -> None:
        before = bucket.objects.get(key)
        if before is None:
            insort(bucket.keys, key.encode(errors="surrogateescape"))
        self._bytes += stored.size - (before.size if before else 0)
        bucket.objects[key] = stored


def _to_facts(stored: Stored) -> dict[str, object]:
    return {
        "size": stored.size,
        "etag": stored.etag,
        "crc64": stored.crc64,
        "modified": stored.modified.isoformat(),
        "headers": dict(stored.headers),
        "kind": stored.kind,
        "storage_class": stored.storage_class,
    }


def _from_facts(facts: dict[str, object]) -> Stored:
    return Stored(**{**facts, "modified": datetime.fromisoformat(str(facts["modified"]))})  # type: ignore[arg-type]
