"""CRC-64/XZ (ECMA-182, reflected), the checksum in `x-oss-hash-crc64ecma`, fast enough for objects of many megabytes.

Words of eight bytes are folded in halves: the first half times x^(64 n) is added to the second, all words at once.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

_Words = npt.NDArray[np.uint64]
_POLYNOMIAL: Final = 0xC96C5795D7870F42
_ONES: Final = 0xFFFF_FFFF_FFFF_FFFF
_BLOCK: Final = 1 << 15  # words; a power of two, so that only powers of two of the word step are needed


def crc64(data: bytes, crc: int = 0) -> int:
    """The checksum of `data`, or of what `crc` is the checksum of followed by `data`."""
    register = crc ^ _ONES
    head = len(data) % 8
    register = _bytewise(register, data[:head])
    words = np.frombuffer(data, dtype="<u8", offset=head)
    for start in range(0, len(words), _BLOCK):
        register = _fold(register, words[start : start + _BLOCK])
    return register ^ _ONES


def _fold(register: int, block: _Words) -> int:
    size = 1 << (len(block) - 1).bit_length()
    words = np.zeros(size, dtype=np.uint64)  # zeros in front change nothing
    words[size - len(block) :] = block
    words[size - len(block)] ^= np.uint64(register)
    while size > 1:
        size //= 2
        words = _times(_tables(size), words[:size]) ^ words[size:]
    return int(_times(_tables(1), words)[0])


def _times(tables: _Words, words: _Words) -> _Words:
    digits = words.view(np.uint8).reshape(-1, 8)
    product: _Words = tables[0].take(digits[:, 0])
    for position in range(1, 8):
        product ^= tables[position].take(digits[:, position])
    return product


@cache
def _tables(words: int) -> _Words:
    """For each byte of a register its value after `words` words of zeros; `words` is a power of two."""
    if words == 1:
        columns = np.array([_bytewise(1 << bit, bytes(8)) for bit in range(64)], dtype=np.uint64)
    else:
        half = _tables(words // 2)
        columns = _times(half, _times(half, np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))))
    tables = np.zeros((8, 256), dtype=np.uint64)
    for bit in range(8):
        tables[:, 1 << bit : 2 << bit] = tables[:, : 1 << bit] ^ columns[bit::8, None]
    return tables


@cache
def _byte_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


def _bytewise(register: int, data: bytes) -> int:
    table = _byte_table()
    for byte in data:
        register = (register >> 8) ^ table[(register ^ byte) & 0xFF]
    return register
