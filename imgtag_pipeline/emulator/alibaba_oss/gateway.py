"""Object storage as OSS has it: objects for `ossfs`, `oss2` and our store, and image tagging on them.

Buckets are found in the host, behind a custom domain, or in the path. Nothing is answered without a signature.
"""

from __future__ import annotations

import mimetypes
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from imgtag_pipeline.emulator.alibaba_oss.address import Address, is_bucket_name, is_oss_host, operation, resolve
from imgtag_pipeline.emulator.alibaba_oss.auth import authenticate, is_marked, names_a_key
from imgtag_pipeline.emulator.alibaba_oss.buckets import Buckets
from imgtag_pipeline.emulator.alibaba_oss.codes import CODES, COMMON, documented, error_body, error_headers
from imgtag_pipeline.emulator.alibaba_oss.form import FormUpload, authenticate_form
from imgtag_pipeline.emulator.alibaba_oss.listing import Listing
from imgtag_pipeline.emulator.alibaba_oss.multipart import Multipart
from imgtag_pipeline.emulator.alibaba_oss.objects import ObjectStore, Stored, digest
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.alibaba_oss.read import Reading
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, http_date
from imgtag_pipeline.emulator.alibaba_oss.tagging import Processing, is_billed, read_process
from imgtag_pipeline.emulator.alibaba_oss.write import Writing
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.control import CONTROL
from imgtag_pipeline.emulator.gateway import Admission, Documented, Refused, WireReply, WireRequest, pairs

_READS: Final = frozenset({"Process", "GetObject", "HeadObject", "GetObjectMeta", "CopyObject"})


class OssGateway:
    """The OSS family of the emulator. `store` holds what was put; other families see it through `cloud.pictures`."""

    name = "oss"
    codes: Mapping[str, Documented] = CODES
    common: Mapping[str, str] = COMMON

    def __init__(self, cloud: Cloud, options: OssOptions | None = None) -> None:
        self._cloud = cloud
        self._options = options or OssOptions()
        self.store = ObjectStore(self._options, cloud.now())
        self._handlers = _handlers(cloud, self.store, self._options)
        cloud.pictures.add_resolver(self.resolve)

    def matches(self, request: WireRequest) -> bool:
        """Whether the host, a signature, a process, or the path names object storage."""
        if is_oss_host(request.host, self._options.domains) or is_marked(request):
            return True
        bucket, slash, _ = request.path[1:].partition("/")
        is_form = request.method == "POST" and request.headers.get("Content-Type", "").startswith("multipart/form-data")
        return is_bucket_name(bucket) and (bool(slash) or is_form or self.store.has(bucket))

    def admit(self, request: WireRequest) -> Admission:
        """Check the signature and find the operation; only image processing counts towards a quota."""
        call = self._call(request)
        if call.operation == "PostObject":
            account = authenticate_form(self._cloud, request, call.bucket)
        else:
            account = authenticate(self._cloud, request, call.address).name
        if call.operation == "Process":
            action = read_process(call.query["x-oss-process"]).action
            return Admission(account, action, (call.address.reference,))
        if not call.operation:
            raise Refused("NotImplemented")
        return Admission(account, call.operation, (), is_limited=False, about=call.address.reference)

    async def answer(self, request: WireRequest, admission: Admission) -> WireReply:
        """Do what is asked."""
        call = self._call(request)
        if call.operation in _READS:
            await self._lend(call)
        reply = await self._handlers[call.operation](call)
        return self._signed_off(reply, reply.request_id or _request_id())

    def refuse(self, request: WireRequest, refusal: Refused) -> WireReply:
        """The error as OSS words it: XML, in a header where there can be no body."""
        error, request_id = documented(refusal.code), _request_id()
        shown = {name: text for name, text in refusal.details.items() if not name.startswith("x-oss-")}
        headers = {name: text for name, text in refusal.details.items() if name.startswith("x-oss-")}
        body, kind = error_body(error, refusal.message, shown, request_id, request.host)
        reply = WireReply(error.status, body, kind, headers, error.code)
        if request.method == "HEAD" or error.status == 304:
            reply.body, reply.content_type = b"", ""
        if error.status != 304:  # "not modified" is no error, and says nothing of one
            headers |= error_headers(error, body)
        reply.is_billed = _is_process(request) and names_a_key(request) and is_billed(error.code)
        return self._signed_off(reply, request_id)

    def resolve(self, reference: str) -> bytes | None:
        """The bytes of an object by any of its URLs, signed or not; None for what is not stored here."""
        parts = urlsplit(reference)
        host = (parts.hostname or "").lower()
        if parts.scheme == "oss":
            address = Address(parts.netloc, reference.partition("://")[2].partition("/")[2])
        elif is_oss_host(host, self._options.domains):
            address = resolve(host, parts.path, self._options.domains)
        elif reference.startswith(self._cloud.url + "/") and not parts.path.startswith(CONTROL):
            address = resolve(host, parts.path, {})
        else:
            return None
        if not address.key or not self.store.has(address.bucket, address.key):
            return None
        return self.store.read(address.bucket, address.key)

    def _call(self, request: WireRequest) -> OssCall:
        address = resolve(request.host, request.path, self._options.domains)
        query = dict(pairs(request.query))
        asked = operation(request.method, address, query, request.headers)
        return OssCall(request, address, asked or "", query, self._cloud.now())

    async def _lend(self, call: OssCall) -> None:
        """Pictures of the emulator's folder are objects of every bucket, until they are written."""
        if self.store.has(call.bucket, call.key) or not is_bucket_name(call.bucket):
            return
        data = self._cloud.pictures.read(call.key)
        if data is None or not (self._options.creates_buckets or self.store.has(call.bucket)):
            return
        found = await digest(data)
        kind = mimetypes.guess_type(call.key)[0] or "application/octet-stream"
        stored = Stored(len(data), found.md5, found.crc64, call.now, {"Content-Type": kind})
        self.store.put(self.store.bucket_or_new(call.bucket, call.now), call.key, data, stored)

    def _signed_off(self, reply: WireReply, request_id: str) -> WireReply:
        reply.request_id = request_id
        common = {"Server": "AliyunOSS", "Date": http_date(self._cloud.now()), "x-oss-request-id": request_id}
        reply.headers = {**common, "x-oss-server-time": "5", **reply.headers}
        return reply


def _is_process(request: WireRequest) -> bool:
    return request.method == "GET" and any(name == "x-oss-process" for name, _ in pairs(request.query))


def _request_id() -> str:
    return secrets.token_hex(12).upper()


def _handlers(
    cloud: Cloud, store: ObjectStore, options: OssOptions
) -> Mapping[str, Callable[[OssCall], Awaitable[WireReply]]]:
    reading, writing, listing = Reading(store), Writing(store), Listing(store)
    buckets, multipart = Buckets(store, options), Multipart(store)
    return {
        "Process": Processing(cloud, store, options).process,
        "GetObject": reading.get,
        "HeadObject": reading.head,
        "GetObjectMeta": reading.meta,
        "GetObjectAcl": reading.acl,
        "PutObject": writing.put,
        "CopyObject": writing.copy,
        "AppendObject": writing.append,
        "DeleteObject": writing.delete,
        "PostObject": FormUpload(store).post,
        "ListObjects": listing.objects,
        "ListObjectsV2": listing.objects_v2,
        "InitiateMultipartUpload": multipart.initiate,
        "UploadPart": multipart.part,
        "UploadPartCopy": multipart.part_by_copy,
        "CompleteMultipartUpload": multipart.complete,
        "AbortMultipartUpload": multipart.abort,
        "ListParts": multipart.parts,
        "ListMultipartUploads": multipart.uploads,
        "ListBuckets": buckets.all,
        "PutBucket": buckets.create,
        "DeleteBucket": buckets.remove,
        "HeadBucket": buckets.head,
        "GetBucketInfo": buckets.info,
        "GetBucketLocation": buckets.location,
        "GetBucketAcl": buckets.acl,
        "GetBucketStat": buckets.stat,
        "DeleteMultipleObjects": buckets.delete_objects,
    }
