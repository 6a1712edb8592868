"""Listing: keys in UTF-8 order, grouped by a delimiter, a page at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imgtag_pipeline.emulator.alibaba_oss.objects import Bucket, ObjectStore
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, iso_date, xml_reply
from imgtag_pipeline.emulator.alibaba_oss.xml import Node
from imgtag_pipeline.emulator.gateway import WireReply

OWNER: Final[Node] = ("Owner", [("ID", "1000001"), ("DisplayName", "1000001")])


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing: keys, common prefixes, and the last of both when there is more."""

    keys: tuple[str, ...]
    prefixes: tuple[str, ...]
    next_marker: str | None


def page(keys: Sequence[bytes], prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """The names that begin with `prefix` and come after `after`; those that hold `delimiter` behind the prefix once."""
    raw_prefix, raw_delimiter, raw_after = (_raw(text) for text in (prefix, delimiter, after))
    at = max(bisect_left(keys, raw_prefix), bisect_right(keys, raw_after) if after else 0)
    found: list[bytes] = []
    groups: list[bytes] = []
    last = b""
    while at < len(keys) and keys[at].startswith(raw_prefix):
        key = keys[at]
        cut = key.find(raw_delimiter, len(raw_prefix)) if delimiter else -1
        name = key[: cut + len(raw_delimiter)] if cut >= 0 else key
        if cut >= 0 and name <= raw_after:  # this group was on an earlier page
            at = bisect_left(keys, _behind(name))
            continue
        if len(found) + len(groups) == limit:
            return Page(_texts(found), _texts(groups), _text(last))
        last = name
        if cut >= 0:
            groups.append(name)
            at = bisect_left(keys, _behind(name))
        else:
            found.append(name)
            at += 1
    return Page(_texts(found), _texts(groups), None)


def _behind(prefix: bytes) -> bytes:
    """The first name that is greater than all that begin with `prefix`; UTF-8 has no byte FF."""
    return prefix + b"\xff"


def _raw(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")


def _texts(raw: Sequence[bytes]) -> tuple[str, ...]:
    return tuple(_text(each) for each in raw)


class Listing:
    """ListObjects in both versions."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def objects(self, call: OssCall) -> WireReply:
        """ListObjects: by marker."""
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        limit = call.number("max-keys", 100, low=1, high=1000)
        marker = call.query.get("marker", "")
        found = page(bucket.keys, call.query.get("prefix", ""), call.query.get("delimiter", ""), marker, limit)
        head: list[Node] = [("Marker", call.shown(marker))]
        if found.next_marker is not None:
            head.append(("NextMarker", call.shown(found.next_marker)))
        return xml_reply("ListBucketResult", [*_head(call, limit, found), *head, *_body(call, bucket, found, True)])

    async def objects_v2(self, call: OssCall) -> WireReply:
        """ListObjectsV2: by continuation token, owners only on demand."""
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        limit = call.number("max-keys", 100, low=1, high=1000)
        token, start = call.query.get("continuation-token", ""), call.query.get("start-after", "")
        found = page(bucket.keys, call.query.get("prefix", ""), call.query.get("delimiter", ""), token or start, limit)
        head: list[Node] = [("KeyCount", str(len(found.keys) + len(found.prefixes)))]
        if start:
            head.append(("StartAfter", call.shown(start)))
        if token:
            head.append(("ContinuationToken", call.shown(token)))
        if found.next_marker is not None:
            head.append(("NextContinuationToken", call.shown(found.next_marker)))
        with_owner = call.query.get("fetch-owner") == "true"
        return xml_reply(
            "ListBucketResult", [*_head(call, limit, found), *head, *_body(call, bucket, found, with_owner)]
        )


def _head(call: OssCall, limit: int, found: Page) -> list[Node]:
    return [
        ("Name", call.bucket),
        ("Prefix", call.shown(call.query.get("prefix", ""))),
        ("MaxKeys", str(limit)),
        ("Delimiter", call.shown(call.query.get("delimiter", ""))),
        *call.encoding(),
        ("IsTruncated", "false" if found.next_marker is None else "true"),
    ]


def _body(call: OssCall, bucket: Bucket, found: Page, with_owner: bool) -> list[Node]:
    nodes: list[Node] = []
    for key in found.keys:
        stored = bucket.objects[key]
        fields: list[Node] = [
            ("Key", call.shown(key)),
            ("LastModified", iso_date(stored.modified)),
            ("ETag", f'"{stored.etag}"'),
            ("Type", stored.kind),
            ("Size", str(stored.size)),
            ("StorageClass", stored.storage_class),
        ]
        nodes.append(("Contents", [*fields, OWNER] if with_owner else fields))
    nodes += [("CommonPrefixes", [("Prefix", call.shown(prefix))]) for prefix in found.prefixes]
    return nodes
