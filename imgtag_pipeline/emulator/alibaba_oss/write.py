"""Writing objects: PUT, copy, append and delete."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

from imgtag_pipeline.emulator.alibaba_oss.crc64 import crc64
from imgtag_pipeline.emulator.alibaba_oss.objects import Digest, ObjectStore, Stored, digest
from imgtag_pipeline.emulator.alibaba_oss.read import check_conditions
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, empty_reply, iso_date, xml_reply
from imgtag_pipeline.emulator.gateway import Refused, WireReply

_KEPT: Final = (
    "Content-Type",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
)
_MAX_KEY_BYTES: Final = 1023


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of a write that are given back with the object."""
    found = {name: headers[name] for name in _KEPT if headers.get(name)}
    found |= {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-oss-meta-")}
    return found


def check_write(store: ObjectStore, call: OssCall) -> None:
    """Whether this name may be written now; raises InvalidObjectName or FileAlreadyExists."""
    check_name(call.key)
    if call.headers.get("x-oss-forbid-overwrite", "").lower() == "true" and store.has(call.bucket, call.key):
        raise Refused("FileAlreadyExists", details={"Key": call.key})


def check_name(key: str) -> None:
    """Whether OSS takes this name; raises InvalidObjectName."""
    raw = key.encode(errors="surrogateescape")
    if not raw or len(raw) > _MAX_KEY_BYTES or key[0] in "/\\":
        raise Refused("InvalidObjectName", details={"ObjectName": key})


def check_md5(headers: Mapping[str, str], found: Digest) -> None:
    """Hold the body against Content-MD5; raises InvalidDigest."""
    claimed = headers.get("Content-MD5", "")
    actual = b64encode(bytes.fromhex(found.md5)).decode()
    if claimed and claimed != actual:
        raise Refused("InvalidDigest", details={"ExpectedDigest": claimed, "CalculatedDigest": actual})


def checksums(found: Digest) -> dict[str, str]:
    """The headers that a client verifies its upload with."""
    return {"ETag": f'"{found.md5}"', "x-oss-hash-crc64ecma": str(found.crc64)}


class Writing:
    """PUT, copy, append and DELETE on one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, call: OssCall) -> WireReply:
        """PutObject."""
        check_write(self._store, call)
        found = await digest(call.request.body)
        check_md5(call.headers, found)
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        self._store.put(bucket, call.key, call.request.body, _stored(call, call.request.body, found))
        md5 = b64encode(bytes.fromhex(found.md5)).decode()
        return empty_reply(headers={**checksums(found), "Content-MD5": md5})

    async def copy(self, call: OssCall) -> WireReply:
        """CopyObject, within the emulator; metadata is copied unless it is to be replaced."""
        check_write(self._store, call)
        source, data = read_source(self._store, call)
        is_replaced = call.headers.get("x-oss-metadata-directive", "").upper() == "REPLACE"
        headers = kept_headers(call.headers) if is_replaced else source.headers
        found = await digest(data)
        stored = Stored(len(data), found.md5, found.crc64, call.now, headers, storage_class=_class(call.headers))
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        self._store.put(bucket, call.key, data, stored)
        fields = [("LastModified", iso_date(call.now)), ("ETag", f'"{found.md5}"')]
        return xml_reply("CopyObjectResult", fields, checksums(found))

    async def append(self, call: OssCall) -> WireReply:
        """AppendObject: only at the very end, and only to objects that were made by it."""
        check_name(call.key)
        position = call.number("position", -1, low=0, high=1 << 60)
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        before = bucket.objects.get(call.key)
        if before is not None and before.kind != "Appendable":
            raise Refused("ObjectNotAppendable")
        size = before.size if before else 0
        if position < 0:
            raise Refused("MissingArgument", details={"ArgumentName": "position"})
        if position != size:
            raise Refused("PositionNotEqualToLength", details={"x-oss-next-append-position": str(size)})
        added = call.request.body
        check_md5(call.headers, await digest(added))
        data = self._store.read(call.bucket, call.key) + added if before else added
        crc = crc64(added, before.crc64 if before else 0)
        headers = before.headers if before else kept_headers(call.headers)
        stored = Stored(len(data), _appended_etag(crc), crc, call.now, headers, "Appendable")
        self._store.put(bucket, call.key, data, stored)
        end = {"x-oss-next-append-position": str(len(data)), "x-oss-hash-crc64ecma": str(crc)}
        return empty_reply(headers={"ETag": f'"{stored.etag}"', **end})

    async def delete(self, call: OssCall) -> WireReply:
        """DeleteObject: 204 also when there was nothing."""
        self._store.delete(self._store.bucket(call.bucket), call.key)
        return empty_reply(204)


def read_source(store: ObjectStore, call: OssCall) -> tuple[Stored, bytes]:
    """The object named in x-oss-copy-source, if its conditions hold; raises `Refused`."""
    path = unquote(call.headers.get("x-oss-copy-source", "").partition("?")[0])
    bucket, _, key = path.removeprefix("/").partition("/")
    if not bucket or not key:
        raise Refused("InvalidArgument", "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.")
    source = store.stored(bucket, key)
    check_conditions(call.headers, source, "x-oss-copy-source-")
    return source, store.read(bucket, key)


def _stored(call: OssCall, data: bytes, found: Digest) -> Stored:
    headers, storage_class = kept_headers(call.headers), _class(call.headers)
    return Stored(len(data), found.md5, found.crc64, call.now, headers, storage_class=storage_class)


def _class(headers: Mapping[str, str]) -> str:
    return headers.get("x-oss-storage-class", "Standard")


def _appended_etag(crc: int) -> str:
    return f"{crc:016X}" * 2
