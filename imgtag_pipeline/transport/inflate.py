"""The body of an HTTP reply, decoded by its `Content-Encoding` and never larger than the caller allows."""

from __future__ import annotations

import zlib
from typing import Final

GZIP: Final = zlib.MAX_WBITS | 16
_GZIP_MAGIC: Final = b"\x1f\x8b"
_STEP: Final = 256 << 10  # bytes made in one go, so that a bomb is noticed early


class TooLarge(Exception):
    """The body passes the cap; nothing further is decoded."""


class BadEncoding(Exception):
    """The body is not what its `Content-Encoding` says."""


class Body:
    """Takes the bytes as they arrive and holds the decoded body; the cap counts decoded bytes."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        names = [name for part in encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
        if len(names) > 1 or not set(names) <= {"gzip", "x-gzip", "deflate"}:
            raise BadEncoding(f"content encoding {encoding[:60]!r} is not gzip, deflate or identity")
        self._encoding = names[0] if names else ""
        self._decoder: zlib._Decompress | None = None
        self._is_ended = False
        self._max_bytes = max_bytes
        # Bytes that decode to nothing must not flow for ever; a stored block is a little larger than its content.
        self._raw_left = max_bytes + max_bytes // 100 + 1024
        self._decoded = bytearray()

    def feed(self, data: bytes) -> None:
        """Decode one piece; raises `TooLarge` before more than the cap is held."""
        self._raw_left -= len(data)
        if self._raw_left < 0:
            raise TooLarge
        if not self._encoding:
            self._keep(data)
            return
        try:
            self._inflate(data)
        except zlib.error:
            raise BadEncoding(f"the body is not valid {self._encoding}") from None

    def finish(self) -> bytes:
        """The whole body; raises `BadEncoding` when the compressed stream stops before its end."""
        if self._decoder is not None and not self._decoder.eof:
            raise BadEncoding(f"the {self._encoding} body stops before its end")
        return bytes(self._decoded)

    def _keep(self, data: bytes) -> None:
        if len(self._decoded) + len(data) > self._max_bytes:
            raise TooLarge
        self._decoded += data

    def _inflate(self, data: bytes) -> None:
        while data and not self._is_ended:
            if self._decoder is None:
                self._decoder = zlib.decompressobj(self._window(data))
            room = self._max_bytes - len(self._decoded)
            self._keep(self._decoder.decompress(data, min(_STEP, room + 1)))
            if not self._decoder.eof:
                data = self._decoder.unconsumed_tail
                continue
            data = self._decoder.unused_data  # a further gzip member, or padding, which everybody ignores
            if self._encoding != "deflate" and data.startswith(_GZIP_MAGIC):
                self._decoder = None
            elif data:
                self._is_ended = True

    def _window(self, data: bytes) -> int:
        if self._encoding != "deflate":
            return GZIP
        # "deflate" should carry a zlib header (RFC 9110); some servers send the bare stream.
        has_header = data[0] & 0x0F == 8 and (len(data) < 2 or (data[0] << 8 | data[1]) % 31 == 0)
        return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS
