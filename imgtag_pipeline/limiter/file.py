"""The window in a small locked file, shared by all processes of one user on one host.

The lock is held for the microseconds of an update and ends with its process. Times are on the system-wide monotonic
clock; the id of the boot says whether they still mean something.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.limiter.codec import PLACE_BYTES, Head, enter_places, pack, pack_places, restore, unknown, unpack
from imgtag_pipeline.limiter.window import SlidingWindow

try:
    import fcntl
except ImportError:  # Windows has no such locks: each process keeps to the quota by itself
    CAN_SHARE = False
else:
    CAN_SHARE = True

T = TypeVar("T")
_SWEPT: set[Path] = set()  # folders that this process has tidied
logger = logging.getLogger("imgtag_pipeline")

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_RETRY = 0.0005  # seconds until a taken lock is tried again
_HEAD_BYTES = 4096  # one page: written at once or not at all, also when its process is killed
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
_LEAST_LOG = 16 << 10
_MOST_LOG = 64 << 20
KEPT_SECONDS = 3 * 86_400.0  # without a visit, after which a file is swept: what it says is worth a minute


def host_folder() -> Path:
    """Where the processes of this user on this host meet."""
    return Path(tempfile.gettempdir()) / f"imgtag-quota-{os.getuid() if hasattr(os, 'getuid') else 'all'}"


def sweep(folder: Path, *, older_than: float = KEPT_SECONDS, now: float | None = None) -> int:
    """Take away the files of quotas that nobody has used for days; how many. One that is in use just now stays.

    Whoever had such a file open finds it gone at the next visit and begins a new one.
    """
    removed = 0
    before = (time.time() if now is None else now) - older_than
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            with contextlib.suppress(OSError):
                removed += _removed(path, before)
    return removed


def _removed(path: Path, before: float) -> bool:
    if path.lstat().st_mtime >= before:
        return False
    descriptor = os.open(path, _FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_mtime >= before or not _is_at(path, descriptor):
            return False
        path.unlink()
        return True
    finally:
        os.close(descriptor)


class _Log(NamedTuple):
    """The part of the file that says who holds which place: bytes `start` to `end`, begun anew `number` times."""

    number: int = 0
    start: int = _HEAD_BYTES
    end: int = _HEAD_BYTES
    checksum: int = 0


class FileRecord:
    """The window of one quota key in a folder that processes share.

    The file is a head and a log of places. A visit reads what others have added since the last one, appends its own
    changes, and then replaces the head, which makes them count: a process that dies half way has changed nothing.
    When the file is damaged, cut, of another format or taken away, it is begun anew, and nothing is sent until
    nothing that may have been sent before counts any more; one warning says so.
    """

    late = 0.0
    early = 0.0
    horizon = 0.0
    patience = 0.002

    def __init__(self, folder: Path, key: str, told: float, clock: Clock) -> None:
        """Raises `OSError` when the folder cannot be used for this."""
        self._path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.quota"
        self._told = told
        self._clock = clock
        self._epoch = _boot_id()
        self._fd: int | None = None
        self._book: SlidingWindow | None = None  # as it was after the last visit,
        self._log = _Log()  # read up to here,
        self._head = b""  # under this head
        self._was_here = False
        self._is_lost = False
        self._has_warned = False
        if folder not in _SWEPT:
            _SWEPT.add(folder)
            sweep(folder)
        descriptor = self._open()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not every file system can
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        except BlockingIOError:
            pass
        except OSError:
            os.close(descriptor)
            raise

    async def update(self, change: Callable[[SlidingWindow, float], T]) -> T:
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
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await self._clock.sleep(_RETRY)
                continue
            if _is_at(self._path, descriptor):
                return descriptor
            os.close(descriptor)  # somebody has tidied the folder: the others meet in a new file
            self._fd = None
            self._is_lost = self._was_here

    def _open(self) -> int:
        while self._fd is None:
            _make_private(self._path.parent)
            with contextlib.suppress(FileNotFoundError):
                self._fd = os.open(self._path, _FLAGS, 0o600)
                break
            self._create()
        return self._fd

    def _create(self) -> None:
        """The file appears with a book in it, or not at all: an empty one is a damaged one."""
        mine = self._path.with_suffix(f".{uuid.uuid4().hex}")
        descriptor = os.open(mine, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            book = SlidingWindow(self._told, self._clock.monotonic())
            _write_all(descriptor, pack(book, self._epoch, log=_Log()).ljust(_HEAD_BYTES, b"\0"), 0)
            with contextlib.suppress(FileExistsError):  # somebody was quicker
                os.link(mine, self._path)
        finally:
            os.close(descriptor)
            mine.unlink()

    def _change(self, descriptor: int, change: Callable[[SlidingWindow, float], T]) -> T:
        now = self._clock.monotonic()
        book = self._read(descriptor, now)
        self._book = None  # should anything go wrong now, the file is read anew
        result = change(book, now)
        self._write(descriptor, book)
        self._was_here = True
        return result

    def _read(self, descriptor: int, now: float) -> SlidingWindow:
        head = os.pread(descriptor, _HEAD_BYTES, 0)
        if self._book is not None and head == self._head:
            return self._book  # nobody else was here
        found = unpack(head)
        book = None
        if found is None:
            self._warn("is damaged or of another version")
        elif found.epoch != self._epoch and self._was_here:
            raise StoreError(
                f"the quota file {self._path} is also used by another machine; nothing more is sent, for machines "
                "cannot share by a file: give each a folder of its own, or use redis_url"
            )
        elif found.epoch == self._epoch and found.touched <= now:  # else: from before the machine was started
            book = self._follow(descriptor, found)
        if book is None:
            self._log = _Log(number=uuid.uuid4().int >> 65)
            return unknown(self._told, now)
        if self._is_lost:
            self._warn("was taken away")
            book.block_unknown(now)
            self._is_lost = False
        return book

    def _follow(self, descriptor: int, found: Head) -> SlidingWindow | None:
        """The book with what others have written since the last visit."""
        log, book = _Log(*found.log), self._book
        read = self._log
        if book is None or (read.number, read.start) != (log.number, log.start) or read.end > log.end:
            book, read = SlidingWindow(self._told, found.touched), _Log(log.number, log.start, log.start)
        size = min(log.end - read.end, _MOST_LOG)
        data = os.pread(descriptor, size, read.end) if size > 0 else b""
        if len(data) % PLACE_BYTES or zlib.crc32(data, read.checksum) != log.checksum:
            self._warn("is damaged")
            return None
        enter_places(book, data)
        restore(book, found)
        self._log = log
        return book

    def _write(self, descriptor: int, book: SlidingWindow) -> None:
        log = self._log
        added = pack_places(book.places(book.changed))
        if log.end - log.start + len(added) > max(_LEAST_LOG, 4 * PLACE_BYTES * len(book)):
            added = pack_places(book.places())  # all of it, beside the old log, which counts until the head is replaced
            start = _HEAD_BYTES if _HEAD_BYTES + len(added) <= log.start else log.end
            log = _Log(log.number + 1, start, start)
        _write_all(descriptor, added, log.end)
        log = _Log(log.number, log.start, log.end + len(added), zlib.crc32(added, log.checksum))
        head = pack(book, self._epoch, log=log).ljust(_HEAD_BYTES, b"\0")
        _write_all(descriptor, head, 0)
        book.changed.clear()
        self._book, self._log, self._head = book, log, head

    def _warn(self, problem: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            words = "event=quota_file_lost path=%s: the file that shares the quota %s; waiting a moment, then going on"
            logger.warning(words, self._path, problem)


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    if data and os.pwrite(descriptor, data, offset) != len(data):
        raise OSError(0, "no room left")


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(0, f"{folder} belongs to another user")
