"""Reading objects: GET with ranges and conditions, HEAD, and the gzip that OSS adds to texts."""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from imgtag_pipeline.emulator.alibaba_oss.objects import ObjectStore, Stored
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, empty_reply, http_date, parsed_date, xml_reply
from imgtag_pipeline.emulator.gateway import Refused, WireReply

# Only these are compressed, from 1 KB on, and then without ETag, Content-Length and checksum.
_COMPRESSED: Final = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/rss+xml",
        "application/x-javascript",
        "application/xml",
        "text/cache-manifest",
        "text/css",
        "text/html",
        "text/javascript",
        "text/plain",
        "text/xml",
    }
)
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


def facts(stored: Stored) -> dict[str, str]:
    """The headers that describe an object."""
    return {
        "ETag": f'"{stored.etag}"',
        "Last-Modified": http_date(stored.modified),
        "x-oss-object-type": stored.kind,
        "x-oss-hash-crc64ecma": str(stored.crc64),
        "x-oss-storage-class": stored.storage_class,
    }


def check_conditions(headers: Mapping[str, str], stored: Stored, prefix: str = "") -> None:
    """Hold If-Match and its kin against an object; raises PreconditionFailed or NotModified."""

    def etags(name: str) -> set[str]:
        return {each.strip().strip('"').upper() for each in headers.get(prefix + name, "").split(",")} - {""}

    wanted, unwanted = etags("if-match"), etags("if-none-match")
    modified = stored.modified.replace(microsecond=0)
    unless = parsed_date(headers.get(prefix + "if-unmodified-since", ""))
    since = parsed_date(headers.get(prefix + "if-modified-since", ""))
    if wanted and "*" not in wanted and stored.etag not in wanted:
        raise Refused("PreconditionFailed", details={"Condition": "If-Match"})
    if unless and unless.tzinfo and modified > unless:
        raise Refused("PreconditionFailed", details={"Condition": "If-Unmodified-Since"})
    if "*" in unwanted or stored.etag in unwanted:
        raise Refused("NotModified")
    if since and since.tzinfo and modified <= since and not unwanted:
        raise Refused("NotModified")


def selected(headers: Mapping[str, str], size: int) -> tuple[int, int] | None:
    """First and last byte that a Range asks for, None for the whole object.

    A range that does not fit gives the whole object, as OSS does, unless `x-oss-range-behavior: standard` is sent;
    then it is cut to size, or refused with InvalidRange.
    """
    found = _RANGE.fullmatch(headers.get("Range", "").replace(" ", ""))
    if not found or found.groups() == ("", ""):
        return None
    is_standard = headers.get("x-oss-range-behavior") == "standard"
    if found[1]:
        first, last = int(found[1]), int(found[2] or size - 1)
    else:
        first, last = size - int(found[2]), size - 1
    if first > last and found[1] and found[2]:
        return None
    if is_standard:
        first, last = max(first, 0), min(last, size - 1)
        if first > last:
            raise Refused("InvalidRange", details={"ActualObjectSize": str(size)})
    return (first, last) if 0 <= first <= last < size else None


class Reading:
    """GET, HEAD and their kin on one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def get(self, call: OssCall) -> WireReply:
        """GetObject."""
        stored = self._store.stored(call.bucket, call.key)
        check_conditions(call.headers, stored)
        data = self._store.read(call.bucket, call.key)
        headers = {**facts(stored), "Accept-Ranges": "bytes", **_given_back(call, stored)}
        kind = headers.pop("Content-Type")
        span = selected(call.headers, stored.size)
        if span:
            headers["Content-Range"] = f"bytes {span[0]}-{span[1]}/{stored.size}"
            return WireReply(206, data[span[0] : span[1] + 1], content_type=kind, headers=headers)
        if _is_compressed(call, stored, kind):
            headers.pop("ETag")
            headers.pop("x-oss-hash-crc64ecma")
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
            return WireReply(200, gzip.compress(data, 1), content_type=kind, headers=headers, is_chunked=True)
        if stored.kind == "Normal":
            headers["Content-MD5"] = b64encode(bytes.fromhex(stored.etag)).decode()
        return WireReply(200, data, content_type=kind, headers=headers)

    async def head(self, call: OssCall) -> WireReply:
        """HeadObject."""
        stored = self._store.stored(call.bucket, call.key)
        check_conditions(call.headers, stored)
        headers = {**facts(stored), "Accept-Ranges": "bytes", **_given_back(call, stored)}
        kind = headers.pop("Content-Type")
        return WireReply(200, content_type=kind, headers=headers, length=stored.size)

    async def meta(self, call: OssCall) -> WireReply:
        """GetObjectMeta: size, ETag, date and checksum alone."""
        stored = self._store.stored(call.bucket, call.key)
        known = facts(stored)
        headers = {name: known[name] for name in ("ETag", "Last-Modified", "x-oss-hash-crc64ecma")}
        reply = empty_reply(headers=headers)
        reply.length = stored.size
        return reply

    async def acl(self, call: OssCall) -> WireReply:
        """GetObjectAcl: every object has its bucket's."""
        self._store.stored(call.bucket, call.key)
        owner = [("ID", "1000001"), ("DisplayName", "1000001")]
        grant = [("Grant", "default")]
        return xml_reply("AccessControlPolicy", [("Owner", owner), ("AccessControlList", grant)])


def _given_back(call: OssCall, stored: Stored) -> dict[str, str]:
    headers = {"Content-Type": "application/octet-stream", **stored.headers}
    for name in ("Content-Type", "Content-Language", "Expires", "Cache-Control", "Content-Disposition"):
        override = call.query.get(f"response-{name.lower()}")
        if override:
            headers[name] = override
    return headers


def _is_compressed(call: OssCall, stored: Stored, kind: str) -> bool:
    return (
        stored.size >= 1024
        and kind.partition(";")[0].strip() in _COMPRESSED
        and "Content-Encoding" not in stored.headers
        and "gzip" in call.headers.get("Accept-Encoding", "")
    )
