"""The one bridge from the async core to callers without a loop: a private thread with its own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

AHEAD = 2
PATIENCE = 2


def iterate(
    items: Callable[[], AsyncGenerator[T, None]], *, on_interrupt: Callable[[], None], ahead: int = AHEAD
) -> Generator[T, None, None]:
    """The items of an async generator that runs in a thread of its own, at most `ahead` of them read in advance.

    Works inside a running event loop, and leaves signals to the caller: the first two Ctrl-C call `on_interrupt` and
    reading goes on to the end, a third one is raised. A reader that is dropped half way closes the generator.
    """
    return _iterate(items, on_interrupt=on_interrupt, ahead=ahead)


def _iterate(
    items: Callable[[], AsyncGenerator[T, None]], *, on_interrupt: Callable[[], None], ahead: int = AHEAD
) -> Generator[T, None, None]:
    pump = _Pump(items, ahead)
    interrupts = 0
    try:
        pump.start()
        while True:
            try:
                kind, value = pump.first()
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts > PATIENCE:
                    raise
                on_interrupt()
                continue
            pump.box.popleft()
            if kind == "error":
                raise value
            if kind == "end":
                return
            pump.make_room()
            yield value
    finally:
        pump.close()


def run(job: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a coroutine that runs in a thread of its own; works inside a running event loop.

    Ctrl-C cancels the coroutine, and is raised when that has ended.
    """

    async def results() -> AsyncGenerator[T, None]:
        yield await job()

    with contextlib.closing(_iterate(results, on_interrupt=_give_up)) as one:
        return next(one)


def _give_up() -> None:
    raise KeyboardInterrupt


class _Pump:
    """The thread that pulls the generator and fills the box."""

    def __init__(self, items: Callable[[], AsyncGenerator[Any, None]], ahead: int) -> None:
        self._ahead = ahead
        self.box: deque[tuple[str, Any]] = deque()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._items = items
        self._is_started = False
        self._is_ready = threading.Event()
        self._is_done = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Semaphore | None = None

    def start(self) -> None:
        thread = threading.Thread(target=self._main, name="imgtag-core", daemon=True)
        self._is_started = True
        try:
            thread.start()
        except RuntimeError:
            self._is_started = False  # the machine gives no further thread: nothing to wait for in close()
            raise

    def first(self) -> tuple[str, Any]:
        """The oldest thing in the box, left there: an interrupt while we wait or return takes nothing out of it."""
        while not self.box:
            self._bell.get()
        return self.box[0]

    def _put(self, kind: str, value: Any = None) -> None:
        self.box.append((kind, value))
        self._bell.put(None)

    def make_room(self) -> None:
        self._from_outside(lambda: self._room.release() if self._room else None)

    def close(self) -> None:
        if self._is_started:
            self._is_ready.wait()
            self._from_outside(lambda: self._task.cancel() if self._task else None)
            self._is_done.wait()

    def _from_outside(self, action: Callable[[], Any]) -> None:
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(action)
        except RuntimeError:
            # The loop has ended between the question and the call: there is nothing left to do for it.
            return

    def _main(self) -> None:
        try:
            asyncio.run(self._pull())
        except asyncio.CancelledError:
            self._put("end")
        except BaseException as error:
            self._put("error", error)
        else:
            self._put("end")
        finally:
            self._is_ready.set()
            self._is_done.set()

    async def _pull(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._room = asyncio.Semaphore(self._ahead)
        self._is_ready.set()
        source = self._items()
        try:
            async for item in source:
                await self._room.acquire()
                self._put("item", item)
        finally:
            await source.aclose()
