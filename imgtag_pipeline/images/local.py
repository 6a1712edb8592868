"""Images on this machine: paths, file: and data: URLs; never read past the cap, nor from what has no end."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from typing import Final
from urllib.parse import unquote_to_bytes

from imgtag_pipeline.errors import UNLESS_ALLOWED, PermanentError, RefusedHereError
from imgtag_pipeline.images.messages import not_regular, shown, too_large
from imgtag_pipeline.urls import local_path_of

READ_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


def read_data_url(url: str, max_bytes: int) -> bytes:
    """RFC 2397: data:[type][;base64],content."""
    head, comma, content = url.partition(",")
    if not comma:
        raise PermanentError(f"{shown(url)} is no data URL: it has no comma", code="NotReadable")
    if len(content) > 4 * max_bytes + 64:  # four characters for one byte are the most that either form takes
        raise too_large(url, max_bytes)
    data = unquote_to_bytes(content)
    if head.lower().endswith(";base64"):
        try:
            text = b"".join(data.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
            data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise PermanentError(f"{shown(url)} is not valid base64", code="NotReadable") from None
    if len(data) > max_bytes:
        raise too_large(url, max_bytes)
    return data


def path_of(url: str, *, is_windows: bool = os.name == "nt") -> str:
    """The path that a plain path (`~` expanded), file:/p, file:///p or file://localhost/p means."""
    path = local_path_of(url, is_windows=is_windows)
    if path is None:
        raise PermanentError(f"{shown(url)} is on another host; only file:///path is read", code="NotReadable")
    return path


def refuse_other_hosts(path: str, *, is_windows: bool = os.name == "nt") -> None:
    r"""Raise for a Windows network path such as `\\host\share\a.jpg`: the system would log in at that host."""
    start = path[:2].replace("/", "\\") if is_windows else path[:2]
    if start == "\\\\":
        raise RefusedHereError(f"{shown(path)} is on another host; {UNLESS_ALLOWED}", code="AddressNotPublic")


def read_path(path: str, max_bytes: int) -> bytes:
    """The bytes of a regular file, read no further than one byte past the cap, however it grows."""
    size = regular_size(path)
    if size > max_bytes:
        raise too_large(path, max_bytes)
    with open(os.open(path, READ_FLAGS), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise not_regular(path)
        data = bytearray()
        while piece := file.read(min(max_bytes + 1 - len(data), max(size + 1, 1 << 16))):
            data += piece
    if len(data) > max_bytes:
        raise too_large(path, max_bytes)
    return bytes(data)


def regular_size(path: str) -> int:
    """A file's size; a device or a pipe may have no end, or be changed by opening it, and is refused unopened."""
    try:
        facts = os.stat(path)
    except ValueError as error:  # a NUL or a lone surrogate: no file has such a name
        raise FileNotFoundError from error
    if not stat.S_ISREG(facts.st_mode):
        raise not_regular(path)
    return facts.st_size
