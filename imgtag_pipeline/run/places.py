"""Bounds how many conversations are active at once; one that only waits gives its place to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from imgtag_pipeline.core.clock import Clock

WORKERS_PER_PLACE = 8  # so many exchanges may exist for each that is active; the others wait to try again


class Place:
    """Room for one exchange, an async context manager; taken in the order of asking."""

    def __init__(self, free: asyncio.Semaphore, clock: Clock, on_rest: Callable[[], None]) -> None:
        self._free = free
        self._clock = clock
        self._on_rest = on_rest
        self._is_held = False

    async def __aenter__(self) -> Self:
        await self._take()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def rest(self, seconds: float) -> None:
        """Let so much time pass; meanwhile somebody else has the place."""
        if seconds <= 0:
            return
        self._leave()
        self._on_rest()
        await self._clock.sleep(seconds)
        await self._take()

    async def _take(self) -> None:
        await self._free.acquire()
        self._is_held = True

    def _leave(self) -> None:
        if self._is_held:
            self._is_held = False
            self._free.release()
