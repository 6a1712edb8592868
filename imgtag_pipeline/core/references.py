"""What a cell of the image column is: a reference, perhaps in quotes or with invisible characters, or none at all.

Cells that hold something else (a number, a list) travel as marked text, so that one place can say what they are.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from typing import Any, Final

from imgtag_pipeline.errors import RefusedHereError

NOT_A_REFERENCE: Final = "NotAReference"
_MARK: Final = "\ue000cell\x1f"  # a private character: no text begins with it, and no strip() takes it off
_SHOWN: Final = 60
_INVISIBLE: Final = "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00ad"
_QUOTES: Final = {'"': '"', "'": "'", "<": ">", "\u201c": "\u201d", "\u2018": "\u2019", "`": "`"}
_HOST_ALONE: Final = re.compile(r"//[^/\\\s]+\.[^/\\\s]+(/|$)")
_PNG_MODES: Final = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
# Extensions that a column's name does not have.
_PICTURE: Final = re.compile(r"(?i).+\.(jpe?g|png|gif|webp|bmp|tiff?|heic|avif)(\?.*)?$")


def cell(value: Any) -> str:
    """Marked text for a value that is no text: a list, a dictionary, a number, True."""
    return f"{_MARK}{kind_of(value)}\x1f{shown(value)}"


def shown(value: Any) -> str:
    """The value in at most 60 characters; a long one is cut."""
    text = f"{len(value):,} bytes" if isinstance(value, bytes | bytearray | memoryview) else str(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def kind_of(value: Any) -> str:
    """What the value is, in a word or two."""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "a truth value"
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(value, dict):
        return "a dictionary"
    if isinstance(value, list | tuple | set) or bool(getattr(value, "ndim", False)):
        return "a list"
    if isinstance(value, int | float | complex) or hasattr(value, "dtype"):
        return "a number"
    return f"a {type(value).__name__}"


def picture_bytes(value: Any) -> bytes | None:
    """The bytes of a cell that is a picture: bytes that are no text, a Pillow image (as PNG), a struct with `bytes`."""
    if isinstance(value, dict) and "bytes" in value and value.keys() <= {"bytes", "path"}:  # Hugging Face's Image
        value = value.get("bytes")
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value)
        return None if _is_text(data) else data
    if hasattr(value, "save") and hasattr(value, "getbands"):
        file = io.BytesIO()
        value.save(file, "PNG" if value.mode in _PNG_MODES else "TIFF")
        return file.getvalue()
    return None


def of_picture(data: bytes) -> str:
    """A reference that holds a picture's bytes itself; it is shown, and known, by their hash."""
    return "data:;base64," + base64.b64encode(data).decode("ascii")


def _is_text(data: bytes) -> bool:
    if b"\0" in data[:4096]:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def is_cell(reference: str) -> bool:
    """Whether this is marked text."""
    return reference.startswith(_MARK)


def plain(reference: str) -> str:
    """The reference as people see it: marked text without its mark."""
    return reference.rpartition("\x1f")[2] if is_cell(reference) else reference


def clean(text: str) -> str:
    """The reference without blanks, byte order marks and zero-width characters around it, and without quotes."""
    while True:
        text = text.strip().strip(_INVISIBLE).strip()
        if len(text) < 2 or _QUOTES.get(text[0]) != text[-1]:
            return text
        text = text[1:-1]


def problem(reference: str) -> RefusedHereError | None:
    """Why this cannot be the reference of any image; None where it can. Nothing is opened."""
    if is_cell(reference):
        _, kind, value = reference.rsplit("\x1f", 2)
        return RefusedHereError(
            f"the cell holds {kind} ({value}), not an image reference; give a URL or a path as text",
            code=NOT_A_REFERENCE,
        )
    if _HOST_ALONE.match(reference):
        return RefusedHereError(
            f"{reference[:_SHOWN]!r} has no scheme; give https:{reference[:_SHOWN]} if that is meant, "
            "or a path that begins with one slash",
            code=NOT_A_REFERENCE,
        )
    return None


def looks_like_one(name: str) -> bool:
    """Whether a text is more likely an image's reference than the name of a column."""
    name = clean(name)
    return "://" in name or _PICTURE.fullmatch(name) is not None or (name.startswith("data:") and "," in name)


def is_lists(values: Sequence[Any]) -> bool:
    """Whether a column's first values are all lists."""
    return bool(values) and all(kind_of(value) == "a list" for value in values)
