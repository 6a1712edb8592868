"""The file operations that the tag store is built of, one method for each, so that a test can make the n-th one fail.

Relies on POSIX advisory locks (`flock`), or on byte-range locks where those are missing. A lock ends with its process.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from imgtag_pipeline.core import disk
from imgtag_pipeline.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TEMPORARY: Final = ".tmp-"
_STALE_SECONDS: Final = 86400.0
_FAR_BYTE: Final = 1 << 40  # a byte range lock is mandatory on Windows: it must lie beyond the data


class Files:
    """The operations that change something. Errors are the operating system's own (`OSError`)."""

    def create(self, path: Path) -> int:
        """A new file, opened for appending; an existing one is an error."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)

    def write(self, handle: int, data: bytes | memoryview) -> int:
        """Append; returns how many bytes were taken, which may be fewer."""
        return os.write(handle, data)

    def sync(self, handle: int) -> None:
        """Return when the data is on the disk."""
        getattr(os, "fdatasync", os.fsync)(handle)

    def make_folder(self, path: Path) -> None:
        """Make it; one that is there already is fine."""
        path.mkdir(exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Replace `target` at once."""
        os.replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove; a file that is gone already is fine."""
        path.unlink(missing_ok=True)

    def sync_folder(self, path: Path) -> None:
        """Return when the names in this folder are on the disk."""
        disk.sync_folder(path)

    def pipe_file(self, filesystem: Any, path: str, data: bytes) -> None:
        """Put one whole object."""
        filesystem.pipe_file(path, data)


def make_folders(files: Files, path: Path) -> None:
    """Make the folder and those above it that are missing, so that they outlive the machine."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folders(files, path.parent)
    files.make_folder(path)
    with suppress(PermissionError):  # a folder that others own may be written to and not read
        files.sync_folder(path.parent)


def write_all(files: Files, handle: int, data: bytes) -> None:
    """Append all of `data`, however many writes it takes."""
    rest = memoryview(data)
    while len(rest):
        taken = files.write(handle, rest)
        if taken <= 0:
            raise OSError("the disk took no bytes")
        rest = rest[taken:]


def write_whole(files: Files, target: Path, data: bytes) -> None:
    """Make `target` hold exactly `data`, or leave it untouched: written aside, synced, read back, renamed."""
    aside = target.with_name(f"{TEMPORARY}{secrets.token_hex(6)}-{target.name}")
    handle = files.create(aside)
    try:
        try:
            write_all(files, handle, data)
            files.sync(handle)
        finally:
            os.close(handle)
        if aside.read_bytes() != data:
            raise OSError(f"{target.name}: what was written reads back differently")
        files.rename(aside, target)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    files.sync_folder(target.parent)


def sweep(folder: Path) -> int:
    """Remove temporary files that nobody has touched for a day; returns how many."""
    swept = 0
    for path in folder.glob(f"{TEMPORARY}*"):
        try:
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink(missing_ok=True)
                swept += 1
        except OSError:
            continue
    return swept


def lock(handle: int, *, wait: bool) -> bool:
    """Take the file's exclusive lock; False when another process has it and `wait` is off. It ends with the handle.

    A child that is forked meanwhile does not share it, so that the lock of a dead process never outlives it.
    """
    try:
        if fcntl is not None:
            disk.keep_from_children(handle)
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return _lock_byte(handle, wait=wait)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StoreError(
            f"this folder cannot lock files ({error.strerror}); a tag store needs a local disk, or an fsspec URL"
        ) from error


def _lock_byte(handle: int, *, wait: bool) -> bool:
    import msvcrt

    locking: Any = msvcrt
    os.lseek(handle, _FAR_BYTE, os.SEEK_SET)
    while True:
        try:
            locking.locking(handle, locking.LK_NBLCK, 1)
            return True
        except OSError:
            if not wait:
                return False
            time.sleep(0.01)
