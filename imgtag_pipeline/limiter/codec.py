"""A window as bytes, and back. A checksum in front tells damage and other formats."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import msgspec

from imgtag_pipeline.limiter.adaptive_rate import AdaptiveRate
from imgtag_pipeline.limiter.window import Place, SlidingWindow

_FRAME = struct.Struct("<4sII")
_MAGIC = b"itq2"
_PLACE = struct.Struct("<q?dd")
PLACE_BYTES = _PLACE.size


class Head(msgspec.Struct, array_like=True):
    """All of a window but its calls; `log` says where the record keeps those."""

    epoch: str
    level: AdaptiveRate
    tickets: int
    paced: float
    paused_until: float
    blocked_until: float
    touched: float
    log: tuple[int, int, int, int]
    places: bytes


_DECODER = msgspec.msgpack.Decoder(Head)
_ENCODER = msgspec.msgpack.Encoder()


def pack(
    book: SlidingWindow, epoch: str, *, log: tuple[int, int, int, int] = (0, 0, 0, 0), places: bytes = b""
) -> bytes:
    """The window as bytes; `epoch` names the clock of its times."""
    head = Head(
        epoch, book.level, book.tickets, book.paced, book.paused_until, book.blocked_until, book.touched, log, places
    )
    body = _ENCODER.encode(head)
    return _FRAME.pack(_MAGIC, len(body), zlib.crc32(body)) + body


def unpack(data: bytes) -> Head | None:
    """What `pack` was given; None when it is damaged or of another format."""
    try:
        magic, size, checksum = _FRAME.unpack_from(data)
        body = data[_FRAME.size : _FRAME.size + size]
        if magic != _MAGIC or len(body) != size or zlib.crc32(body) != checksum:
            return None
        return _DECODER.decode(body)
    except (struct.error, msgspec.DecodeError):
        return None


def restore(book: SlidingWindow, head: Head) -> None:
    """Put the head's words into the book; its places are entered by themselves."""
    book.level, book.tickets, book.touched = head.level, head.tickets, head.touched
    book.paced, book.paused_until, book.blocked_until = head.paced, head.paused_until, head.blocked_until


def pack_whole(book: SlidingWindow, epoch: str) -> bytes:
    """The book with its places as bytes."""
    return pack(book, epoch, places=pack_places(book.places()))


def pack_places(places: Iterable[tuple[int, Place | None]]) -> bytes:
    """What calls hold, as bytes."""
    pack_one = _PLACE.pack
    return b"".join(
        pack_one(ticket, place.is_refused, place.end, place.soon) if place else pack_one(ticket, False, 0.0, 0.0)
        for ticket, place in places
    )


def enter_places(book: SlidingWindow, data: bytes) -> None:
    """Enter what `pack_places` was given; the newest word on a call counts."""
    newest: dict[int, Place | None] = {}
    for ticket, is_refused, end, soon in _PLACE.iter_unpack(data):
        newest[ticket] = Place(end, soon, is_refused) if end else None
    for ticket, place in newest.items():
        book.enter(ticket, place)


def unpack_whole(data: bytes, epoch: str, told: float) -> SlidingWindow | None:
    """What `pack_whole` was given; None when it is damaged or of another format."""
    head = unpack(data)
    if head is None or head.epoch != epoch or len(head.places) % PLACE_BYTES:
        return None
    book = SlidingWindow(told, head.touched)
    enter_places(book, head.places)
    restore(book, head)
    return book


def unknown(told: float, now: float) -> SlidingWindow:
    """A book to go on with when the last one is lost: every place may have been used just now."""
    book = SlidingWindow(told, now)
    book.block_unknown(now)
    return book
