"""The lock of claiming: one small file, locked while a process reads the others' claims and writes its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imgtag_pipeline.checkpoint.files import lock

LOCK_NAME: Final = "claims.lock"


@contextmanager
def claims_lock(folder: Path) -> Iterator[bool]:
    """Whether nobody else claims in this folder meanwhile; does not wait. Ends with the process at the latest."""
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield lock(handle, wait=False)
    finally:
        os.close(handle)
