"""The key of an image reference: what decides whether two references are the same image."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import Final
from urllib.parse import quote, unquote, unquote_to_bytes

from imgtag_pipeline.urls.signatures import unsigned_url
from imgtag_pipeline.urls.syntax import normal_url

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")
_PLAIN_OBJECT: Final = re.compile(
    r"https?://([a-z0-9-]+)\.oss-[a-z0-9-]+\.aliyuncs\.com/([A-Za-z0-9_~][A-Za-z0-9._~/-]*)"
)
_OBJECT: Final = re.compile(
    r"https?://(?:([a-z0-9-]+)\.)?oss-[a-z0-9-]+?(?:-internal)?\.aliyuncs\.com/([^?]*)(?:\?versionId=([^&]+))?"
)
_BUCKET: Final = re.compile("[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_FACTS: Final = re.compile(r"\?size=[0-9]+&mtime=([0-9]+)\Z")
_DATA_KEY: Final = re.compile("data:;sha256,[0-9a-f]{64}")
_DRIVE: Final = re.compile("/[A-Za-z](:|%3[Aa])")
_PATH_SAFE: Final = "/!$&'()*+,;=:@~"


def image_key(reference: str) -> str:
    """The image's key: references that lead to the same request, object or file have one key.

    http(s): the URL in its normal spelling, without its signature; an object of OSS by bucket, name and version
    (`oss://bucket/key[?versionId=...]`), whatever host it is named by, but with its own URL where it is processed. A
    file of this machine: its absolute path with its size and time of change, so that a replaced file is another
    image. data: a digest.
    """
    if reference[:4].lower() == "http":
        return _web_key(reference)
    if reference[:5].lower() == "data:":
        whole = "data:" + reference[5:]
        if _DATA_KEY.fullmatch(whole):
            return whole
        return "data:;sha256," + hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()
    path = local_path_of(reference)
    if path is not None:
        return _file_key(reference, path)
    found = _SCHEME.match(reference)
    if found is None:
        return reference
    return unsigned_url(found[1].lower() + reference[found.end(1) :])


def _web_key(reference: str) -> str:
    plain = _PLAIN_OBJECT.fullmatch(reference)
    if plain and "/." not in plain[2] and "//" not in plain[2] and _BUCKET.fullmatch(plain[1]):
        return f"oss://{plain[1]}/{plain[2]}"
    url = normal_url(reference)
    if "?" in url or "@" in url:
        shorter = unsigned_url(url)
        url = shorter if shorter == url else normal_url(shorter)
    if ".aliyuncs.com/" in url:
        found = _OBJECT.fullmatch(url)
        if found is not None:
            return _object_key(found) or url
    return url


def _object_key(found: re.Match[str]) -> str | None:
    try:
        path = unquote(found[2], errors="strict")
        version = unquote(found[3], errors="strict") if found[3] else None
    except UnicodeDecodeError:
        return None
    bucket, name = (found[1], path) if found[1] else path.partition("/")[::2]
    if not _BUCKET.fullmatch(bucket) or not name or name[0] in "/\\" or "?versionId=" in name:
        return None
    return oss_object_key(bucket, name, version)


def oss_object_key(bucket: str, name: str, version: str | None = None) -> str:
    """The key of an object of OSS; `name` is not escaped. A name that looks like a signed URL keeps no signature."""
    key = f"oss://{bucket}/{name}" + (f"?versionId={version}" if version else "")
    return unsigned_url(key) if "?" in name else key


def local_path_of(reference: str, *, is_windows: bool = os.name == "nt") -> str | None:
    """The path on this machine that the reference means, `~` expanded; None where it means something else.

    Read are plain paths, file:/p, file:///p and file://localhost/p; `?` and `#` are part of the name, as in a shell.
    """
    if reference[:6].lower() == "file:/":
        rest = reference[5:]
        if rest.startswith("//"):
            host, slash, path = rest[2:].partition("/")
            if host.lower() not in ("", "localhost") or "::" in host:
                return None
            rest = slash + path
        if is_windows and _DRIVE.match(rest):  # file:///C:/a.png
            rest = rest[1:]
        return os.fsdecode(unquote_to_bytes(rest.encode("utf-8", "surrogatepass")))
    if _SCHEME.match(reference) or reference[:5].lower() == "data:":
        return None
    if reference.startswith("~"):
        try:
            return reference if os.path.lexists(reference) else os.path.expanduser(reference)
        except (UnicodeError, ValueError):  # half a character, a NUL: no file has such a name
            return reference
    return reference


def _file_key(reference: str, path: str) -> str:
    facts = ""
    try:
        path = os.path.abspath(path)
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode):
            facts = f"?size={found.st_size}&mtime={found.st_mtime_ns}"
    except (OSError, ValueError):  # not there, or no name that a file can have
        if reference.startswith("file:") and _FACTS.search(reference):
            return reference  # a key already
        plain = unsigned_url(reference) if reference[:5].lower() == "file:" else reference
        if plain != reference:
            return image_key(plain)
    path = path.replace(os.sep, "/")
    slash = "" if path.startswith("/") else "/"
    return f"file://{slash}{quote(_path_bytes(path), safe=_PATH_SAFE)}{facts}"


def _path_bytes(path: str) -> bytes:
    try:
        return os.fsencode(path)
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogatepass")


def file_changed_at(key: str) -> int | None:
    """When the local file of this key was changed, in microseconds since 1970; None where the key names no file."""
    found = _FACTS.search(key) if key.startswith("file:") else None
    return None if found is None else int(found[1]) // 1000
