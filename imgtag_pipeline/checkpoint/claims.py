"""The moment of claiming: one small locked file, held while a process reads the others' claims and writes its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imgtag_pipeline.checkpoint.files import lock
from imgtag_pipeline.errors import StoreError

LOCK_NAME: Final = "claims.lock"
_PATIENCE: Final = 30.0  # a holder keeps the lock for milliseconds; one that was stopped in the middle must not stop us
_PAUSE: Final = 0.002


@contextmanager
def claims_lock(folder: Path) -> Iterator[None]:
    """Nobody else claims in this folder meanwhile; ends with the process at the latest."""
    handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        give_up = time.monotonic() + _PATIENCE
        while not lock(handle, wait=False):
            if time.monotonic() > give_up:
                raise StoreError(
                    f"another process holds {folder / LOCK_NAME} for {_PATIENCE:g} s; see whether it is stopped"
                )
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)
