"""The book in a small locked file: all processes of one user on one host share their quotas by themselves.

The lock is held for the microseconds of a visit and dies with its process. Times are on the system-wide monotonic
clock; the id of the boot says whether they still mean something.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from imgtag_pipeline.clock import Clock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.limiter.book import Book
from imgtag_pipeline.limiter.stored import pack, unknown, unpack

try:
    import fcntl
except ImportError:  # Windows has no such locks: each process keeps to the quota by itself
    CAN_SHARE = False
else:
    CAN_SHARE = True

T = TypeVar("T")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RETRY = 0.0005  # seconds until a taken lock is tried again
_MOST_BYTES = 16 << 20


def host_folder() -> Path:
    """Where the processes of this user on this host meet."""
    return Path(tempfile.gettempdir()) / f"imgtag-quota-{os.getuid() if hasattr(os, 'getuid') else 'all'}"


class FileShelf:
    """The book of one quota key in a folder that processes share."""

    late = 0.0
    early = 0.0
    horizon = 0.0
    patience = 0.002

    def __init__(self, folder: Path, key: str, told: float, clock: Clock) -> None:
        self._path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.quota"
        self._told = told
        self._clock = clock
        self._epoch = _boot_id()
        self._fd: int | None = None
        self._is_known = False
        _make_private(folder)
        try:
            self._open()
        except OSError as error:
            raise ConfigError(f"the quota file {self._path} cannot be opened ({error.strerror}); make its folder "
                              "writable, or set TMPDIR to one that is") from None  # fmt: skip

    async def visit(self, change: Callable[[Book, float], T]) -> T:
        """Run `change` with the file locked."""
        try:
            descriptor = await self._lock()
            try:
                return self._change(descriptor, change)
            finally:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        except OSError as error:
            reason = error.strerror or type(error).__name__
        raise StoreError(
            f"the quota file {self._path} cannot be read or written ({reason}); nothing more is sent, "
            "for the quota could be passed: make room or repair the folder, and start again"
        )

    async def close(self) -> None:
        """Close the file; it stays for the others."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    async def _lock(self) -> int:
        while True:
            descriptor = self._open() if self._fd is None else self._fd
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await self._clock.sleep(_RETRY)
                continue
            if os.fstat(descriptor).st_nlink:
                return descriptor
            os.close(descriptor)  # somebody has tidied the folder: the others meet in a new file
            self._fd = None

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        self._fd = os.open(self._path, flags, 0o600)
        return self._fd

    def _change(self, descriptor: int, change: Callable[[Book, float], T]) -> T:
        data = os.pread(descriptor, _MOST_BYTES, 0)
        now = self._clock.monotonic()
        book = unpack(data, self._epoch, now) if data else None
        if book is None:
            book = unknown(self._told, now) if data or self._is_known else Book(self._told, now)
        self._is_known = True
        result = change(book, now)
        data = pack(book, self._epoch)
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError(0, "no room left")
        return result


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.lstat().st_uid
    except OSError as error:
        raise ConfigError(
            f"the quota folder {folder} cannot be made ({error.strerror}); set TMPDIR to a writable folder"
        ) from None
    if hasattr(os, "getuid") and owner != os.getuid():
        raise ConfigError(f"the quota folder {folder} belongs to another user; set TMPDIR to a folder of your own")
