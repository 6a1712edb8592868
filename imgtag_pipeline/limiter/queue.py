"""The waiting calls of one quota in this process: first in, first out, one timer."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Protocol

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import ImgtagError
from imgtag_pipeline.limiter.record import SharedRecord
from imgtag_pipeline.limiter.round_trips import LONGEST, RoundTrips
from imgtag_pipeline.limiter.window import Grant, SlidingWindow

_SHORT_NAP = 0.005  # seconds that are slept through: notes written meanwhile wait so long
_LONGEST_NAP = 0.25  # other processes may have changed the book since
_DAWDLING = 0.1  # seconds between a grant and its call after which the book is told
_CLOSING = 2.0  # seconds for the last notes
LAPSE = 0.5  # after which the grant is not used any more

Note = Callable[[SlidingWindow, float], None]


class Slot(Protocol):
    """A permit to make one call now."""

    def sent(self) -> bool:
        """Say it right before the bytes leave. False: too late, the slot has lapsed; acquire again."""
        ...

    def replied(self) -> None:
        """The reply is here, or the call has failed: its round trip is known."""
        ...

    def unused(self) -> None:
        """No call was made after all: give the slot to the next in the queue."""
        ...


class QueuePermit:
    """A permit of the queue, to be used at `due` (the caller's monotonic clock) or soon after."""

    __slots__ = ("_is_over", "_lane", "due", "grant", "sent_at")

    def __init__(self, lane: QuotaQueue, grant: Grant, due: float) -> None:
        self._lane = lane
        self._is_over = False
        self.grant = grant
        self.due = due
        self.sent_at: float | None = None

    def sent(self) -> bool:
        """The call leaves now, unless the slot has lapsed."""
        now = self._lane.clock.monotonic()
        if self._is_over or now - self.due > LAPSE:
            self.unused()
            return False
        self.sent_at = now
        if now - self.due > _DAWDLING:
            self._lane.dawdled(self, now)
        return True

    def replied(self) -> None:
        """The round trip is over."""
        if not self._is_over:
            self._is_over = True
            self._lane.replied(self)

    def unused(self) -> None:
        """The slot goes back; a call that has left keeps it."""
        if self.sent_at is None and not self._is_over:
            self._is_over = True
            self._lane.unused(self)


class QuotaQueue:
    """The queue of one quota key in this process."""

    def __init__(self, qps: float, shelf: SharedRecord, clock: Clock) -> None:
        self.qps = qps
        self.clock = clock
        self.trips = RoundTrips()
        self.last: QueuePermit | None = None
        self.calls = 0
        self.held_seconds = 0.0
        self.first_asked: float | None = None
        self._shelf = shelf
        self._paused_until = clock.monotonic()
        self._waiting: deque[asyncio.Future[QueuePermit]] = deque()
        self._notes: list[Note] = [lambda book, now: book.tell(qps)]
        self._noted = 0
        self._pump: asyncio.Task[None] | None = None
        self._nap: asyncio.Task[None] | None = None

    async def acquire(self) -> Slot:
        """Wait for the turn of one call."""
        if self.first_asked is None:
            self.first_asked = self.clock.monotonic()
        future: asyncio.Future[QueuePermit] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._wake()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().unused()
            raise

    def tell(self, qps: float) -> None:
        """The caller's share of the quota, should it have changed."""
        if qps != self.qps:
            self.qps = qps
            self.note(lambda book, now: book.tell(qps))

    def note(self, note: Note) -> None:
        """Have this written into the book at the next visit."""
        self._notes.append(note)
        self._wake()

    def pause(self, seconds: float) -> None:
        """Nobody sends for so long, those with a lease included."""
        self._paused_until = max(self._paused_until, self.clock.monotonic() + seconds)
        self.note(lambda book, now: book.pause(now + seconds))

    def dawdled(self, slot: QueuePermit, sent: float) -> None:
        """The call of this slot leaves late: it may arrive after its place would be free again without an answer."""
        latest = sent + self._shelf.early + LONGEST
        self.note(lambda book, _: book.hold(slot.grant, latest))

    def replied(self, slot: QueuePermit) -> None:
        """The call of this slot is over: its latest arrival is known."""
        now = self.clock.monotonic()
        self.last = slot
        sent = slot.sent_at if slot.sent_at is not None else slot.due
        self.trips.add(sent, now)
        allowance = self.trips.allowance(now - sent)
        on_shelf = sent + self._shelf.early
        self.note(lambda book, _: book.settle(slot.grant, on_shelf, allowance))

    def unused(self, slot: QueuePermit) -> None:
        """The call of this slot was not made."""
        self.calls -= 1
        self._give_back(slot.grant)
        self._wake()

    async def close(self) -> None:
        """Send the waiting away and write the last notes, if that is still possible."""
        for future in self._waiting:
            future.cancel()
        self._waiting.clear()
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        with contextlib.suppress(ImgtagError, TimeoutError):
            if self._notes:
                await asyncio.wait_for(self._shelf.update(self._turn), _CLOSING)
        await self._shelf.close()

    def _wake(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._run(), name="imgtag-pacer")
        elif self._nap is not None:
            self._nap.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting or self._notes:
                if not self._waiting:
                    await self.clock.sleep(self._shelf.patience)
                await self._round()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            for future in self._waiting:
                if not future.done():
                    future.set_exception(error)
            self._waiting.clear()

    async def _round(self) -> None:
        grants, wait, is_held = await self._shelf.update(self._turn)
        del self._notes[: self._noted]
        await self._release(grants)
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        if self._waiting:
            before = self.clock.monotonic()
            await self._sleep(wait)
            self.held_seconds += (self.clock.monotonic() - before) if is_held else 0.0

    async def _sleep(self, seconds: float) -> None:
        """Sleep until the next slot may be free; a note shortens a long sleep, for it may change that."""
        if seconds < _SHORT_NAP:
            due = self.clock.monotonic() + seconds
            await self.clock.sleep(seconds)
            self.trips.overslept(self.clock.monotonic() - due)
            return
        if not self._notes:
            self._nap = asyncio.get_running_loop().create_task(self.clock.sleep(min(seconds, _LONGEST_NAP)))
            try:
                await asyncio.wait({self._nap})
            finally:
                self._nap.cancel()
                self._nap = None
        if self._notes and self._shelf.patience:
            await self.clock.sleep(min(seconds, self._shelf.patience))

    def _turn(self, book: SlidingWindow, now: float) -> tuple[list[Grant], float, bool]:
        self._noted = len(self._notes)  # more may come before a slow shelf is done
        for note in self._notes:
            note(book, now)
        wanted = sum(1 for future in self._waiting if not future.done())
        unanswered = self.trips.unanswered(book.level.allowed()[1])
        grants = book.take(now, wanted, horizon=self._shelf.horizon, unanswered=unanswered)
        return grants, book.wait(now), book.is_held(now)

    async def _release(self, grants: list[Grant]) -> None:
        left = deque(grants)
        try:
            while left:
                while (ahead := left[0].at - self._shelf.late - self.clock.monotonic()) > 0:
                    await self.clock.sleep(ahead)
                grant = left.popleft()
                due = grant.at - self._shelf.early
                while self._waiting and self._waiting[0].done():
                    self._waiting.popleft()
                now = self.clock.monotonic()
                if not self._waiting or now < self._paused_until or now - due > LAPSE:
                    self._give_back(grant)
                    continue
                self.calls += 1
                self._waiting.popleft().set_result(QueuePermit(self, grant, due))
        finally:
            for grant in left:  # closed meanwhile
                self._give_back(grant)

    def _give_back(self, grant: Grant) -> None:
        self._notes.append(lambda book, _: book.give_back(grant))
