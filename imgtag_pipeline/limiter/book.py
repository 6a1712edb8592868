"""The book of one quota: who holds which slot until when. Pure: times are handed in, storage is somebody else's.

A window of n calls has n slots. A slot is taken when a call is granted and free again a window after the latest
moment at which the call can have reached the server, so no window at the server ever holds more than n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imgtag_pipeline.limiter.level import Level, window_of

Floats = npt.NDArray[np.float64]
Tickets = npt.NDArray[np.int64]

MOST_SLOTS = 100_000
POLL = 0.002  # seconds between looks at a slot that waits for an answer only
_EVENLY = 0.6  # sends are at least this part of window / n apart, so that a wrong quota shows after few calls
_LAG = 0.005  # and may catch up by this much after a late timer


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one call at `at` (the book's clock); `load` is its place in the window."""

    slot: int
    ticket: int
    at: float
    granted: float
    load: int


class Book:
    """Slots, pace, pause and level of one quota key."""

    __slots__ = ("free", "level", "paced", "paused_until", "soon", "ticket", "tickets", "touched")

    def __init__(self, told: float, now: float) -> None:
        self.level = Level(told)
        self.free: Floats = np.full(0, -np.inf)  # the slot is free from then on, whatever happens
        self.soon: Floats = np.full(0, -np.inf)  # and may be free from then on, if an answer comes
        self.ticket: Tickets = np.zeros(0, dtype=np.int64)  # of the last grant; negative: that call was refused
        self.tickets = 0
        self.paced = -math.inf
        self.paused_until = -math.inf
        self.touched = now
        self._grow()

    def tell(self, told: float) -> None:
        """The quota as the caller knows it; the newest word counts."""
        if told != self.level.told:
            self.level.tell(told)
            self._grow()

    def block(self, until: float) -> None:
        """Take every slot until then: what happened before is not known."""
        self.free[:] = until
        self.soon[:] = until
        self.ticket[:] = 0

    def take(self, now: float, wanted: int, *, horizon: float = 0.0, unanswered: float = 1.5) -> list[Grant]:
        """At most `wanted` grants, none later than `horizon` seconds from now; `unanswered` is kept for no answer."""
        self.touched = now
        grants: list[Grant] = []
        while len(grants) < wanted:
            at = self._next(now, self.free)
            if at > now + horizon:
                break
            grants.append(self._occupy(now, at, unanswered))
        return grants

    def wait(self, now: float) -> float:
        """Seconds until it is worth asking again."""
        wait = self._next(now, self.soon) - now
        if wait > 0 and self.level.is_reduced:
            wait = min(wait, max(self.level.probe_at - now, POLL))
        return max(wait, POLL) if wait <= 0 else wait

    def settle(self, grant: Grant, sent: float, allowance: float) -> None:
        """The call was sent at `sent` and reached the server at most `allowance` after the quickest way."""
        if abs(int(self.ticket[grant.slot])) == grant.ticket:
            _, window = self.level.allowed()
            self.free[grant.slot] = self.soon[grant.slot] = sent + window + allowance

    def hold(self, grant: Grant, latest: float) -> None:
        """The call is late and arrives at `latest`: keep its slot for a window after that."""
        if abs(int(self.ticket[grant.slot])) == grant.ticket:
            _, window = self.level.allowed()
            self.free[grant.slot] = max(latest + window, self.free[grant.slot])

    def give_back(self, grant: Grant) -> None:
        """The grant will not be used: its slot is free at once."""
        if int(self.ticket[grant.slot]) == grant.ticket:
            self.free[grant.slot] = self.soon[grant.slot] = -np.inf

    def accepted(self, grant: Grant, now: float) -> None:
        """The call was answered well."""
        self.level.accepted(grant.granted, grant.load, now)

    def refused(self, grant: Grant, now: float) -> None:
        """The call was throttled: it does not count for the server, only for what we were told."""
        self.level.refused(grant.granted, grant.load, now)
        if int(self.ticket[grant.slot]) == grant.ticket:
            self.ticket[grant.slot] = -grant.ticket

    def pause(self, until: float) -> None:
        """Nobody sends before then."""
        self.paused_until = max(self.paused_until, until)

    def is_held(self, now: float) -> bool:
        """Throttled answers or a pause slow this quota down now."""
        return self.level.is_reduced or self.paused_until > now

    def _next(self, now: float, ends: Floats) -> float:
        most, _ = window_of(self.level.told)
        calls, _ = self.level.allowed(now)
        at = max(now, self.paused_until, self.paced, _nth_largest(ends, most))
        return max(at, _nth_largest(ends, calls)) if calls < len(ends) else at

    def _occupy(self, now: float, at: float, unanswered: float) -> Grant:
        slot = int(self.free.argmin())
        load = int(np.count_nonzero((self.free > at) & (self.ticket >= 0))) + 1
        _, window = self.level.allowed()
        self.level.granted(load, now)
        self.tickets += 1
        self.ticket[slot] = self.tickets
        self.soon[slot] = at + window
        self.free[slot] = at + window + unanswered
        self.paced = max(self.paced, at - _LAG) + _EVENLY * self.level.spacing()
        return Grant(slot, self.tickets, at, now, load)

    def _grow(self) -> None:
        more = min(MOST_SLOTS, window_of(self.level.told)[0]) - len(self.free)
        if more > 0:
            self.free = np.concatenate([self.free, np.full(more, -np.inf)])
            self.soon = np.concatenate([self.soon, np.full(more, -np.inf)])
            self.ticket = np.concatenate([self.ticket, np.zeros(more, dtype=np.int64)])


def _nth_largest(ends: Floats, nth: int) -> float:
    """The moment from which fewer than `nth` of the ends lie ahead."""
    size = len(ends)
    if size < nth:
        return -math.inf
    return float(ends.min()) if size == nth else float(np.partition(ends, size - nth)[size - nth])
