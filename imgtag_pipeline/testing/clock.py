"""A clock that moves only when the test says so, and then exactly as far: waits cost no real time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

_MANY = 10_000  # turns of the loop after which tasks that keep each other busy are taken for a livelock


class FakeClock:
    """A `Clock` for tests.

    Sleepers wake in the order of their times (ties in the order they fell asleep), and everybody who can run does run
    before the time moves on. Work in other threads is not waited for, unless `patience` gives it real seconds.
    """

    def __init__(
        self, start: float = 1000.0, *, wall: datetime = datetime(2026, 1, 1, tzinfo=UTC), patience: float = 0.0
    ) -> None:
        self._start = start
        self._time = start
        self._wall = wall
        self._patience = patience
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()

    def monotonic(self) -> float:
        """Fake seconds; starts at `start`."""
        return self._time

    def now(self) -> datetime:
        """The fake wall clock, UTC; moves with `monotonic` and with `set_wall`."""
        return self._wall + timedelta(seconds=self._time - self._start)

    def set_wall(self, wall: datetime) -> None:
        """Put the wall clock right (or wrong); the monotonic clock does not notice."""
        self._wall = wall - timedelta(seconds=self._time - self._start)

    def stall(self, seconds: float) -> None:
        """Let time pass while nobody gets to run, as when somebody blocks the event loop."""
        self._time += seconds

    async def sleep(self, seconds: float) -> None:
        """Wait until the test has advanced the clock so far; 0 yields once."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._time + seconds, next(self._order), future))
        await future

    async def advance(self, seconds: float) -> None:
        """Move time on; whoever sleeps until then wakes at its own moment, in order."""
        target = self._time + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target:
            await self._wake_next()
        self._time = max(self._time, target)
        await self.settle()

    async def run(self, work: Coroutine[Any, Any, T], *, limit: float = 1e6) -> T:
        """Run `work` to its end, moving time whenever everybody sleeps; at most `limit` fake seconds."""
        task = asyncio.ensure_future(work)
        end = self._time + limit
        await self.settle()
        while not task.done():
            if self._sleepers and self._sleepers[0][0] <= end:
                await self._wake_next()
            elif self._sleepers:
                task.cancel()
                raise TimeoutError(f"not done after {limit:g} fake seconds")
            else:
                await asyncio.sleep(0.001)  # real: only a thread or a socket can move things now
        return await task

    async def settle(self) -> None:
        """Let every task run until all of them wait for something."""
        await self._drain()
        if self._patience:
            await asyncio.sleep(self._patience)
            await self._drain()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        ready = getattr(loop, "_ready", None)  # asyncio's own queue: the only exact way to know that all are waiting
        for turn in range(_MANY):
            await asyncio.sleep(0)
            if (not ready) if ready is not None else turn > 50:
                return
        raise RuntimeError(f"tasks kept running for {_MANY} turns without waiting")

    async def _wake_next(self) -> None:
        at, _, future = heapq.heappop(self._sleepers)
        if future.done():  # its sleeper was cancelled
            return
        self._time = max(self._time, at)
        future.set_result(None)
        await self.settle()
