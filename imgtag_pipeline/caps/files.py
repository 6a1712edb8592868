"""A book of calls in a small locked file of the store's folder, for all processes of this host.

The file has two slots that are written in turn, each with a number and a checksum, so that a torn write leaves the one
before. A kill loses nothing; a power cut at most what the last second's calls changed.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from imgtag_pipeline.caps.locks import locked, try_lock
from imgtag_pipeline.caps.state import State
from imgtag_pipeline.errors import StoreError

T = TypeVar("T")
SUFFIX: Final = ".book"
_SLOT: Final = 16_384
_HEAD: Final = struct.Struct("<4sIQI")  # magic, length, number, checksum
_MAGIC: Final = b"itb1"
_SYNC_EVERY: Final = 1.0
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(State).decode


class FileBook:
    """The book in the file `folder/name.book`, made at the first visit."""

    beat = None

    def __init__(self, folder: Path, name: str, *, key: str = "", address: str = "") -> None:
        self.path = folder / f"{name}{SUFFIX}"
        self._key, self._address = key, address
        self._mutex = threading.Lock()
        self._handle: int | None = None
        self._alive: dict[str, int] = {}
        self._synced = time.monotonic()
        self._syncing: asyncio.Future[None] | None = None

    async def visit(self, change: Callable[[State], T]) -> T:
        """In the loop where the file is free, which takes microseconds; in a thread where it has to be waited for."""
        try:
            if self._handle is not None and self._mutex.acquire(blocking=False):
                try:
                    with try_lock(self._handle) as is_ours:
                        if is_ours:
                            return self._changed(self._handle, change)
                finally:
                    self._mutex.release()
            return await asyncio.to_thread(self._visit, change)
        except OSError as error:
            raise StoreError(
                f"the book of calls {self.path} cannot be written ({error.strerror or error}), so caps cannot be kept; "
                "make room or give access, and run again"
            ) from None
        finally:
            self._sync_soon()

    def _visit(self, change: Callable[[State], T]) -> T:
        with self._mutex:
            handle = self._open()
            with locked(handle):
                return self._changed(handle, change)

    def _changed(self, handle: int, change: Callable[[State], T]) -> T:
        number, state = _newest(handle, str(self.path))
        if state is None:
            state = State(self._key, self._address)
        result = change(state)
        _write(handle, number + 1, _encode(state))
        return result

    def _open(self) -> int:
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            handle = os.open(self.path, flags, 0o666)
            try:
                with locked(handle):
                    size = os.fstat(handle).st_size
                    if 0 < size < 2 * _SLOT:
                        raise StoreError(f"{self.path} is cut short; what was spent is not known, so nothing is sent")
                    if size == 0:  # room is taken now, so that a full disk cannot stop it
                        os.write(handle, bytes(2 * _SLOT))
            except BaseException:
                os.close(handle)
                raise
            self._handle = handle
        return self._handle

    def _sync_soon(self) -> None:
        is_idle = self._syncing is None or self._syncing.done()
        if self._handle is not None and is_idle and time.monotonic() - self._synced > _SYNC_EVERY:
            self._synced = time.monotonic()
            self._syncing = asyncio.get_running_loop().run_in_executor(None, self._sync)

    def _sync(self) -> None:
        with self._mutex:
            if self._handle is not None:
                os.fsync(self._handle)

    def appear(self, token: str) -> None:
        """A file that is locked for as long as this process lives."""
        path = self._sign(token)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with try_lock(handle, keep=True):
            self._alive[token] = handle

    def vanish(self, token: str) -> None:
        """Remove the file."""
        handle = self._alive.pop(token, None)
        if handle is not None:
            os.close(handle)
        try:
            self._sign(token).unlink(missing_ok=True)
        except OSError:  # somebody is just looking at it (Windows): it stays, unlocked
            return

    def is_alive(self, token: str, seen: float) -> bool:
        """Whether somebody holds the lock of its file."""
        if token in self._alive:
            return True
        try:
            handle = os.open(self._sign(token), os.O_RDWR)
        except OSError:
            return False
        try:
            with try_lock(handle) as is_free:
                return not is_free
        finally:
            os.close(handle)

    def _sign(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{token}.alive")

    async def close(self) -> None:
        """Sync and close."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        with self._mutex:
            if self._handle is not None:
                try:
                    os.fsync(self._handle)
                finally:
                    os.close(self._handle)
                    self._handle = None


def read_book(path: Path) -> State | None:
    """What the book says now; None for one that nobody has written yet. Changes nothing."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        return _newest(handle, str(path))[1]
    finally:
        os.close(handle)


def _newest(handle: int, where: str) -> tuple[int, State | None]:
    data = _read(handle)
    found: list[tuple[int, bytes]] = []
    for start in (0, _SLOT):
        if len(data) < start + _HEAD.size:
            continue
        magic, length, number, checksum = _HEAD.unpack_from(data, start)
        body = data[start + _HEAD.size : start + _HEAD.size + length]
        if magic == _MAGIC and zlib.crc32(body, number & 0xFFFFFFFF) == checksum:
            found.append((number, body))
    if not found:
        if data.strip(b"\0"):
            raise StoreError(f"the book of calls {where} is damaged, so caps cannot be kept; move the file away")
        return 0, None
    number, body = max(found)
    try:
        return number, _decode(body)
    except msgspec.MsgspecError:
        raise StoreError(
            f"the book of calls {where} is of another version; use the newer one, or move it away"
        ) from None


def _read(handle: int) -> bytes:
    os.lseek(handle, 0, os.SEEK_SET)
    return os.read(handle, 2 * _SLOT)


def _write(handle: int, number: int, body: bytes) -> None:
    if len(body) > _SLOT - _HEAD.size:
        raise OSError("the book is full")
    os.lseek(handle, number % 2 * _SLOT, os.SEEK_SET)
    data = _HEAD.pack(_MAGIC, len(body), number, zlib.crc32(body, number & 0xFFFFFFFF)) + body
    if os.write(handle, data) != len(data):
        raise OSError("the disk took only a part")
