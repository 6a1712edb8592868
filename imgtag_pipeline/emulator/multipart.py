"""Reads a multipart form, byte for byte: the file in it may hold anything but its own boundary."""

from __future__ import annotations

import re
from typing import Final

_BOUNDARY: Final = re.compile(r'(?i)boundary=(?:"([^"]+)"|([^;,\s]+))')
_NAME: Final = re.compile(rb'(?i)^content-disposition:.*?[;\s]name=(?:"([^"]*)"|([^;\s]+))', re.MULTILINE)


def form_fields(content_type: str, body: bytes) -> dict[str, bytes] | None:
    """The parts of a form by name; None for a body that is not such a form, or not whole."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    mark = b"\r\n--" + (found[1] or found[2]).encode("latin-1", "replace")
    pieces = (b"\r\n" + body).split(mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        return None
    fields = {}
    for piece in pieces[1:-1]:
        head, blank, data = piece.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if not blank or name is None:
            return None
        fields[(name[1] or name[2] or b"").decode("utf-8", "replace")] = data
    return fields
