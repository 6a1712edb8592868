"""Keys as fixed-size hashes: 96 bits, so that among 10^8 keys the chance of any two alike is below 10^-12."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

import numpy as np

HASH_BYTES: Final = 12
DTYPE: Final = np.dtype([("high", "<u8"), ("low", "<u4")])


def digest(key: str) -> bytes:
    """The key's hash."""
    return blake2b(key.encode("utf-8", "replace"), digest_size=HASH_BYTES).digest()


def digests(keys: Sequence[str]) -> np.ndarray[Any, Any]:
    """The hashes of many keys, as `DTYPE`."""
    hashed = b"".join([blake2b(key.encode("utf-8", "replace"), digest_size=HASH_BYTES).digest() for key in keys])
    return np.frombuffer(hashed, dtype=DTYPE)
