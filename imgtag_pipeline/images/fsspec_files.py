"""Images on fsspec's file systems, and which of these a row may name.

Under the guard only such file systems are opened whose host the caller configures; where a reference names the host
itself (ftp, smb, webhdfs, github, ...), a table from strangers would choose what this machine connects to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from imgtag_pipeline.errors import UNLESS_ALLOWED, PermanentError, RefusedHereError
from imgtag_pipeline.images.local import read_path, refuse_other_hosts, regular_size
from imgtag_pipeline.images.messages import shown, too_large

# Stores whose endpoint and account are options of the caller; the reference names a bucket or container on them.
_BUCKETS: Final = frozenset(("s3", "s3a", "gs", "gcs", "oss", "az", "abfs", "abfss", "tos", "hf"))
# Memory, and archives and caches around a file that the next link of the chain names.
_HOSTLESS: Final = frozenset(("zip", "tar", "simplecache", "filecache", "blockcache", "memory"))
_HERE: Final = frozenset(("file", "local"))
_WEB: Final = frozenset(("http", "https"))
# What lies behind these is not a file of this machine; of all others that is not sure (`git`, `reference`, `dvc`, ...).
_NETWORK: Final = frozenset(
    ("ftp", "sftp", "ssh", "smb", "webhdfs", "hdfs", "arrow_hdfs", "adl", "github", "gist", "jlab", "jupyter", "dbfs")
)
_ELSEWHERE: Final = _BUCKETS | _HOSTLESS | _NETWORK | _WEB
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_links(url: str, *, is_guarded: bool) -> None:
    """Raise for a chain that is never read, and under the guard for one that names a host of its own."""
    for link in url.split("::"):
        scheme, rest = _scheme(link)
        if scheme is None or scheme in _HERE:
            if is_guarded:
                refuse_other_hosts(rest)
        elif scheme.lower() in _WEB:
            raise PermanentError(
                f"{shown(url)} chains an http address; give the http or https URL by itself", code="UnsupportedScheme"
            )
        elif is_guarded:
            _refuse_host(url, scheme, rest)


def reaches_files_here(url: str) -> bool:
    """Whether a link of the chain is a path, or a file system that may lead to files of this machine."""
    schemes = [_scheme(link)[0] for link in url.split("::")]
    return any(
        scheme is None or (scheme.lower() not in _ELSEWHERE and (scheme in _HERE or _is_known(scheme)))
        for scheme in schemes
    )


def read_system(url: str, options: Mapping[str, Any], max_bytes: int, *, is_guarded: bool) -> bytes:
    """The bytes of an image, read no further than one byte past the cap."""
    check_links(url, is_guarded=is_guarded)
    links = url.split("::")
    for link in links:
        scheme, _ = _scheme(link)
        if scheme is None or scheme in _HERE:
            path = _local_path(link)
            if len(links) == 1:
                return read_path(path, max_bytes)
            regular_size(path)  # an archive that is a pipe would hold its reader for ever
    try:
        system, path = _open(url, options)
        return _read(url, system, path, max_bytes)
    except (ValueError, PermissionError) as error:
        scheme = _scheme(links[-1])[0] or ""
        if scheme not in _BUCKETS:
            raise
        what = "may not be read with" if isinstance(error, PermissionError) else "cannot be read without"
    raise RefusedHereError(
        f"{shown(url)} {what} the endpoint and keys at hand; give those of {scheme}:// in storage_options",
        code="NotReadable",
    )


def _read(url: str, system: Any, path: str, max_bytes: int) -> bytes:
    facts = system.info(path)
    if facts.get("type", "file") != "file":
        raise PermanentError(f"{shown(url)} is not a file", code="NotAFile")
    size = facts.get("size")
    if isinstance(size, int) and size > max_bytes:
        raise too_large(url, max_bytes)
    if size == 0:
        return b""  # some stores refuse a range of nothing
    if isinstance(size, int):
        data = system.cat_file(path, start=0, end=max_bytes + 1)
    else:
        with system.open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise too_large(url, max_bytes)
    return bytes(data)


def _local_path(link: str) -> str:
    from fsspec.implementations.local import LocalFileSystem

    path: str = LocalFileSystem._strip_protocol(link)
    return path


def _scheme(link: str) -> tuple[str | None, str]:
    """The file system of one link and what follows, as fsspec reads it; None for a local path."""
    scheme, mark, rest = link.partition("://")
    if mark and len(scheme) > 1:
        return scheme, rest
    if _is_known(link) or re.fullmatch("[a-z]*", link):
        return link, ""
    return None, link


def _refuse_host(url: str, scheme: str, rest: str) -> None:
    if scheme in _HOSTLESS or not _is_known(scheme):  # what nobody knows is not opened either
        return
    if scheme not in _BUCKETS:
        raise RefusedHereError(
            f"{shown(url)} is not read: with {scheme}:// a reference may name any host; {UNLESS_ALLOWED}",
            code="AddressNotPublic",
        )
    if not _BUCKET.fullmatch(rest.partition("/")[0]):
        raise RefusedHereError(
            f"{shown(url)} is not read: what follows {scheme}:// is not the plain name of a bucket; {UNLESS_ALLOWED}",
            code="AddressNotPublic",
        )


def _is_known(scheme: str) -> bool:
    from fsspec.registry import known_implementations, registry

    return scheme in registry or scheme in known_implementations


def _open(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    check_installed(url)
    system, path = url_to_fs(url, **options)
    return system, str(path)


def check_installed(url: str) -> None:
    """Raise for a chain with a scheme that is unknown, or whose package is not installed."""
    from fsspec import get_filesystem_class

    for scheme, _ in map(_scheme, url.split("::")):
        if scheme is None:
            continue
        try:
            get_filesystem_class(scheme)
        except ImportError:
            raise _missing_package(url, scheme) from None
        except ValueError:
            raise PermanentError(
                f"{shown(url)} has the unknown scheme {scheme!r}; images are read from paths, file://, data:, http(s) "
                "and the schemes of fsspec (s3, gs, oss, ...)",
                code="UnsupportedScheme",
            ) from None


def _missing_package(url: str, scheme: str) -> PermanentError:
    from fsspec.registry import known_implementations

    advice = known_implementations.get(scheme, {}).get("err") or f"install the package that provides {scheme!r}"
    return RefusedHereError(f"{shown(url)} needs a package that is not installed: {advice}", code="UnsupportedScheme")
