"""Takes signatures out of URLs, so that an image signed anew is the same image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, unquote

from imgtag_pipeline.urls.schemes import SIGNATURE_SCHEMES, Form, Scheme

__all__ = ["SIGNATURE_SCHEMES", "is_signed", "unsigned_by_name", "unsigned_url"]

_MOST_NESTED: Final = 3
_USERINFO: Final = re.compile(r"(?i)^([a-z][a-z0-9+.-]*://)[^/?#]*@")
_NAMES_IN_FORMS: Final = frozenset(next(iter(scheme.forms)) for scheme in SIGNATURE_SCHEMES.values())
_MARKERS: Final = frozenset(scheme.markers[0] for scheme in SIGNATURE_SCHEMES.values())
_NAMES_THAT_TELL: Final = frozenset(name for scheme in SIGNATURE_SCHEMES.values() for name in scheme.tells)
_DIGEST: Final = re.compile("~[0-9a-f]{16}")
_Test = Callable[[Scheme, Sequence[str], Sequence[str]], bool]


def unsigned_url(url: str) -> str:
    """The URL without user info and without the parameters of a signature; nothing else is changed.

    The same object signed anew is the same image. Only the parameters named in `SIGNATURE_SCHEMES` go, and only where
    all that their vendor needs is there and has its form, so that `?e=5&token=IMAGE1` stays. Under names that only a
    signature has, a value of an unknown form is a secret all the same: it stays as a digest. A parameter that is a
    signed URL itself, as image proxies take it, loses its signature too.
    """
    return _unsigned(url, _MOST_NESTED, _has_form)


def unsigned_by_name(url: str) -> str:
    """The same by the names alone, whatever the values look like: for what is printed."""
    return _unsigned(url, _MOST_NESTED, _has_names)


def is_signed(url: str) -> bool:
    """Whether the URL itself carries a signature: its bytes may be what was signed."""
    query = url.partition("#")[0].partition("?")[2]
    if not query:
        return False
    pairs = query.split("&")
    return bool(_signature(pairs, [_parameter_name(pair) for pair in pairs], _has_form))


def _unsigned(url: str, levels: int, test: _Test) -> str:
    if "@" in url:
        url = _USERINFO.sub(r"\1", url)
    if "?" not in url:
        return url
    url, hash_mark, fragment = url.partition("#")
    head, mark, query = url.partition("?")
    if not mark:
        return url + hash_mark + fragment
    pairs = query.split("&")
    drop = _signature(pairs, names := [_parameter_name(pair) for pair in pairs], test)
    hide = _secrets(pairs, names) - drop if test is _has_form else drop
    kept = [
        _hidden(pair) if name in hide else pair for pair, name in zip(pairs, names, strict=True) if name not in drop
    ]
    if levels:
        kept = [_without_nested(pair, levels, test) for pair in kept]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def _parameter_name(pair: str) -> str:
    name = pair.partition("=")[0]  # "amp;": a URL that was copied out of HTML
    return (unquote(name) if "%" in name else name).lower().removeprefix("amp;")


def _signature(pairs: Sequence[str], names: Sequence[str], test: _Test) -> frozenset[str]:
    """The names of those parameters that are parts of a signature."""
    if (_NAMES_IN_FORMS | _MARKERS).isdisjoint(names):
        return frozenset()
    found: set[str] = set()
    for scheme in SIGNATURE_SCHEMES.values():
        if test(scheme, pairs, names):
            found.update(scheme.parameters)
    return frozenset(found)


def _secrets(pairs: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """The names of those parameters that can be nothing else than parts of a signature, whatever their form."""
    if _NAMES_THAT_TELL.isdisjoint(names):
        return frozenset()
    found: set[str] = set()
    for scheme in SIGNATURE_SCHEMES.values():
        if scheme.tells and all(
            name in names and _fits(form, pairs[names.index(name)]) for name, form in scheme.tells.items()
        ):
            found.update(scheme.parameters)
    return frozenset(found)


def _hidden(pair: str) -> str:
    name, _, value = pair.partition("=")
    if _DIGEST.fullmatch(value):
        return pair
    return f"{name}=~{hashlib.blake2b(value.encode('utf-8', 'surrogatepass'), digest_size=8).hexdigest()}"


def _fits(form: Form, pair: str) -> bool:
    value = pair.partition("=")[2]
    return bool(form(value) or form(unquote(value)) or form(unquote(unquote(value))))


def _has_names(scheme: Scheme, pairs: Sequence[str], names: Sequence[str]) -> bool:
    return all(name in names for name in scheme.markers)


def _has_form(scheme: Scheme, pairs: Sequence[str], names: Sequence[str]) -> bool:
    """Each part once: of two that differ, one may say which image it is."""
    if scheme.any_of and not any(name in names for name in scheme.any_of):
        return False
    for name, form in scheme.forms.items():
        if names.count(name) != 1:
            return False
        if not _fits(form, pairs[names.index(name)]):
            return False
    return True


def _without_nested(pair: str, levels: int, test: _Test) -> str:
    name, equals, value = pair.partition("=")
    if "://" not in value and "%3a%2f%2f" not in value.lower():
        return pair
    inner = unquote(value)
    plain = _unsigned(inner, levels - 1, test)
    return pair if plain == inner else name + equals + quote(plain, safe="", errors="surrogatepass")
