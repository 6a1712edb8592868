"""Pacing: no window of a second at the server ever holds more calls than the quota, for everybody on the quota's key.

The window of each quota key (`window`) is kept in a shared record: in this process, in a locked file for the host
(`file`), or in Redis for all hosts (`redis`). Each quota key has its own queue of waiting calls (`queue`).
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, Literal

from imgtag_pipeline.core.clock import Clock, SystemClock
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.limiter.file import CAN_SHARE, FileRecord, host_folder
from imgtag_pipeline.limiter.queue import QueuePermit, QuotaQueue, Slot
from imgtag_pipeline.limiter.record import MemoryRecord, SharedRecord
from imgtag_pipeline.limiter.redis import RedisRecord
from imgtag_pipeline.limiter.window import Grant, SlidingWindow
from imgtag_pipeline.model import Quota

logger = logging.getLogger("imgtag_pipeline")

# Calls a second where no figure is published: more than any vendor grants, so that its first refusal sets the pace.
UNPUBLISHED: Final = 10_000.0


class Limiter:
    """Lets calls go at the pace of their quotas.

    `share` is "host" (all processes of this user on this host that have the same temporary folder, the default), a
    local folder to share another circle in, or None for this process alone; with `redis_url`, hosts share as well.
    Where a host has no file locks (Windows) or no writable temporary folder, "host" is this process alone, and one
    warning says so. Use it from one event loop.
    """

    def __init__(
        self, *, clock: Clock, share: Literal["host"] | str | Path | None = "host", redis_url: str | None = None
    ) -> None:
        self._clock = clock
        self._share = share
        self._redis_url = redis_url
        self._lanes: dict[str, QuotaQueue] = {}
        self._is_alone = False
        self._rates: dict[str, float] = {}  # in force at the last answer
        self._told: set[str] = set()  # quotas whose random refusals were reported

    async def acquire(self, quota: Quota) -> Slot:
        """Wait for this call's turn; returns at the moment at which it may be sent, and the caller sends at once."""
        return await self._lane(quota).acquire()

    def throttled(self, quota: Quota, retry_after: float | None = None, *, slot: Slot | None = None) -> None:
        """A call was refused for being too fast: everybody on this quota slows down, and waits `retry_after`.

        Without `slot`, it was the call whose reply was noted last.
        """
        lane = self._lane(quota)
        mine = slot if isinstance(slot, QueuePermit) else lane.last
        if mine is not None:
            grant = mine.grant
            lane.note(lambda book, now: self._refused(quota.key, book, grant, now))
        if retry_after:
            self.pause(quota, retry_after)

    def succeeded(self, quota: Quota, *, slot: Slot | None = None) -> None:
        """A call was answered: part of a clean stretch, after which the pace rises again."""
        lane = self._lane(quota)
        mine = slot if isinstance(slot, QueuePermit) else lane.last
        if mine is not None:
            grant = mine.grant
            lane.note(lambda book, now: self._accepted(quota.key, book, grant, now))

    def pause(self, quota: Quota, seconds: float) -> None:
        """Nobody on this quota sends for so long, however long they have queued."""
        self._lane(quota).pause(seconds)

    @property
    def throttled_seconds(self) -> float:
        """How long calls have waited while throttled answers or a pause held a quota back."""
        return sum(lane.held_seconds for lane in self._lanes.values())

    def used(self, quota: Quota) -> float | None:
        """Calls sent by this limiter as a share of what the quota allowed since the first was asked for; 1 at most.

        None where the quota has no figure, or nothing was asked for.

        A second's calls may all go at its beginning, so a run is taken to last a whole second at least.
        """
        lane = self._lanes.get(quota.key)
        if quota.qps is None or lane is None or lane.first_asked is None:
            return None
        elapsed = self._clock.monotonic() - lane.first_asked
        return min(1.0, lane.calls / (lane.qps * max(1.0, elapsed)))

    def pace(self, quota: Quota, qps: float | None = None) -> float | None:
        """Calls a second that are allowed now: learned from the answers, else `qps` or the quota; None: no limit."""
        rate = self._rates.get(quota.key, qps or quota.qps)
        return None if rate is None or rate >= UNPUBLISHED else rate

    async def aclose(self) -> None:
        """Stop all queues (waiting calls are cancelled) and give back what was not used."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.close() for lane in lanes))

    def _lane(self, quota: Quota) -> QuotaQueue:
        qps = UNPUBLISHED if quota.qps is None else quota.qps
        lane = self._lanes.get(quota.key)
        if lane is None:
            if not qps > 0:
                raise ConfigError(f"qps is {qps!r}; allowed is a number above 0, or None where nobody knows it")
            lane = self._lanes[quota.key] = QuotaQueue(qps, self._shelf(quota, qps), self._clock)
        else:
            lane.tell(qps)
        return lane

    def _shelf(self, quota: Quota, qps: float) -> SharedRecord:
        if self._redis_url is not None:
            return RedisRecord(self._redis_url, quota.key, qps, self._clock)
        is_host_wide = self._share == "host"
        if self._share is None or (is_host_wide and not isinstance(self._clock, SystemClock)):
            return MemoryRecord(qps, self._clock)  # the times of another clock mean nothing to other processes
        problem = "this system has no file locks"
        if CAN_SHARE:
            try:
                return FileRecord(host_folder() if is_host_wide else Path(self._share), quota.key, qps, self._clock)
            except OSError as error:
                problem = error.strerror or type(error).__name__
            if not is_host_wide:
                raise ConfigError(
                    f"the quota cannot be shared in {self._share} ({problem}); name a local folder that is writable"
                )
        self._warn_alone(problem)
        return MemoryRecord(qps, self._clock)

    def _accepted(self, key: str, book: SlidingWindow, grant: Grant, now: float) -> None:
        book.accepted(grant, now)
        self._rates[key] = book.level.rate

    def _refused(self, key: str, book: SlidingWindow, grant: Grant, now: float) -> None:
        book.refused(grant, now)
        self._rates[key] = book.level.rate
        share = book.level.random.usual
        if book.level.random.are_known and key not in self._told:
            self._told.add(key)
            words = (
                "event=random_refusals quota=%s: about %.0f %% of the calls are refused at any pace, so slowing down"
            )
            logger.warning(
                words + " does not help; others may use this account, or the vendor is short of room", key, 100 * share
            )

    def _warn_alone(self, problem: str) -> None:
        if not self._is_alone:
            words = "event=quota_not_shared: this process keeps to the quota by itself, other processes on this host "
            words += "are not seen (%s); set TMPDIR to a writable local folder, or qps to this process's share"
            logger.warning(words, problem)
        self._is_alone = True
