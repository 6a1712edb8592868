"""The thread that owns this process's journal: it writes all that is queued at once, and then lets the callers go on.

Answers are written before they count; the disk is told to keep them in groups. After the first failure nothing is
accepted any more.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

from imgtag_pipeline.checkpoint.journal import Group, Journal
from imgtag_pipeline.checkpoint.sealer import Worker
from imgtag_pipeline.errors import ImgtagError, StoreError

_GROUP_ITEMS: Final = 4096


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When the journal is synced (seconds, 0 for every write), and how large a segment grows before it is sealed.

    Of a remote store: `parts_every` seconds between puts of answers, the bound of what the loss of this host makes the
    next one ask again; `put_every` seconds between puts of sent marks, the bound of what that one cannot list.
    """

    sync_every: float = 0.1
    seal_rows: int = 50_000
    seal_bytes: int = 32 << 20
    parts_every: float = 5.0
    put_every: float = 0.3


class Outbox(Protocol):
    """How sealed parts reach a remote store."""

    def work(self) -> Callable[[], None]:
        """Seal what is journaled; what is returned does the puts, on the sealer's thread, and does not raise."""
        ...


@dataclass(frozen=True, slots=True)
class _Item:
    add: Callable[[Group], None] | None
    call: Callable[[], Any] | None
    future: asyncio.Future[Any]


class Writer:
    """Writes a journal. Every method may be called from any event loop. `unfinished`: why the end of it failed."""

    def __init__(
        self, journal: Journal, worker: Worker, *, pace: FlushPolicy, place: str, way: Outbox | None = None
    ) -> None:
        self._journal = journal
        self._worker = worker
        self._pace = pace
        self._place = place
        self._queue: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._door = threading.Lock()  # what comes in before it is shut is answered
        self._refusal: str | None = None
        self.unfinished: Exception | None = None
        self._is_dirty = False
        self._sync_due = 0.0
        self._way = way
        self._put_due = 0.0
        self._last: Callable[[], None] = _nothing

    async def record(self, add: Callable[[Group], None]) -> None:
        """Returns when what `add` put into the group is written."""
        await self._send(add, None)

    async def run(self, call: Callable[[], Any]) -> Any:
        """What `call` returns, run on the writer's thread."""
        return await self._send(None, call)

    async def _send(self, add: Callable[[Group], None] | None, call: Callable[[], Any] | None) -> Any:
        item = _Item(add, call, asyncio.get_running_loop().create_future())
        self._put_item(item)
        return await item.future

    def _put_item(self, item: _Item | None) -> None:
        with self._door:
            if self._refusal and item is not None:
                raise StoreError(self._refusal)
            if self._thread is None:
                self._put_due = time.monotonic() + self._pace.parts_every
                self._thread = threading.Thread(target=self._work, name="imgtag-journal", daemon=True)
                self._thread.start()
            self._queue.put(item)

    def end(self, last: Callable[[], None]) -> None:
        """Write what is queued, have everything sealed, then run `last` on the sealer's thread; returns at once."""
        self._last = last
        self._put_item(None)

    async def after_sealing(self) -> None:
        """Returns when the sealer's thread has done all that it was given."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        await self.run(lambda: self._worker.submit(partial(resolve, future)))
        await future

    # --- on the thread ---

    def put(self) -> None:
        """Have what is journaled put into the remote store."""
        if self._way:
            self._worker.submit(self._way.work())

    def _work(self) -> None:
        is_open = True
        while is_open:
            items, is_open = self._next_items()
            try:
                self._handle(items)
                self._keep_pace()
            except Exception as error:  # whatever it is, callers must not wait for a dead thread
                self._break(error)
                self._refuse(items)
        self._finish()

    def _finish(self) -> None:
        try:
            self._journal.finish()
        except Exception as error:  # the journal stays as it is, for a later run
            self.unfinished = None if self._refusal else error
            self._break(error)
            self._journal.abandon()
        with self._door:
            self._refusal = self._refusal or "the tag store is closed"
        self._drain()
        self._worker.submit(self._last)
        self._worker.stop()

    def _next_items(self) -> tuple[list[_Item], bool]:
        items: list[_Item] = []
        try:
            item = self._queue.get(timeout=self._patience())
            while item is not None:
                items.append(item)
                if len(items) == _GROUP_ITEMS:
                    return items, True
                item = self._queue.get_nowait()
        except Empty:
            return items, True
        return items, False

    def _patience(self) -> float | None:
        dues = [self._sync_due] if self._is_dirty else []
        if self._way and not self._refusal:
            dues.append(self._put_due)
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _handle(self, items: list[_Item]) -> None:
        if self._refusal:
            self._refuse(items)
            return
        group = Group()
        writes = [item for item in items if item.add]
        for item in writes:
            assert item.add is not None
            item.add(group)
        if writes:
            self._journal.record(group)
            self._written()
            _resolve([(item.future, None, None) for item in writes])
        for item in items:
            if item.call:
                self._call(item, item.call)

    def _call(self, item: _Item, call: Callable[[], Any]) -> None:
        try:
            _resolve([(item.future, call(), None)])
        except ImgtagError as error:
            _resolve([(item.future, None, error)])
        self._written()

    def _written(self) -> None:
        if self._pace.sync_every <= 0:
            self._journal.sync()
        elif not self._is_dirty:
            self._is_dirty = True
            self._sync_due = time.monotonic() + self._pace.sync_every

    def _keep_pace(self) -> None:
        if self._refusal:
            return
        now = time.monotonic()
        if self._is_dirty and now >= self._sync_due:
            self._journal.sync()
            self._is_dirty = False
        is_full = self._journal.rows >= self._pace.seal_rows or self._journal.size >= self._pace.seal_bytes
        if is_full and self._journal.rows:
            self._journal.rotate()
        if self._way and now >= self._put_due:
            self.put()
            self._put_due = time.monotonic() + self._pace.parts_every

    def _break(self, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        self._refusal = (
            f"the journal of the tag store cannot be written ({reason}); nothing is sent any more. What was saved "
            f"before stands in {self._place}; make room or mend the disk, and run again to continue"
        )
        self._is_dirty = False

    def _refuse(self, items: list[_Item]) -> None:
        refusal = self._refusal or "the tag store is closed"
        _resolve([(item.future, None, StoreError(refusal)) for item in items])

    def _drain(self) -> None:
        while not self._queue.empty():
            item = self._queue.get()
            if item is not None:
                self._refuse([item])


def _nothing() -> None:
    return


def resolve(future: asyncio.Future[None]) -> None:
    """Let the one who awaits it go on; from any thread."""
    _resolve([(future, None, None)])


def _resolve(answers: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any, Exception | None]]] = {}
    for answer in answers:
        by_loop.setdefault(answer[0].get_loop(), []).append(answer)
    for loop, some in by_loop.items():
        with suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(partial(_settle, some))


def _settle(answers: list[tuple[asyncio.Future[Any], Any, Exception | None]]) -> None:
    for future, value, error in answers:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
