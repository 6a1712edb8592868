"""Finds the OSS object that a cell names: `oss://`, virtual host, custom domain, path style, presigned or not."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.urls import normal_url

_BUCKET: Final = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_HOST: Final = re.compile(
    r"(?:(?P<bucket>[a-z0-9-]+)\.)?oss-(?P<region>[a-z0-9-]+?)(?P<internal>-internal)?\.aliyuncs\.com"
)
_MAX_KEY_BYTES: Final = 1023


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects are asked for. `domain` is a custom domain that leads to `bucket`."""

    endpoint: str | None = None
    region: str | None = None
    domain: str | None = None
    bucket: str | None = None

    def __post_init__(self) -> None:
        if (self.domain is None) != (self.bucket is None):
            raise ConfigError("domain and bucket belong together: the bucket is needed to sign for a custom domain")
        if self.bucket is not None and not _BUCKET.fullmatch(self.bucket):
            raise ConfigError(f"bucket is {self.bucket!r}; allowed: 3 to 63 of a-z, 0-9 and hyphen")
        if self.domain is not None and ("/" in self.domain or not self.domain.strip()):
            raise ConfigError(f"domain is {self.domain!r}; allowed: a host name such as img.example.com")


@dataclass(frozen=True, slots=True)
class Target:
    """One object: `url` is escaped and has no query; `region` is None where nothing tells it."""

    bucket: str
    key: str
    url: str
    region: str | None
    version_id: str | None = None


def find_object(value: str, place: Place) -> Target | PermanentError:
    """The object that the cell's value names; an error for what these calls can never reach."""
    value = value.strip()
    if value[:6].lower() == "oss://":
        bucket, _, key = value[6:].partition("/")
        key, mark, version = key.rpartition("?versionId=")
        return _of_name(bucket, key, place, version) if mark else _of_name(bucket, version, place)
    try:
        parts = urlsplit(normal_url(value))
        host = (parts.hostname or "").lower()
        port = parts.port
    except ValueError:
        return PermanentError("the URL cannot be read", code="InvalidUrl")
    if parts.scheme.lower() not in ("http", "https") or not host:
        return PermanentError(
            "this call takes objects of OSS only: oss://bucket/key or the object's URL", code="UnsupportedScheme"
        )
    try:
        path = unquote(parts.path, errors="strict").removeprefix("/")
    except UnicodeDecodeError:
        return PermanentError("the object's name in the URL is not UTF-8", code="InvalidObjectName")
    authority = host if port is None else f"{host}:{port}"
    return _of_url(parts, authority, host, path, place)


def _of_url(parts: SplitResult, authority: str, host: str, path: str, place: Place) -> Target | PermanentError:
    version = dict(parse_qsl(parts.query)).get("versionId")
    own = urlsplit(place.endpoint).netloc.lower() if place.endpoint else None
    vendor = _HOST.fullmatch(host)
    if place.domain is not None and host == place.domain.lower():
        return _target(place.bucket or "", path, f"{parts.scheme.lower()}://{authority}", place.region, version)
    if own is not None and authority == own:
        bucket, _, key = path.partition("/")
        return _at_endpoint(bucket, key, place, version)
    if own is not None and authority.endswith(f".{own}"):
        return _at_endpoint(authority.removesuffix(f".{own}"), path, place, version)
    if vendor is None:
        return PermanentError(
            "the image is not an object of OSS, and this call cannot fetch other URLs; for a custom domain give "
            "domain= and bucket=",
            code="ForeignHost",
        )
    bucket, key = (vendor["bucket"], path) if vendor["bucket"] else path.partition("/")[::2]
    return _at_vendor(bucket, key, vendor, place, version)


def _at_vendor(
    bucket: str, key: str, vendor: re.Match[str], place: Place, version: str | None
) -> Target | PermanentError:
    """A vendor's host is asked itself, unless the endpoint is the same region's, or is no vendor's (an emulator)."""
    region = None if vendor["region"].startswith("accelerate") else vendor["region"]
    if place.endpoint is not None:
        own = _HOST.fullmatch(urlsplit(place.endpoint).hostname or "")
        if own is None or own["region"] == region:
            return _at_endpoint(bucket, key, place, version, region)
    host = f"{bucket}.oss-{vendor['region']}{vendor['internal'] or ''}.aliyuncs.com"
    return _target(bucket, key, f"https://{host}", region or place.region, version)


def _of_name(bucket: str, key: str, place: Place, version: str | None = None) -> Target | PermanentError:
    if place.endpoint is None and place.region is None:
        return PermanentError(
            "an oss:// reference does not say where its bucket is; give region= or endpoint=", code="NoEndpoint"
        )
    if place.endpoint is not None:
        return _at_endpoint(bucket, key, place, version)
    return _target(bucket, key, f"https://{bucket}.oss-{place.region}.aliyuncs.com", place.region, version)


def _at_endpoint(
    bucket: str, key: str, place: Place, version: str | None, region: str | None = None
) -> Target | PermanentError:
    """Path style where the endpoint is an address, else the bucket in the host."""
    parts = urlsplit(place.endpoint or "")
    own = _HOST.fullmatch(parts.hostname or "")
    found = place.region or region or (own["region"] if own else None)
    if is_path_style(parts.hostname or ""):
        return _target(bucket, key, f"{place.endpoint}/{bucket}", found, version)
    return _target(bucket, key, f"{parts.scheme}://{bucket}.{parts.netloc}", found, version)


def _target(bucket: str, key: str, base: str, region: str | None, version: str | None) -> Target | PermanentError:
    if not _BUCKET.fullmatch(bucket):
        return PermanentError("the bucket's name is not one: 3 to 63 of a-z, 0-9, hyphen", code="InvalidBucketName")
    if not key or key[0] in "/\\" or len(key.encode(errors="replace")) > _MAX_KEY_BYTES:
        return PermanentError(
            f"the object's name is empty, starts with a slash, or is over {_MAX_KEY_BYTES} bytes",
            code="InvalidObjectName",
        )
    return Target(bucket, key, f"{base}/{quote(key, safe='/-_.~', errors='replace')}", region, version)


def bucket_and_key(url: str, place: Place) -> tuple[str, str]:
    """Bucket and key of a request's URL that was made here, for its signature."""
    parts = urlsplit(url)
    path = unquote(parts.path)[1:]
    if place.domain is not None and parts.hostname == place.domain.lower():
        return place.bucket or "", path
    if is_path_style(parts.hostname or ""):
        bucket, _, key = path.partition("/")
        return bucket, key
    return (parts.hostname or "").partition(".")[0], path


def region_of(url: str, place: Place) -> str | None:
    """The region to sign for: that of the host, else the one given."""
    vendor = _HOST.fullmatch(urlsplit(url).hostname or "")
    is_named = vendor is not None and not vendor["region"].startswith("accelerate")
    return vendor["region"] if vendor is not None and is_named else place.region


def is_path_style(host: str) -> bool:
    """Whether buckets cannot be put in front of this host: it is an address, or this machine."""
    if host == "localhost":
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
