"""Buckets: which there are, what one is, making and removing them, and deleting many objects at once."""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.emulator.alibaba_oss.address import is_bucket_name
from imgtag_pipeline.emulator.alibaba_oss.listing import OWNER
from imgtag_pipeline.emulator.alibaba_oss.objects import Bucket, ObjectStore, digest
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, empty_reply, iso_date, xml_reply
from imgtag_pipeline.emulator.alibaba_oss.write import check_md5
from imgtag_pipeline.emulator.alibaba_oss.xml import Node, parse
from imgtag_pipeline.emulator.gateway import Refused, WireReply

_MAX_DELETED: Final = 1000


class Buckets:
    """The operations on the service and on buckets."""

    def __init__(self, store: ObjectStore, options: OssOptions) -> None:
        self._store = store
        self._region = options.region

    async def all(self, call: OssCall) -> WireReply:
        """ListBuckets (GetService)."""
        prefix, marker = call.query.get("prefix", ""), call.query.get("marker", "")
        limit = call.number("max-keys", 100, low=1, high=1000)
        names = [each for each in self._store.buckets if each.name.startswith(prefix) and each.name > marker]
        is_truncated = len(names) > limit
        head: list[Node] = [("Prefix", prefix), ("Marker", marker), ("MaxKeys", str(limit))]
        head.append(("IsTruncated", "true" if is_truncated else "false"))
        if is_truncated:
            head.append(("NextMarker", names[limit - 1].name))
        shown: list[Node] = [("Bucket", self._facts(bucket)) for bucket in names[:limit]]
        return xml_reply("ListAllMyBucketsResult", [OWNER, *head, ("Buckets", shown)])

    async def create(self, call: OssCall) -> WireReply:
        """PutBucket; again for a bucket that is there already, as its owner may."""
        if not is_bucket_name(call.bucket):
            raise Refused("InvalidBucketName", details={"BucketName": call.bucket})
        if not self._store.has(call.bucket):
            self._store.create(call.bucket, call.now)
        return empty_reply(headers={"Location": f"/{call.bucket}"})

    async def remove(self, call: OssCall) -> WireReply:
        """DeleteBucket."""
        self._store.remove(call.bucket)
        return empty_reply(204)

    async def head(self, call: OssCall) -> WireReply:
        """HeadBucket."""
        self._store.bucket(call.bucket)
        return empty_reply(headers={"x-oss-bucket-region": f"oss-{self._region}"})

    async def info(self, call: OssCall) -> WireReply:
        """GetBucketInfo."""
        bucket = self._store.bucket(call.bucket)
        acl: Node = ("AccessControlList", [("Grant", "private")])
        more: list[Node] = [("DataRedundancyType", "LRS"), ("Comment", ""), OWNER, acl]
        return xml_reply("BucketInfo", [("Bucket", [*self._facts(bucket), *more])])

    async def location(self, call: OssCall) -> WireReply:
        """GetBucketLocation."""
        self._store.bucket(call.bucket)
        return xml_reply("LocationConstraint", f"oss-{self._region}")

    async def acl(self, call: OssCall) -> WireReply:
        """GetBucketAcl: private, always."""
        self._store.bucket(call.bucket)
        return xml_reply("AccessControlPolicy", [OWNER, ("AccessControlList", [("Grant", "private")])])

    async def stat(self, call: OssCall) -> WireReply:
        """GetBucketStat: how much is in it."""
        bucket = self._store.bucket(call.bucket)
        size = str(sum(stored.size for stored in bucket.objects.values()))
        counts = [("ObjectCount", str(len(bucket.objects))), ("MultipartUploadCount", str(len(bucket.uploads)))]
        return xml_reply("BucketStat", [("Storage", size), *counts])

    async def delete_objects(self, call: OssCall) -> WireReply:
        """DeleteMultipleObjects: up to 1,000; those that were not there count as deleted."""
        check_md5(call.headers, await digest(call.request.body))
        root = parse(call.request.body)
        keys = [node.text or "" for node in root.findall("Object/Key")]
        if root.tag != "Delete" or not 0 < len(keys) <= _MAX_DELETED or "" in keys:
            raise Refused("MalformedXML")
        bucket = self._store.bucket(call.bucket)
        for key in keys:
            self._store.delete(bucket, key)
        if (root.findtext("Quiet") or "").strip().lower() == "true":
            return empty_reply()
        return xml_reply("DeleteResult", [*call.encoding(), *(("Deleted", [("Key", call.shown(k))]) for k in keys)])

    def _facts(self, bucket: Bucket) -> list[Node]:
        return [
            ("Name", bucket.name),
            ("Location", f"oss-{self._region}"),
            ("Region", self._region),
            ("CreationDate", iso_date(bucket.created)),
            ("ExtranetEndpoint", f"oss-{self._region}.aliyuncs.com"),
            ("IntranetEndpoint", f"oss-{self._region}-internal.aliyuncs.com"),
            ("StorageClass", "Standard"),
        ]
