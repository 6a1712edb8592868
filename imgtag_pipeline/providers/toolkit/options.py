"""Checks the typed options of providers when they are built: one clear sentence for each mistake."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from imgtag_pipeline.errors import ConfigError


def one_of(name: str, value: object, allowed: Collection[str]) -> None:
    """The option is one of these words."""
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(allowed)}")


def between(name: str, value: Any, low: float, high: float, *, is_whole: bool = False) -> None:
    """The option is a number in this range, both ends included."""
    is_number = isinstance(value, int) if is_whole else isinstance(value, (int, float))
    if not is_number or isinstance(value, bool) or not low <= value <= high:
        kind = "a whole number" if is_whole else "a number"
        raise ConfigError(f"{name} is {value!r}; allowed: {kind} from {low:g} to {high:g}")


def base_url(name: str, value: str) -> str:
    """The option as `scheme://host[:port]`, as it stands in a `Host` header; https where no scheme is given."""
    given = value if "://" in value else f"https://{value}"
    try:
        parts = urlsplit(given)
        is_written_well = (parts.port is None or 0 < parts.port < 65536) and not any(c.isspace() for c in value)
    except ValueError:
        is_written_well, parts = False, urlsplit("")
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
    if not is_written_well or parts.scheme not in ("http", "https") or not parts.hostname or extra:
        raise ConfigError(f"{name} cannot be used; allowed: http(s)://host[:port], for example http://127.0.0.1:8099")
    default = {"http": 80, "https": 443}[parts.scheme]
    host = parts.netloc.lower()
    return f"{parts.scheme}://{host.removesuffix(f':{default}') if parts.port == default else host.removesuffix(':')}"


def region(name: str, value: str) -> None:
    """The option is a region's id."""
    if not isinstance(value, str) or not re.fullmatch("[a-z]{2}-[a-z0-9-]{2,40}", value):
        raise ConfigError(f"{name} is {value!r}; allowed: a region's id such as cn-shanghai")
