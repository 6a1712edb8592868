"""Which bucket and key a request means, in all three URL styles, and which OSS operation it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_BUCKET: Final = "[a-z0-9][a-z0-9-]{1,61}[a-z0-9]"
_VALID_BUCKET: Final = re.compile(_BUCKET)
_ENDPOINT: Final = r"oss(?:-accelerate(?:-overseas)?|-(?P<region>[a-z0-9-]+?)(?:-internal)?)\.aliyuncs\.com"
_SERVICE_HOST: Final = re.compile(_ENDPOINT)
_BUCKET_HOST: Final = re.compile(rf"(?P<bucket>{_BUCKET})\.(?:{_ENDPOINT}|localhost|127\.0\.0\.1)")
# (method, has a key, sub-resource) -> operation; the first sub-resource that the query has decides.
_OPERATIONS: Final[Mapping[tuple[str, bool, str], str]] = {
    ("GET", False, "bucketInfo"): "GetBucketInfo",
    ("GET", False, "location"): "GetBucketLocation",
    ("GET", False, "stat"): "GetBucketStat",
    ("GET", False, "acl"): "GetBucketAcl",
    ("GET", False, "uploads"): "ListMultipartUploads",
    ("GET", False, "list-type"): "ListObjectsV2",
    ("GET", False, ""): "ListObjects",
    ("HEAD", False, ""): "HeadBucket",
    ("PUT", False, ""): "PutBucket",
    ("DELETE", False, ""): "DeleteBucket",
    ("POST", False, "delete"): "DeleteMultipleObjects",
    ("POST", False, ""): "PostObject",
    ("GET", True, "x-oss-process"): "Process",
    ("GET", True, "uploadId"): "ListParts",
    ("GET", True, "acl"): "GetObjectAcl",
    ("GET", True, ""): "GetObject",
    ("HEAD", True, "objectMeta"): "GetObjectMeta",
    ("HEAD", True, ""): "HeadObject",
    ("PUT", True, "uploadId"): "UploadPart",
    ("PUT", True, ""): "PutObject",
    ("POST", True, "append"): "AppendObject",
    ("POST", True, "uploads"): "InitiateMultipartUpload",
    ("POST", True, "uploadId"): "CompleteMultipartUpload",
    ("DELETE", True, "uploadId"): "AbortMultipartUpload",
    ("DELETE", True, ""): "DeleteObject",
}
# Sub-resources that exist and are not played: without this list they would pass for the plain operation.
_NOT_PLAYED_NAMES: Final = (
    "asyncFetch callback cname comp cors encryption inventory lifecycle live logging metaQuery policy qos referer "
    "replication requestPayment restore style symlink tagging versioning versions website worm x-oss-async-process"
)
_NOT_PLAYED: Final = frozenset(_NOT_PLAYED_NAMES.split())


@dataclass(frozen=True, slots=True)
class Address:
    """What a request is about; no bucket is the service, no key the bucket. `region` only where the host says it."""

    bucket: str
    key: str
    region: str | None = None

    @property
    def reference(self) -> str:
        """The object as a reference: oss://bucket/key."""
        return f"oss://{self.bucket}/{self.key}"


def resolve(host: str, path: str, domains: Mapping[str, str]) -> Address:
    """The address behind a Host (lower case, no port) and a raw path, which is decoded once, whole; + stays +."""
    if host in domains:
        return Address(domains[host], unquote(path[1:]))
    if found := _BUCKET_HOST.fullmatch(host):
        return Address(found["bucket"], unquote(path[1:]), found["region"])
    service = _SERVICE_HOST.fullmatch(host)
    bucket, _, key = path[1:].partition("/")
    return Address(unquote(bucket), unquote(key), service["region"] if service else None)


def is_oss_host(host: str, domains: Mapping[str, str]) -> bool:
    """Whether the name alone says that this is object storage."""
    return bool(host in domains or _BUCKET_HOST.fullmatch(host) or _SERVICE_HOST.fullmatch(host))


def is_bucket_name(name: str) -> bool:
    """3 to 63 lower-case letters, digits and hyphens, which do not begin or end with a hyphen."""
    return bool(_VALID_BUCKET.fullmatch(name))


def operation(method: str, address: Address, query: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
    """The OSS operation that is asked for, None for one that the emulator does not play."""
    if not address.bucket:
        return "ListBuckets" if method == "GET" else None
    if _NOT_PLAYED.intersection(query):
        return None
    has_key = bool(address.key)
    names = [name for verb, keyed, name in _OPERATIONS if (verb, keyed) == (method, has_key) and name in query]
    found = _OPERATIONS.get((method, has_key, names[0] if names else ""))
    if "x-oss-copy-source" in headers and found in ("PutObject", "UploadPart"):
        return "CopyObject" if found == "PutObject" else "UploadPartCopy"
    return found
