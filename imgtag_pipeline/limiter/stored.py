"""A book as bytes, and back: a checksum in front, so that what a dying process left half written is noticed."""

from __future__ import annotations

import struct
import zlib

import msgspec
import numpy as np

from imgtag_pipeline.limiter.book import Book
from imgtag_pipeline.limiter.level import Level

FORGET = 60.0  # seconds without a visit after which what throttled answers taught is forgotten
_HEAD = struct.Struct("<4sII")
_MAGIC = b"itq1"


class _Stored(msgspec.Struct, array_like=True):
    epoch: str
    level: Level
    tickets: int
    paced: float
    paused_until: float
    touched: float
    free: bytes
    soon: bytes
    ticket: bytes


_DECODER = msgspec.msgpack.Decoder(_Stored)
_ENCODER = msgspec.msgpack.Encoder()


def pack(book: Book, epoch: str) -> bytes:
    """The book as bytes; `epoch` names the clock that its times are on."""
    stored = _Stored(
        epoch,
        book.level,
        book.tickets,
        book.paced,
        book.paused_until,
        book.touched,
        book.free.tobytes(),
        book.soon.tobytes(),
        book.ticket.tobytes(),
    )
    body = _ENCODER.encode(stored)
    return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body


def unpack(data: bytes, epoch: str, now: float) -> Book | None:
    """The book of these bytes, None when they are damaged; what belongs to another epoch is long over."""
    try:
        magic, size, checksum = _HEAD.unpack_from(data)
        body = data[_HEAD.size : _HEAD.size + size]
        if magic != _MAGIC or len(body) != size or zlib.crc32(body) != checksum:
            return None
        stored = _DECODER.decode(body)
    except (struct.error, msgspec.DecodeError):
        return None
    if stored.epoch != epoch:
        return Book(stored.level.told, now)
    level = stored.level if now - stored.touched < FORGET else Level(stored.level.told)
    book = Book(level.told, now)
    book.level = level
    book.tickets, book.touched = stored.tickets, stored.touched
    book.paced, book.paused_until = stored.paced, stored.paused_until
    book.free = np.frombuffer(stored.free, dtype=np.float64).copy()
    book.soon = np.frombuffer(stored.soon, dtype=np.float64).copy()
    book.ticket = np.frombuffer(stored.ticket, dtype=np.int64).copy()
    return book


def unknown(told: float, now: float) -> Book:
    """A book to go on with when the last one is lost: every slot may have been used just now."""
    book = Book(told, now)
    book.block(now + book.level.allowed()[1])
    return book
