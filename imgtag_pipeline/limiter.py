"""Pacing: no window of a second at the server ever holds more calls than the quota, for everybody on the quota's key.

Waiters queue first in, first out, with one timer per quota, and the clock is read again at every release. What was
sent when is kept in a book (`quota_book`), in this process, in a locked file for the host, or in Redis for all hosts.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from imgtag_pipeline.clock import Clock
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Quota
from imgtag_pipeline.quota_book import Book, Grant
from imgtag_pipeline.quota_trips import LONGEST, RoundTrips

T = TypeVar("T")
_SHORT_NAP = 0.005  # seconds that are slept through: notes written meanwhile wait so long
_LONGEST_NAP = 0.25  # other processes may have changed the book since

Note = Callable[[Book, float], None]


class Slot(Protocol):
    """Leave to make one call, now."""

    def sent(self) -> bool:
        """Say it right before the bytes leave. False: too late, the slot has lapsed; acquire again."""
        ...

    def replied(self) -> None:
        """The reply is here, or the call has failed: its round trip is known."""
        ...

    def unused(self) -> None:
        """No call was made after all: give the slot to the next in the queue."""
        ...


class Shelf(Protocol):
    """Where a book lies. Its clock runs `late` to `early` seconds ahead of the caller's monotonic clock."""

    late: float
    early: float
    horizon: float

    async def visit(self, change: Callable[[Book, float], T]) -> T:
        """Run `change(book, now)` with nobody else in the book; it may run again when others were quicker."""
        ...

    async def close(self) -> None:
        """Let go of the book."""
        ...


class MemoryShelf:
    """The book of one limiter, shared with nobody."""

    late = 0.0
    early = 0.0
    horizon = 0.0

    def __init__(self, told: float, clock: Clock) -> None:
        self._clock = clock
        self._book = Book(told, clock.monotonic())

    async def visit(self, change: Callable[[Book, float], T]) -> T:
        """Nobody else is here."""
        return change(self._book, self._clock.monotonic())

    async def close(self) -> None:
        """Nothing to let go of."""


class _FreeSlot:
    """A call without a quota."""

    def sent(self) -> bool:
        return True

    def replied(self) -> None:
        return

    def unused(self) -> None:
        return


class _Slot:
    """One grant of a lane; all times are the caller's monotonic ones."""

    __slots__ = ("_lane", "grant", "released", "sent_at")

    def __init__(self, lane: _Lane, grant: Grant, released: float) -> None:
        self._lane = lane
        self.grant = grant
        self.released = released
        self.sent_at: float | None = None

    def sent(self) -> bool:
        now = self._lane.clock.monotonic()
        if now - self.released > LONGEST:
            self.unused()
            return False
        self.sent_at = now
        self._lane.unsent.pop(self.grant.ticket, None)
        return True

    def replied(self) -> None:
        self._lane.replied(self)

    def unused(self) -> None:
        self._lane.unused(self)


class _Lane:
    """The queue of one quota key in this process."""

    def __init__(self, quota: Quota, qps: float, shelf: Shelf, clock: Clock) -> None:
        self.quota = quota
        self.qps = qps
        self.clock = clock
        self.trips = RoundTrips()
        self.unsent: dict[int, _Slot] = {}
        self.last: _Slot | None = None
        self.calls = 0
        self.held_seconds = 0.0
        self.first_asked: float | None = None
        self._shelf = shelf
        self._waiting: deque[asyncio.Future[_Slot]] = deque()
        self._notes: list[Note] = [lambda book, now: book.tell(qps)]
        self._pump: asyncio.Task[None] | None = None
        self._nap: asyncio.Task[None] | None = None

    async def acquire(self) -> Slot:
        if self.first_asked is None:
            self.first_asked = self.clock.monotonic()
        future: asyncio.Future[_Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().unused()
            raise

    def tell(self, qps: float) -> None:
        if qps != self.qps:
            self.qps = qps
            self.note(lambda book, now: book.tell(qps))

    def note(self, note: Note) -> None:
        """Have this written into the book at the next visit."""
        self._notes.append(note)
        self._wake()

    def replied(self, slot: _Slot) -> None:
        now = self.clock.monotonic()
        self.last = slot
        self.unsent.pop(slot.grant.ticket, None)
        sent = slot.sent_at if slot.sent_at is not None else slot.released
        self.trips.add(sent, now)
        allowance = self.trips.allowance(now - sent)
        on_shelf = sent + self._shelf.early
        self.note(lambda book, _: book.settle(slot.grant, on_shelf, allowance))

    def unused(self, slot: _Slot) -> None:
        self.unsent.pop(slot.grant.ticket, None)
        self.calls -= 1
        self.note(lambda book, _: book.give_back(slot.grant))

    async def close(self) -> None:
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        if self._notes:
            await self._shelf.visit(self._turn)
        await self._shelf.close()

    def _wake(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._run(), name="imgtag-pacer")
        elif self._nap is not None:
            self._nap.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting or self._notes:
                self._keep_unsent()
                noted = len(self._notes)
                grants, wait, is_held = await self._shelf.visit(self._turn)
                del self._notes[:noted]
                await self._release(grants)
                while self._waiting and self._waiting[0].cancelled():
                    self._waiting.popleft()
                if self._waiting:
                    before = self.clock.monotonic()
                    await self._sleep(wait)
                    self.held_seconds += (self.clock.monotonic() - before) if is_held else 0.0
        except asyncio.CancelledError:
            raise
        except Exception as error:
            for future in self._waiting:
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()

    async def _sleep(self, seconds: float) -> None:
        """Sleep until the next slot may be free; a note wakes a long sleep, for it may change that."""
        if seconds < _SHORT_NAP:
            await self.clock.sleep(seconds)
            return
        if self._notes:
            return
        self._nap = asyncio.get_running_loop().create_task(self.clock.sleep(min(seconds, _LONGEST_NAP)))
        try:
            await asyncio.wait({self._nap})
        finally:
            self._nap.cancel()
            self._nap = None

    def _turn(self, book: Book, now: float) -> tuple[list[Grant], float, bool]:
        for note in list(self._notes):
            note(book, now)
        wanted = sum(1 for future in self._waiting if not future.done())
        unanswered = self.trips.unanswered(book.level.allowed()[1])
        grants = book.take(now, wanted, horizon=self._shelf.horizon, unanswered=unanswered)
        return grants, book.wait(now), book.is_held(now)

    def _keep_unsent(self) -> None:
        """A stalled loop may hold slots whose calls have not left: they stay taken."""
        now = self.clock.monotonic()
        for slot in self.unsent.values():
            if now - slot.released > 0.1:
                until = now + self._shelf.early + 1.0 + LONGEST
                self._notes.append(lambda book, _, grant=slot.grant, until=until: book.hold(grant, until))  # type: ignore[misc]

    async def _release(self, grants: list[Grant]) -> None:
        for grant in grants:
            while (ahead := grant.at - self._shelf.late - self.clock.monotonic()) > 0:
                await self.clock.sleep(ahead)
            slot = _Slot(self, grant, self.clock.monotonic())
            while self._waiting and self._waiting[0].done():
                self._waiting.popleft()
            if not self._waiting:
                self._notes.append(lambda book, _, grant=grant: book.give_back(grant))  # type: ignore[misc]
                continue
            self.calls += 1
            self.unsent[grant.ticket] = slot
            self._waiting.popleft().set_result(slot)


class Limiter:
    """Lets calls go at the pace of their quotas.

    `share` is "host" (all processes of this user on this host, the default), a folder to share another circle in, or
    None for this process alone; with `redis_url`, hosts share as well. Use it from one event loop.
    """

    def __init__(
        self, *, clock: Clock, share: Literal["host"] | str | Path | None = "host", redis_url: str | None = None
    ) -> None:
        self._clock = clock
        self._share = share
        self._redis_url = redis_url
        self._lanes: dict[str, _Lane] = {}

    async def acquire(self, quota: Quota) -> Slot:
        """Wait for this call's turn; returns at the moment at which it may be sent, and the caller sends at once."""
        lane = self._lane(quota)
        return _FreeSlot() if lane is None else await lane.acquire()

    def throttled(self, quota: Quota, retry_after: float | None = None, *, slot: Slot | None = None) -> None:
        """A call was refused for being too fast: everybody on this quota slows down, and waits `retry_after`.

        Without `slot`, it was the call whose reply was noted last.
        """
        lane = self._lane(quota)
        if lane is None:
            return
        mine = slot if isinstance(slot, _Slot) else lane.last
        if mine is not None:
            grant = mine.grant
            lane.note(lambda book, now: book.refused(grant, now))
        if retry_after:
            self.pause(quota, retry_after)

    def succeeded(self, quota: Quota, *, slot: Slot | None = None) -> None:
        """A call was answered: part of a clean stretch, after which the pace rises again."""
        lane = self._lane(quota)
        mine = slot if isinstance(slot, _Slot) else lane.last if lane else None
        if lane is not None and mine is not None:
            grant = mine.grant
            lane.note(lambda book, now: book.accepted(grant, now))

    def pause(self, quota: Quota, seconds: float) -> None:
        """Nobody on this quota sends for so long, however long they have queued."""
        lane = self._lane(quota)
        if lane is not None:
            lane.note(lambda book, now: book.pause(now + seconds))

    @property
    def throttled_seconds(self) -> float:
        """How long calls have waited while throttled answers or a pause held a quota back."""
        return sum(lane.held_seconds for lane in self._lanes.values())

    def used(self, quota: Quota) -> float | None:
        """Calls sent by this limiter as a share of what the quota allowed since the first was asked for."""
        lane = self._lanes.get(quota.key)
        if lane is None or lane.first_asked is None:
            return None
        elapsed = self._clock.monotonic() - lane.first_asked
        return lane.calls / (lane.qps * elapsed) if elapsed > 0 else None

    async def aclose(self) -> None:
        """Stop all queues (waiting calls are cancelled) and give back what was not used."""
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.close() for lane in lanes))

    def _lane(self, quota: Quota) -> _Lane | None:
        if quota.qps is None:
            return None
        lane = self._lanes.get(quota.key)
        if lane is None:
            if not quota.qps > 0:
                raise ConfigError(f"qps is {quota.qps!r}; allowed is a number above 0, or None for no limit")
            lane = self._lanes[quota.key] = _Lane(quota, quota.qps, self._shelf(quota), self._clock)
        else:
            lane.tell(quota.qps)
        return lane

    def _shelf(self, quota: Quota) -> Shelf:
        assert quota.qps is not None
        return MemoryShelf(quota.qps, self._clock)


