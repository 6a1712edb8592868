"""Reads vendors' bodies: tolerant of how a value is spelled, strict about what it may mean.

JSON is decoded by msgspec into a typed envelope, XML (told by the body's first character) into the same. Lists of one
may come as an object, numbers as text and text as numbers; what cannot be understood is a `Malformed`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from xml.etree import ElementTree

import msgspec

from imgtag_pipeline.model import Box, Kind, Tag
from imgtag_pipeline.urls import redact

Row = Mapping[str, Any]
Envelope = TypeVar("Envelope", bound=msgspec.Struct)

MAX_DEPTH: Final = 40
ROUNDING: Final = 1e-6
_NUMBER: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_XML_SPACE: Final = re.compile(r"^\{[^}]*\}")


class Malformed(ValueError):
    """A body that is not what the vendor documents; says what, in our words, without the body's text."""


class Literal(float):
    """A number with a fraction or an exponent that remembers how it was written (`5E0014` may be a colour)."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Literal:
        """From the text of the number."""
        number = super().__new__(cls, text)
        number.text = text
        return number


# --- bodies -----------------------------------------------------------------------------------------------------


def decode(body: bytes, envelope: type[Envelope]) -> Envelope:
    """The body, JSON or XML whatever was asked for, as the envelope. Raises `Malformed`."""
    text = body.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        raise Malformed("the body is empty")
    try:
        if text[:1] == b"<":
            return msgspec.convert(_xml(text), envelope, strict=False)
        return _decoder(envelope).decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise Malformed(f"the body is neither JSON nor XML of the documented form ({type(error).__name__})") from None


_DECODERS: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {}


def _decoder(envelope: type[Envelope]) -> msgspec.json.Decoder[Envelope]:
    decoder = _DECODERS.get(envelope)
    if decoder is None:
        decoder = _DECODERS[envelope] = msgspec.json.Decoder(envelope, strict=False, float_hook=Literal)
    return decoder


def loads(text: str) -> Any:
    """JSON inside JSON, with numbers that remember their spelling. Raises `Malformed`."""
    try:
        return _ANY.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise Malformed(f"a text that should be JSON is not ({type(error).__name__})") from None


_ANY: Final = msgspec.json.Decoder(Any, float_hook=Literal)


def _xml(text: bytes) -> Any:
    if b"<!" in text[:4096] and (b"<!DOCTYPE" in text or b"<!doctype" in text or b"<!ENTITY" in text):
        raise Malformed("the body is a document with a DOCTYPE, not an answer of the API")
    parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314 (no DOCTYPE, so no entities); not the declared one
    root = ElementTree.fromstring(text, parser)  # noqa: S314
    if root.tag.lower() == "html":
        raise Malformed("the body is an HTML page, not an answer of the API")
    return _element(root, 0)


def _element(element: ElementTree.Element, depth: int) -> Any:
    """Children by name; a repeated name is a list; a leaf is its text."""
    if depth > MAX_DEPTH:
        raise Malformed("the body is nested too deeply")
    if len(element) == 0:
        return (element.text or "").strip()
    fields: dict[str, Any] = {}
    repeated: set[str] = set()
    for child in element:
        name, value = _XML_SPACE.sub("", str(child.tag)), _element(child, depth + 1)
        if name in repeated:
            fields[name].append(value)
        elif name in fields:
            fields[name] = [fields[name], value]
            repeated.add(name)
        else:
            fields[name] = value
    return fields


# --- values -----------------------------------------------------------------------------------------------------


def is_blank(value: Any) -> bool:
    """Null, empty text, an empty list and an empty object all say: nothing."""
    return value is None or (isinstance(value, (str, list, dict)) and not value)


def rows(value: Any) -> list[Any]:
    """A list whatever its form: one object for a list of one, nothing for an empty one; blanks are dropped."""
    if isinstance(value, list):
        return [item for item in value if not is_blank(item)]
    return [] if is_blank(value) else [value]


def objects(value: Any) -> list[Row]:
    """The objects of a list; anything else in it is passed over."""
    return [item for item in rows(value) if isinstance(item, dict)]


def flat(value: Any, depth: int = 0) -> Iterator[Any]:
    """The items of lists in lists, nulls dropped."""
    if depth > MAX_DEPTH:
        raise Malformed("a list is nested too deeply")
    if isinstance(value, list):
        for item in value:
            yield from flat(item, depth + 1)
    elif not is_blank(value):
        yield value


def row(value: Any) -> Row:
    """An object; anything else is malformed."""
    if not isinstance(value, dict):
        raise Malformed(f"an object was expected, but {type(value).__name__} came")
    return value


def text(value: Any) -> str | None:
    """Text, stripped and in NFC; numbers and booleans as they were written; None for nothing."""
    if value is None:
        return None
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value).strip() or None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Literal):
        return value.text
    if isinstance(value, (int, float)):
        return repr(value)
    raise Malformed(f"a text was expected, but {type(value).__name__} came")


def number(value: Any) -> float | None:
    """A number, also when written as text; None for what is none: a boolean, NaN, infinity, a word."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.strip()
        if not _NUMBER.fullmatch(value):
            return None
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number, also when written as text or as `1.0`; else None."""
    found = number(value)
    return int(found) if found is not None and found == int(found) else None


def confidence(value: Any, scale: float) -> float | None:
    """The vendor's number as 0..1 by its documented scale; a value outside it is malformed, rounding noise is not."""
    raw = number(value)
    if raw is None:
        return None
    found = raw / scale
    if -ROUNDING <= found <= 1 + ROUNDING:
        return min(max(found, 0.0), 1.0)
    raise Malformed(f"a confidence of {raw:g} is outside of 0 to {scale:g}")


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON-ready data that holds no signed URL, whatever a vendor sent."""
    if depth > MAX_DEPTH:
        raise Malformed("a field is nested too deeply")
    if isinstance(value, Literal):
        return float(value) if math.isfinite(value) else value.text
    if isinstance(value, str):
        return redact(value) if "://" in value else value
    if isinstance(value, list):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {str(name): plain(item, depth + 1) for name, item in value.items()}
    return value


def box(values: list[Any]) -> Box | None:
    """A box from x, y, width, height; None where a number is missing or makes no rectangle."""
    numbers = [number(value) for value in values]
    x, y, width, height = numbers if len(numbers) == 4 else (None,) * 4
    if x is None or y is None or width is None or height is None or width < 0 or height < 0:
        return None
    return Box(x, y, width, height)


def box_of_corners(x1: Any, y1: Any, x2: Any, y2: Any) -> Box | None:
    """A box from two corners."""
    left, top, right, bottom = (number(value) for value in (x1, y1, x2, y2))
    if left is None or top is None or right is None or bottom is None:
        return None
    return box([left, top, right - left, bottom - top])


# --- tags -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a vendor writes what a tag has. Several names are spellings of one thing; the first that is there counts.

    `scale` is what the vendor's confidence is divided by. Fields that are not named here go to `extra`.
    """

    name: tuple[str, ...]
    kind: Kind = "label"
    confidence: tuple[str, ...] = ()
    scale: float = 1.0
    measure: tuple[str, ...] = ()
    level: tuple[str, ...] = ()
    parent: tuple[str, ...] = ()
    tag_id: tuple[str, ...] = ()
    language: tuple[str, ...] = ()
    spoken: str | None = None
    box: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    known: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        # A measure stays in `extra` as well, with all its digits.
        single = (self.name, self.confidence, self.level, self.parent, self.tag_id, self.language)
        known = frozenset(name for names in (*single, self.box, self.ignored) for name in names)
        object.__setattr__(self, "known", known)


def pick(item: Row, names: tuple[str, ...]) -> Any:
    """The first of these fields that holds something."""
    for name in names:
        if not is_blank(value := item.get(name)):
            return value
    return None


def named(value: Any, columns: Columns) -> list[Row]:
    """The objects of a list that have a name for a tag.

    What else a vendor puts into a list (numbers, texts, objects without a name) is passed over: an answer that is
    understood and names nothing is empty, not broken.
    """
    return [item for item in objects(value) if is_named(item, columns)]


def is_named(item: Row, columns: Columns) -> bool:
    """Whether an object names a tag."""
    name = pick(item, columns.name)
    return not isinstance(name, (list, dict)) and text(name) is not None


def tag(item: Any, columns: Columns, shared: Row | None = None) -> Tag:
    """One tag from one object of the vendor's; `shared` are fields of the whole answer that go to `extra`."""
    fields = row(item)
    name = text(pick(fields, columns.name))
    if name is None:
        raise Malformed(f"an item has no {' or '.join(columns.name)}")
    raw = number(pick(fields, columns.confidence))
    level = whole(pick(fields, columns.level))
    extra = {name: plain(value) for name, value in fields.items() if name not in columns.known}
    return Tag(
        name,
        columns.kind,
        confidence=confidence(raw, columns.scale),
        confidence_raw=raw,
        level=level if level is not None and 0 <= level < 1000 else None,
        parent=text(pick(fields, columns.parent)),
        tag_id=text(pick(fields, columns.tag_id)),
        language=text(pick(fields, columns.language)) or columns.spoken,
        box=box([fields.get(name) for name in columns.box]) if columns.box else None,
        measure=number(pick(fields, columns.measure)),
        extra={**shared, **extra} if shared else extra,
    )


def best_first(tags: list[Tag]) -> tuple[Tag, ...]:
    """By confidence, else by measure, else as they came; equal ones keep the vendor's order."""
    return tuple(sorted(tags, key=_weight))


def _weight(found: Tag) -> float:
    weight = found.confidence if found.confidence is not None else found.measure
    return math.inf if weight is None else -weight
