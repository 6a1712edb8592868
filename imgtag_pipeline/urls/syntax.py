"""URLs of the web in the one spelling that their request has (RFC 3986, sections 6.2.2 and 6.2.3)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

from imgtag_pipeline.urls.signatures import is_signed

_PLAIN: Final = re.compile(r"https?://[a-z0-9.-]+/[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_WEB: Final = re.compile(r"(?is)(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?\Z")
_HOST: Final = re.compile(r"(?i)^([a-z][a-z0-9+.-]*://(?:[^/?#]*@)?)([^/?#@:\[\]]+)")
_PERCENT: Final = re.compile("%(?:([0-9A-Fa-f]{2}))?")
_BARE_PERCENT: Final = re.compile("%(?![0-9A-Fa-f]{2})")
_NOT_IN_HOST: Final = re.compile(r"[\x00-\x20\x7f/?#@:\\\[\]%]")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SAFE: Final = "%!#$&'()*+,/:;=?@[]~-._"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def normal_url(url: str) -> str:
    """An http(s) URL in its normal spelling, without its fragment; any other text as it is.

    Two URLs that lead to the same request come to one text: letter case of scheme and host, the default port, escapes
    of letters that need none, `%e5` for `%E5`, raw letters for their UTF-8, dot segments, and an empty query count for
    nothing. What is different on the wire stays so: `+` and `%2B`, NFC and NFD, the order of parameters.
    """
    if _PLAIN.fullmatch(url) and "/." not in url:
        return url
    found = _WEB.match(url)
    if found is None:
        return url
    scheme, authority, path, query = found.groups()
    scheme = scheme.lower()
    path = _without_dots(_normal_escapes(path)) if path else "/"
    text = f"{scheme}://{_normal_authority(scheme, authority)}{path}"
    return f"{text}?{_normal_escapes(query)}" if query else text


def ascii_url(url: str) -> str:
    """The URL as it is sent: in ASCII, and of the web in its normal spelling.

    One that carries a signature keeps its spelling, since that may be what was signed: only what cannot be sent is
    escaped.
    """
    if url.isascii() and _PLAIN.fullmatch(url) and "/." not in url:
        return url
    if _WEB.match(url) and not is_signed(url):
        return normal_url(url)
    return escaped_url(url)


def escaped_url(url: str) -> str:
    """The URL in ASCII: the host's name in IDNA, all else escaped as UTF-8, once; `%XX` are left alone.

    A `%` that begins no escape is escaped itself. A fragment is left out, as it is never sent.
    """
    if _WEB.match(url):
        url = url.partition("#")[0]
    if not url.isascii() or "%" in url:
        url = _HOST.sub(lambda found: found[1] + _ascii_host(found[2]), url)
    return quote(_BARE_PERCENT.sub("%25", url), safe=_SAFE, errors="surrogatepass")


def _normal_escapes(text: str) -> str:
    if "%" in text:
        text = _PERCENT.sub(_normal_escape, text)
    return quote(text, safe=_SAFE, errors="surrogatepass")


def _normal_escape(found: re.Match[str]) -> str:
    digits = found[1]
    if digits is None:
        return "%25"
    letter = chr(int(digits, 16))
    return letter if letter in _UNRESERVED else f"%{digits.upper()}"


def _normal_authority(scheme: str, authority: str) -> str:
    user, at, place = authority.rpartition("@")
    host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    if not colon:
        host = place
    elif port and not (port.isascii() and port.isdigit()):
        host, colon = place, ""  # no port: left as it is, and refused where it is sent
    if colon and ":" in host and not (host.startswith("[") and host.endswith("]")):
        host, colon = place, ""  # colons that belong to no port: the same
    if not host.startswith("["):
        host = _ascii_host(host)
    number = int(port) if colon and port and len(port) < 8 else None
    tail = "" if not colon or not port or number == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{_normal_escapes(user)}{at}{_normal_escapes(host).lower()}{tail}"


def _ascii_host(host: str) -> str:
    """The host's name in lower case and IDNA; a name that was written percent-encoded is decoded before."""
    if "%" in host:
        try:
            decoded = unquote(host, errors="strict")
        except UnicodeDecodeError:
            return host
        if _NOT_IN_HOST.search(decoded):
            return host
        host = decoded
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def _without_dots(path: str) -> str:
    """RFC 3986, section 5.2.4, for a path that begins with a slash."""
    if "/." not in path:
        return path
    kept: list[str] = []
    parts = path.split("/")[1:]
    for part in parts:
        if part == "..":
            if kept:
                kept.pop()
        elif part != ".":
            kept.append(part)
    if parts[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
