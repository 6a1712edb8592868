"""Time as an argument: whoever waits, paces or signs is handed a clock, so that tests own the time."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Durations come from `monotonic`, signatures and records from `now`."""

    def monotonic(self) -> float:
        """Seconds that never go back; system-wide on one host, so processes may compare them."""
        ...

    def now(self) -> datetime:
        """The wall clock, timezone-aware, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let at least `seconds` pass; 0 yields to the event loop."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """CLOCK_MONOTONIC, in seconds."""
        return time.monotonic()

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """asyncio's sleep; may overshoot, never undershoots by more than the timer's grain."""
        await asyncio.sleep(max(0.0, seconds))
