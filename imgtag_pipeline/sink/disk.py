"""Steps on a local disk that leave it whole at every moment: sync, show under a name, replace, sweep leftovers."""

from __future__ import annotations

import contextlib
import ctypes
import glob
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from imgtag_pipeline.core import disk

try:
    import fcntl
except ImportError:  # not on Windows: nothing is swept there
    fcntl = None  # type: ignore[assignment]

_STALE_AFTER: Final = 60.0
_OLD: Final = "-old"
_HERE: Final = -100  # AT_FDCWD
_RENAME_EXCHANGE: Final = 2


def sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes left: unlocked, and older than the moment between making and locking."""
    if fcntl is None:
        return
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime < _STALE_AFTER:
                continue
            handle = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(path)
            finally:
                os.close(handle)


def lock(path: Path) -> int | None:
    """Show others that this is in use; the handle to close in the end, None where the system has no such locks."""
    if fcntl is None:
        return None
    handle = os.open(path, os.O_RDONLY)
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return handle


def sync(path: Path) -> None:
    """Wait until a file, or a folder's files and names, are on the disk."""
    for file in path.iterdir() if path.is_dir() else [path]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if path.is_dir():
        sync_folder(path)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; where that fails, the rename has happened all the same."""
    with contextlib.suppress(OSError):
        disk.sync_folder(path)


def show(file: Path, target: Path, *, overwrite: bool) -> None:
    """Give the file its name, in one step; `FileExistsError` where something has it that is not to be replaced."""
    if not overwrite:
        try:
            os.link(file, target)
        except FileExistsError:
            raise
        except OSError:  # a filesystem without links
            pass
        else:
            with contextlib.suppress(OSError):  # it has its name; the other one is swept some time
                file.unlink()
            return
    os.replace(file, target)


def replace_folder(new: Path, target: Path) -> None:
    """Put the new folder in the old one's place: at one moment where the system can exchange two names."""
    old = new
    if not _exchange(new, target):
        old = new.with_name(new.name + _OLD)
        os.rename(target, old)
        os.rename(new, target)
    remove(old)


def restore(target: Path, prefix: str) -> None:
    """Give a folder its name back that a process was about to replace in two steps when it was killed in between."""
    if not os.path.lexists(target):
        for old in target.parent.glob(f"{glob.escape(prefix)}*{_OLD}"):
            with contextlib.suppress(OSError):
                os.rename(old, target)


def _exchange(one: Path, other: Path) -> bool:
    """Whether the two names were exchanged (renameat2 of Linux); else nothing has changed."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _RENAME_EXCHANGE) == 0)


def remove(path: Path) -> None:
    """Take away a file, a link, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
