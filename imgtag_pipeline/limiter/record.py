"""Stores the window of a quota: here in memory, in a locked file (`file`) or in Redis (`redis`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.limiter.window import SlidingWindow

T = TypeVar("T")


class SharedRecord(Protocol):
    """Stores a window. Its clock runs `late` to `early` seconds ahead of the caller's monotonic clock.

    A visit may take slots that are free within `horizon` seconds; notes are collected for `patience` seconds.
    """

    @property
    def late(self) -> float:
        """Seconds that the book's clock is ahead at least."""
        ...

    @property
    def early(self) -> float:
        """Seconds that the book's clock is ahead at most."""
        ...

    @property
    def horizon(self) -> float:
        """Seconds for which slots are leased in advance."""
        ...

    @property
    def patience(self) -> float:
        """Seconds that a note may wait for others before a visit is made for it."""
        ...

    async def update(self, change: Callable[[SlidingWindow, float], T]) -> T:
        """Run `change(book, now)` with nobody else in the book; it may run again when others were quicker."""
        ...

    async def close(self) -> None:
        """Let go of the book."""
        ...


class MemoryRecord:
    """The window of one limiter, shared with nobody."""

    late = 0.0
    early = 0.0
    horizon = 0.0
    patience = 0.0

    def __init__(self, told: float, clock: Clock) -> None:
        self._clock = clock
        self._book = SlidingWindow(told, clock.monotonic())

    async def update(self, change: Callable[[SlidingWindow, float], T]) -> T:
        """Nobody else is here."""
        self._book.changed.clear()
        return change(self._book, self._clock.monotonic())

    async def close(self) -> None:
        """Nothing to let go of."""
