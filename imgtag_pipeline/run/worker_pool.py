"""The tasks of a run: who works, who waits for another process, and who has a call in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


class WorkerPool:
    """Starts the tasks of one run, stops them in order, and leaves none behind."""

    def __init__(self) -> None:
        self._workers: set[asyncio.Task[None]] = set()
        self._followers: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[Any] | None] = set()
        self._work: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._most = 0
        self._is_stopped = False

    def start(self, count: int, work: Callable[[], Coroutine[Any, Any, None]], most: int | None = None) -> None:
        """So many workers, and up to `most` by `one_more`."""
        self._work, self._most = work, count if most is None else most
        self._workers = {asyncio.create_task(work(), name="imgtag-worker") for _ in range(count)}

    def one_more(self) -> None:
        """Another worker, as one is only waiting."""
        if self._work is not None and len(self._workers) < self._most and not self._is_stopped:
            self._workers.add(asyncio.create_task(self._work(), name="imgtag-worker"))

    def follow(self, waiting: Coroutine[Any, Any, None], given_up: Callable[[], None]) -> None:
        """Add a task that waits for another process; `given_up()` runs when it ends, also if it never started."""
        task = asyncio.create_task(waiting, name="imgtag-follower")
        task.add_done_callback(lambda _: given_up())
        self._followers.add(task)

    def on_sending(self, change: int) -> None:
        """The running task has a call in flight (or an answer on its way to the journal): a stop lets it finish."""
        task = asyncio.current_task()
        if change > 0:
            self._sending.add(task)
        else:
            self._sending.discard(task)

    def leave(self) -> None:
        """Nobody waits for another process any more."""
        for follower in self._followers:
            follower.cancel()

    @property
    def is_working(self) -> bool:
        """Somebody has not finished."""
        return any(not worker.done() for worker in self._workers)

    def stop(self) -> None:
        """Cancel everybody but the running task and those with a call in flight."""
        self._is_stopped = True
        for task in self._followers | self._workers - self._sending - {asyncio.current_task()}:
            task.cancel()

    def cut(self) -> None:
        """Cancel those with a call in flight as well."""
        for worker in self._workers:
            worker.cancel()

    async def followed(self) -> None:
        """Wait until nobody waits for another process any more; raises what went wrong there."""
        await _all(self._followers)

    async def worked(self) -> None:
        """Wait until the work is done, or stopped; raises what went wrong."""
        while any(not worker.done() for worker in self._workers):  # more may be started meanwhile
            await asyncio.wait(set(self._workers))
        await _all(self._workers)

    async def end(self, feeder: asyncio.Task[None]) -> None:
        """Wait for those in flight, cancel the rest; nothing runs after that."""
        self._is_stopped = True
        for task in (feeder, *self._followers):
            task.cancel()
        waiting: list[Awaitable[Any]] = [feeder, *self._followers, *self._workers]
        await asyncio.gather(*waiting, return_exceptions=True)


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for all of them; that one was cancelled by `stop` is not an error."""
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
