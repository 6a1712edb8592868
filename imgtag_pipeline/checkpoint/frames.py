"""The journal's frames: length, sequence and CRC around a payload, and the scan that never returns a wrong one.

The magic opens with a byte that no UTF-8 text contains, and the CRC is seeded with the identity, so that neither the
text of a tag nor a frame of another store can pass for a frame of this one.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

FORMAT: Final = 1
_FAMILY: Final = b"\xffIJ"
MAGIC: Final = _FAMILY + bytes([FORMAT])
_HEAD: Final = struct.Struct("<4sBxxxIQ")  # magic, kind, length of the payload, sequence
_CRC: Final = struct.Struct("<I")
OVERHEAD: Final = _HEAD.size + _CRC.size


class Kind(IntEnum):
    """What a frame's payload is."""

    HEADER = 1  # JSON: who writes this segment
    SENT = 2  # Arrow: keys about to be sent, and when
    OUTCOME = 3  # Arrow: schema.OUTCOME
    JOB = 4  # JSON: unfinished vendor jobs
    CLEARED = 5  # JSON: keys whose sent mark no longer stands, the call having cost nothing
    LOST = 6  # Arrow: keys that a dead run had sent and that have no answer
    CLAIM = 7  # key hashes that this process is about to ask for
    RELEASE = 8  # key hashes that it will not ask for after all


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame whose CRC held."""

    kind: Kind
    sequence: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Scan:
    """What some bytes of a segment hold.

    `consumed` bytes are dealt with; `dropped` of them were no valid frame, and `missing` sequence numbers were skipped.
    """

    frames: list[Frame]
    consumed: int
    dropped: int
    missing: int


def encode(kind: Kind, sequence: int, payload: bytes, *, seed: int) -> bytes:
    """The frame's bytes; `seed` comes from the store's identity."""
    head = _HEAD.pack(MAGIC, kind, len(payload), sequence)
    return b"".join((head, _CRC.pack(_checksum(head, payload, seed)), payload))


def foreign_format(data: bytes, *, seed: int) -> int | None:
    """The format version of a segment whose first frame is sound but of another version, else None.

    Every version keeps this frame layout, so a damaged version byte does not pass for another version.
    """
    if not data.startswith(_FAMILY) or data.startswith(MAGIC) or _frame_at(data, 0, seed) is None:
        return None
    return data[len(_FAMILY)]


def scan(data: bytes, *, seed: int, after: int, is_final: bool) -> Scan:
    """All frames whose CRC holds and whose sequence is greater than `after` and rises.

    What lies between them is dropped and counted. Unless `is_final`, bytes behind the last valid frame may be a frame
    that is being written: they are left unconsumed.
    """
    frames: list[Frame] = []
    good_end = dropped = missing = 0
    head = data.find(MAGIC)
    while head >= 0:
        frame = _frame_at(data, head, seed)
        if frame is None or frame.sequence <= after:
            head = data.find(MAGIC, head + 1)
            continue
        dropped += head - good_end
        missing += frame.sequence - after - 1
        after = frame.sequence
        frames.append(frame)
        good_end = head + OVERHEAD + len(frame.payload)
        head = data.find(MAGIC, good_end)
    if is_final:
        dropped += len(data) - good_end
        good_end = len(data)
    return Scan(frames, good_end, dropped, missing)


def _frame_at(data: bytes, start: int, seed: int) -> Frame | None:
    body = start + OVERHEAD
    if body > len(data):
        return None
    _, kind, length, sequence = _HEAD.unpack_from(data, start)
    if body + length > len(data):
        return None
    payload = data[body : body + length]
    (stored,) = _CRC.unpack_from(data, start + _HEAD.size)
    if stored != _checksum(data[start : start + _HEAD.size], payload, seed):
        return None
    try:
        return Frame(Kind(kind), sequence, payload)
    except ValueError:  # a kind of a later minor version: its CRC holds, but it says nothing to us
        return None


def _checksum(head: bytes, payload: bytes, seed: int) -> int:
    return zlib.crc32(payload, zlib.crc32(head, seed))
