"""The XML that OSS speaks: documents written from pairs, and request bodies read without trust."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, TypeAlias
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from imgtag_pipeline.emulator.gateway import Refused

Node: TypeAlias = "tuple[str, str | Sequence[Node]]"
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def document(root: str, content: str | Sequence[Node]) -> bytes:
    """An XML document; characters that XML cannot hold become U+FFFD."""
    return ('<?xml version="1.0" encoding="UTF-8"?>\n' + _element(root, content)).encode()


def _element(name: str, content: str | Sequence[Node]) -> str:
    if isinstance(content, str):
        inner = escape(_FORBIDDEN.sub("\ufffd", content))
    else:
        inner = "".join(_element(child, inside) for child, inside in content)
    return f"<{name}>{inner}</{name}>"


def parse(body: bytes) -> ElementTree.Element:
    """The root of a request's body; raises `Refused` MalformedXML, also for a document type."""
    if b"<!" in body.replace(b"<![CDATA[", b""):
        raise Refused("MalformedXML")
    try:
        root = ElementTree.fromstring(body)  # noqa: S314 - without a document type there are no entities to expand
    except ElementTree.ParseError:
        raise Refused("MalformedXML") from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
    return root
