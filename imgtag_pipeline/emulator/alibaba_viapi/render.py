"""How VIAPI prints a body: JSON with lists, JSON as its manual prints it (lists of one collapsed), or XML."""

from __future__ import annotations

import re
from typing import Any, Final
from xml.sax.saxutils import escape

import msgspec

JSON_TYPE: Final = "application/json;charset=utf-8"
XML_TYPE: Final = "text/xml;charset=utf-8"
_WHOLE: Final = re.compile(r"-?\d{1,15}")
_DECIMAL: Final = re.compile(r"-?\d+\.\d+")
_encode = msgspec.json.Encoder().encode


def as_json(body: Any) -> bytes:
    """The body as JSON, Chinese not escaped."""
    return _encode(body)


def as_xml(root: str, body: Any) -> bytes:
    """The body as XML: lists are repeated elements, everything is text."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{_element(root, body)}\n'.encode()


def collapsed(body: Any, name: str = "") -> Any:
    """The body as the manual prints it: a list of one is its item, text that looks like a number or boolean is one.

    A name is never collapsed into a number, nor are the ids.
    """
    if isinstance(body, dict):
        return {key: collapsed(value, key) for key, value in body.items()}
    if isinstance(body, list):
        items = [collapsed(value, name) for value in body]
        return items[0] if len(items) == 1 else items
    if isinstance(body, str) and name in ("Color", "Calorie", "Score", "Pass"):
        return _guess(body)
    return body


def _guess(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _element(name: str, value: Any) -> str:
    if isinstance(value, list):
        return "".join(_element(name, item) for item in value)
    if isinstance(value, dict):
        inner = "".join(_element(key, item) for key, item in value.items())
    elif isinstance(value, bool):
        inner = str(value).lower()
    else:
        inner = "" if value is None else escape(str(value))
    return f"<{name}>{inner}</{name}>"
