"""A file with two copies that are written in turn, each with a number and a checksum.

A torn write leaves the previous copy intact; its writer has not yet been told that it succeeded.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from imgtag_pipeline.core import disk
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.spend.state import State

SLOT: Final = 16_384
_HEAD: Final = struct.Struct("<4sIQI")  # magic, length, number, checksum
_MAGIC: Final = b"itb1"
_GLIMPSES: Final = 5
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(State).decode


class Disk:
    """The operations that change something, one method for each. Errors are the operating system's own (`OSError`)."""

    def write(self, handle: int, data: bytes) -> int:
        """Write where the file stands; returns how many bytes were taken, which may be fewer."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Return when the data is on the disk."""
        getattr(os, "fdatasync", os.fsync)(handle)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in this folder are on the disk."""
        disk.sync_folder(path)


@dataclass(frozen=True, slots=True)
class Slot:
    """One copy that is whole."""

    number: int
    checksum: int
    state: State

    def is_rival_of(self, ours: Slot) -> bool:
        """It stands where ours stood, and is another."""
        return self.number == ours.number and self.checksum != ours.checksum


def prepare(disk: Disk, handle: int, where: str) -> bool:
    """Take a new file's room now, so that a full disk cannot stop it later; True when it was new."""
    size = os.fstat(handle).st_size
    if size >= 2 * SLOT:
        return False
    if _read(handle).strip(b"\0"):
        raise StoreError(
            f"the book of calls {where} is cut short, so what was spent is not known and nothing is sent; "
            "put it back from a copy, or remove it to count from nothing"
        )
    os.lseek(handle, 0, os.SEEK_SET)
    _write_all(disk, handle, bytes(2 * SLOT))
    return True


def newest(handle: int, where: str) -> Slot | None:
    """The slot written last, None in a book that nobody has written yet. Hold the lock."""
    data = _read(handle)
    whole = [body for start in (0, SLOT) if (body := _whole(data, start)) is not None]
    if whole:
        return _decoded(*max(whole), where)
    if data[:SLOT].strip(b"\0"):  # else the very first write, to the other slot, was torn: nothing had been counted
        raise StoreError(
            f"the book of calls {where} is damaged, so what was spent is not known and caps cannot be kept; "
            "put it back from a copy, or remove it to count from nothing"
        )
    return None


def glimpse(handle: int, where: str) -> Slot | None:
    """`newest` without the lock: both slots may be seen half written, which passes."""
    for _ in range(_GLIMPSES - 1):
        try:
            return newest(handle, where)
        except StoreError:
            continue
    return newest(handle, where)


def write(disk: Disk, handle: int, state: State) -> Slot:
    """Write the state, whose version says which slot is its own."""
    body = _encode(state)
    if len(body) > SLOT - _HEAD.size:
        raise OSError(0, "too many processes have died in it within a day")
    number = state.version
    checksum = zlib.crc32(body, number & 0xFFFFFFFF)
    os.lseek(handle, number % 2 * SLOT, os.SEEK_SET)
    _write_all(disk, handle, _HEAD.pack(_MAGIC, len(body), number, checksum) + body)
    return Slot(number, checksum, state)


def _whole(data: bytes, start: int) -> tuple[int, int, bytes] | None:
    """Number, checksum and body of a slot that is whole."""
    if len(data) < start + _HEAD.size:
        return None
    magic, length, number, checksum = _HEAD.unpack_from(data, start)
    body = data[start + _HEAD.size : start + _HEAD.size + length]
    is_whole = magic == _MAGIC and len(body) == length and zlib.crc32(body, number & 0xFFFFFFFF) == checksum
    return (number, checksum, body) if is_whole else None


def _decoded(number: int, checksum: int, body: bytes, where: str) -> Slot:
    try:
        state = _decode(body)
    except msgspec.MsgspecError:
        raise StoreError(
            f"the book of calls {where} is of another version; use the newer one, or move it away"
        ) from None
    state.version = number
    return Slot(number, checksum, state)


def _read(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 2 * SLOT)


def _write_all(disk: Disk, handle: int, data: bytes) -> None:
    while data:
        taken = disk.write(handle, data)
        if taken <= 0:
            raise OSError(0, "the disk took no bytes")
        data = data[taken:]
