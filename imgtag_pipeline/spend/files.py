"""A book of calls in a small locked file of the store's folder, for all processes of this host.

A change is handed to the system before the visit ends, so a kill loses nothing. It is synced in groups: a power cut
loses at most the last tenth of a second, and a sync that fails closes the book for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from imgtag_pipeline.core.shielded import shielded
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.spend import two_copy_file as slots
from imgtag_pipeline.spend.locks import locked, try_lock
from imgtag_pipeline.spend.state import PLACE_SECONDS, State
from imgtag_pipeline.spend.two_copy_file import Disk

T = TypeVar("T")
SUFFIX: Final = ".book"
_SIGN: Final = ".alive"
_SYNC_AFTER: Final = 0.1  # seconds for which changes wait for others to be synced with


class FileRecord:
    """The book in the file `folder/name.book`, made at the first visit."""

    beat = None

    def __init__(self, folder: Path, name: str, *, key: str = "", address: str = "", disk: Disk | None = None) -> None:
        self.path = folder / f"{name}{SUFFIX}"
        self.where = str(self.path)
        self._key, self._address = key, address
        self._disk = disk or Disk()
        self._mutex = threading.Lock()
        self._handle: int | None = None
        self._written: slots.Slot | None = None
        self._alive: dict[str, int] = {}
        self._is_dirty = False
        self._broken: str | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def update(self, change: Callable[[State], T]) -> T:
        """In the loop where the file is free, which takes microseconds; in a thread where it has to be waited for."""
        try:
            result = await self._visited(change)
        except OSError as error:
            raise self._unwritten(error.strerror or str(error)) from None
        if self._is_dirty and (self._syncing is None or self._syncing.done()):
            self._syncing = asyncio.create_task(self._sync_soon(), name="imgtag-caps-sync")
        return result

    async def _visited(self, change: Callable[[State], T]) -> T:
        if self._handle is not None and self._mutex.acquire(blocking=False):
            try:
                with try_lock(self._handle) as is_ours:
                    if is_ours and self._is_in_place(self._handle):
                        return self._changed(self._handle, change)
            finally:
                self._mutex.release()
        return await shielded(asyncio.to_thread(self._update, change))

    def _update(self, change: Callable[[State], T]) -> T:
        with self._mutex:
            while True:
                handle = self._open()
                with locked(handle):
                    if self._is_in_place(handle):
                        return self._changed(handle, change)
                os.close(handle)  # somebody has tidied the folder: the others meet in a new file
                self._handle = self._written = None

    def _is_in_place(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.where))
        except FileNotFoundError:
            return False

    def _changed(self, handle: int, change: Callable[[State], T]) -> T:
        if self._broken is not None:
            raise self._unwritten(self._broken)
        found = slots.newest(handle, self.where)
        state = State(self._key, self._address) if found is None else found.state
        if found is not None and self._written is not None and found.is_rival_of(self._written):
            state.is_lost = True  # somebody wrote in our place: the locks of this disk do not bind
        result = change(state)
        state.version += 1
        self._is_dirty = True
        self._written = slots.write(self._disk, handle, state)
        return result

    def _open(self) -> int:
        if self._handle is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            try:
                with locked(handle):
                    if slots.prepare(self._disk, handle, self.where):
                        self._disk.sync_folder(self.path.parent)
            except BaseException:
                os.close(handle)
                raise
            self._handle = handle
        return self._handle

    def _unwritten(self, reason: str) -> StoreError:
        return StoreError(
            f"the book of calls {self.path} cannot be read or written ({reason}), so caps cannot be kept and nothing "
            "is sent; make room or give access, and run again"
        )

    # --- syncing ------------------------------------------------------------------------------------------------

    async def _sync_soon(self) -> None:
        while self._is_dirty and self._broken is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _SYNC_AFTER)
            await asyncio.to_thread(self._sync)

    def _sync(self) -> None:
        """After a failure the system takes what was not written for written: the book is not used again."""
        with self._mutex:
            self._is_dirty = False
            if self._handle is None:
                return
            handle = os.dup(self._handle)
        try:
            self._disk.sync(handle)
        except OSError as error:
            self._broken = error.strerror or str(error)
        finally:
            os.close(handle)

    async def close(self) -> None:
        """Sync and close."""
        await shielded(self._close())

    async def _close(self) -> None:
        self._hurry.set()
        if self._syncing is not None:
            await asyncio.wait({self._syncing})
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
            if self._broken is not None:
                raise self._unwritten(self._broken)

    # --- who is alive -------------------------------------------------------------------------------------------

    def now(self, here: float) -> float:
        """All who share it are on this host."""
        return here

    def announce(self, token: str) -> None:
        """A file that is locked for as long as this process lives."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._sweep()
        handle = os.open(self._sign(token), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with try_lock(handle, keep=True) as is_ours:
                if not is_ours:
                    raise OSError(0, "its lock is held by another process")
        except OSError:
            os.close(handle)
            raise
        self._alive[token] = handle

    def withdraw(self, token: str) -> None:
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
        return token in self._alive or _is_locked(self._sign(token))

    def _sign(self, token: str) -> Path:
        return self.path.with_name(f"{self.path.stem}-{token}{_SIGN}")

    def _sweep(self) -> None:
        """Remove the signs of processes that died so long ago that their places are gone."""
        for path in self.path.parent.glob(f"{self.path.stem}-*{_SIGN}"):
            try:
                if time.time() - path.stat().st_mtime > 2 * PLACE_SECONDS and not _is_locked(path):
                    path.unlink(missing_ok=True)
            except OSError:
                continue


def _is_locked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        with try_lock(handle) as is_free:
            return not is_free
    finally:
        os.close(handle)


def read_book(path: Path) -> State | None:
    """What the book says now; None for one that nobody has written yet. Changes nothing."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        found = slots.glimpse(handle, str(path))
        return None if found is None else found.state
    finally:
        os.close(handle)
