"""Exclusive locks on open files, which end with the process. POSIX `flock`, byte-range locks on Windows."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any, Final

from imgtag_pipeline.core.disk import keep_from_children

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_FAR_BYTE: Final = 1 << 40  # a byte range lock is mandatory on Windows: it must lie beyond the data
_NAP: Final = 0.002


@contextlib.contextmanager
def locked(handle: int) -> Iterator[None]:
    """Hold the file's lock, after waiting for it. Blocks."""
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX)
    else:
        while not _take(handle):
            time.sleep(_NAP)
    try:
        yield
    finally:
        _free(handle)


@contextlib.contextmanager
def try_lock(handle: int, *, keep: bool = False) -> Iterator[bool]:
    """Hold the file's lock if nobody else does: then it yields True. With `keep` it is held until the file
    closes, and no forked child shares it."""
    is_ours = _take(handle)
    if is_ours and keep:
        keep_from_children(handle)
    try:
        yield is_ours
    finally:
        if is_ours and not keep:
            _free(handle)


def _take(handle: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            _bytes(handle, "LK_NBLCK")
    except (BlockingIOError, PermissionError):
        return False
    return True


def _free(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)
    else:
        _bytes(handle, "LK_UNLCK")


def _bytes(handle: int, mode: str) -> None:
    import msvcrt

    windows: Any = msvcrt
    os.lseek(handle, _FAR_BYTE, os.SEEK_SET)
    windows.locking(handle, getattr(windows, mode), 1)
