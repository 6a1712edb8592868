"""Multipart uploads: initiate, part, part by copy, complete, abort and both listings."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise
from typing import Final
from uuid import uuid4

from imgtag_pipeline.emulator.alibaba_oss.objects import Digest, ObjectStore, Stored, Upload, digest
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, empty_reply, iso_date, xml_reply
from imgtag_pipeline.emulator.alibaba_oss.write import check_md5, check_write, checksums, kept_headers, read_source
from imgtag_pipeline.emulator.alibaba_oss.xml import Node, parse
from imgtag_pipeline.emulator.gateway import Refused, WireReply

_MIN_PART: Final = 100 << 10
_MAX_PARTS: Final = 10_000
_COPY_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")


class Multipart:
    """The multipart operations on one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def initiate(self, call: OssCall) -> WireReply:
        """InitiateMultipartUpload."""
        check_write(self._store, call)
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        upload_id = uuid4().hex.upper()
        bucket.uploads[upload_id] = Upload(call.key, call.now, kept_headers(call.headers))
        fields = [("Bucket", call.bucket), ("Key", call.shown(call.key)), ("UploadId", upload_id)]
        return xml_reply("InitiateMultipartUploadResult", [*call.encoding(), *fields])

    async def part(self, call: OssCall) -> WireReply:
        """UploadPart; a part that is sent again takes the place of the first."""
        upload, number = self._upload(call), call.number("partNumber", 0, low=1, high=_MAX_PARTS)
        if not number:
            raise Refused("MissingArgument", details={"ArgumentName": "partNumber"})
        found = await digest(call.request.body)
        check_md5(call.headers, found)
        upload.parts[number] = (call.request.body, found, call.now)
        return empty_reply(headers=checksums(found))

    async def part_by_copy(self, call: OssCall) -> WireReply:
        """UploadPartCopy: a range of another object as a part."""
        upload, number = self._upload(call), call.number("partNumber", 1, low=1, high=_MAX_PARTS)
        _, data = read_source(self._store, call)
        if span := _COPY_RANGE.fullmatch(call.headers.get("x-oss-copy-source-range", "")):
            data = data[int(span[1]) : int(span[2]) + 1]
        found = await digest(data)
        upload.parts[number] = (data, found, call.now)
        fields = [("LastModified", iso_date(call.now)), ("ETag", f'"{found.md5}"')]
        return xml_reply("CopyPartResult", fields, checksums(found))

    async def complete(self, call: OssCall) -> WireReply:
        """CompleteMultipartUpload: the object appears whole, under the parts that are listed."""
        upload = self._upload(call)
        chosen = self._chosen(call, upload)
        data = b"".join(part[0] for part in chosen)
        md5 = hashlib.md5(b"".join(bytes.fromhex(part[1].md5) for part in chosen), usedforsecurity=False).hexdigest()
        etag, crc = f"{md5.upper()}-{len(chosen)}", (await digest(data)).crc64
        stored = Stored(len(data), etag, crc, call.now, upload.headers, "Multipart")
        bucket = self._store.bucket(call.bucket)
        self._store.put(bucket, call.key, data, stored)
        bucket.uploads.pop(call.query["uploadId"], None)
        fields = [
            ("Location", f"http://{call.request.authority}{call.request.path}"),
            ("Bucket", call.bucket),
            ("Key", call.shown(call.key)),
            ("ETag", f'"{etag}"'),
        ]
        head = {"x-oss-hash-crc64ecma": str(crc), "ETag": f'"{etag}"'}
        return xml_reply("CompleteMultipartUploadResult", [*call.encoding(), *fields], head)

    async def abort(self, call: OssCall) -> WireReply:
        """AbortMultipartUpload."""
        self._upload(call)
        del self._store.bucket(call.bucket).uploads[call.query["uploadId"]]
        return empty_reply(204)

    async def parts(self, call: OssCall) -> WireReply:
        """ListParts."""
        upload = self._upload(call)
        limit = call.number("max-parts", 1000, low=1, high=1000)
        after = call.number("part-number-marker", 0, low=0, high=_MAX_PARTS)
        later = [number for number in sorted(upload.parts) if number > after]
        shown = later[:limit]
        head: list[Node] = [
            ("Bucket", call.bucket),
            ("Key", call.shown(call.key)),
            ("UploadId", call.query["uploadId"]),
            ("PartNumberMarker", str(after)),
            ("NextPartNumberMarker", str(shown[-1] if shown else after)),
            ("MaxParts", str(limit)),
            ("IsTruncated", "true" if len(later) > limit else "false"),
        ]
        return xml_reply("ListPartsResult", [*call.encoding(), *head, *(_part(number, upload) for number in shown)])

    async def uploads(self, call: OssCall) -> WireReply:
        """ListMultipartUploads, by key and then by id."""
        bucket = self._store.bucket(call.bucket)
        limit = call.number("max-uploads", 1000, low=1, high=1000)
        prefix, key_marker = call.query.get("prefix", ""), call.query.get("key-marker", "")
        after = (key_marker, call.query.get("upload-id-marker", "") or ("\uffff" if key_marker else ""))
        found = sorted((upload.key, upload_id) for upload_id, upload in bucket.uploads.items())
        later = [each for each in found if each[0].startswith(prefix) and each > after]
        shown = later[:limit]
        last = shown[-1] if len(later) > limit else ("", "")
        head: list[Node] = [
            ("Bucket", call.bucket),
            ("KeyMarker", call.shown(key_marker)),
            ("UploadIdMarker", call.query.get("upload-id-marker", "")),
            ("NextKeyMarker", call.shown(last[0])),
            ("NextUploadIdMarker", last[1]),
            ("Prefix", call.shown(prefix)),
            ("MaxUploads", str(limit)),
            ("IsTruncated", "true" if len(later) > limit else "false"),
        ]
        nodes: list[Node] = [
            ("Upload", [("Key", call.shown(k)), ("UploadId", i), ("Initiated", iso_date(bucket.uploads[i].started))])
            for k, i in shown
        ]
        return xml_reply("ListMultipartUploadsResult", [*call.encoding(), *head, *nodes])

    def _upload(self, call: OssCall) -> Upload:
        upload = self._store.bucket(call.bucket).uploads.get(call.query["uploadId"])
        if upload is None or upload.key != call.key:
            raise Refused("NoSuchUpload", details={"UploadId": call.query["uploadId"]})
        return upload

    def _chosen(self, call: OssCall, upload: Upload) -> list[tuple[bytes, Digest]]:
        if call.headers.get("x-oss-complete-all", "").lower() == "yes":
            listed = [(number, "") for number in sorted(upload.parts)]
        else:
            nodes = parse(call.request.body).findall("Part")
            numbers = [(node.findtext("PartNumber") or "", node.findtext("ETag") or "") for node in nodes]
            if not all(number.strip().isdigit() for number, _ in numbers):
                raise Refused("MalformedXML")
            listed = [(int(number), etag.strip().strip('"').upper()) for number, etag in numbers]
        if not listed:
            raise Refused("MalformedXML")
        if any(before[0] >= after[0] for before, after in pairwise(listed)):
            raise Refused("InvalidPartOrder")
        chosen = []
        for number, etag in listed:
            part = upload.parts.get(number)
            if part is None or etag not in ("", part[1].md5):
                raise Refused("InvalidPart", details={"PartNumber": str(number)})
            chosen.append((part[0], part[1]))
        if any(len(part[0]) < _MIN_PART for part in chosen[:-1]):
            raise Refused("EntityTooSmall", details={"MinSizeAllowed": str(_MIN_PART)})
        return chosen


def _part(number: int, upload: Upload) -> Node:
    data, found, at = upload.parts[number]
    size, crc = str(len(data)), str(found.crc64)
    fields = [("PartNumber", str(number)), ("LastModified", iso_date(at)), ("ETag", f'"{found.md5}"')]
    return ("Part", [*fields, ("Size", size), ("HashCrc64ecma", crc)])
