"""Percent-escaping as Alibaba's signatures have it, and as a signed query is therefore written."""

from __future__ import annotations

import re
from string import ascii_letters, digits
from typing import Final

_KEPT: Final = frozenset(f"{ascii_letters}{digits}-_.~")
_TABLE: Final = {byte: chr(byte) if chr(byte) in _KEPT else f"%{byte:02X}" for byte in range(256)}
_IS_PLAIN: Final = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch


def escape(text: str, *, errors: str = "strict") -> str:
    """The text in UTF-8 with everything escaped but `A-Z a-z 0-9 - _ . ~`; blank is `%20`.

    `errors` is what `str.encode` does about a surrogate; "strict" raises a `UnicodeEncodeError`.
    """
    # Twice as fast as urllib.parse.quote, and a signed call escapes about 30 texts.
    return text if _IS_PLAIN(text) else text.encode(errors=errors).decode("latin-1").translate(_TABLE)
