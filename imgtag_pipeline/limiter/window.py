"""The sliding window of one quota: which calls count until when. Pure: times are arguments, storage lies elsewhere.

A call occupies the window from its permit until one window length after its latest possible arrival at the server. A
window of n calls has n places, so no window at the server ever holds more than n.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from imgtag_pipeline.limiter.adaptive_rate import AdaptiveRate, window_of
from imgtag_pipeline.limiter.expiries import Expiries
from imgtag_pipeline.limiter.round_trips import LONGEST

POLL = 0.002  # seconds between looks at a place that waits for an answer only
FORGET = 60.0  # seconds without a visit after which what throttled answers taught is forgotten
_EVENLY = 0.6  # sends are at least this part of window / n apart, so that a wrong quota shows after few calls
_LAG = 0.005  # and may catch up by this much after a late timer


@dataclass(frozen=True, slots=True)
class Grant:
    """A permit to send one call at `at` (the record's clock); `load` counts the calls in the window, with it."""

    ticket: int
    at: float
    granted: float
    load: int


class Place(NamedTuple):
    """What a call holds until `end`; from `soon` on an answer may free it (never, once it is here)."""

    end: float
    soon: float = math.inf
    is_refused: bool = False


class SlidingWindow:
    """The calls that count, the pace in force and the pause of one quota key."""

    __slots__ = (
        "_ends",
        "_places",
        "_refused",
        "_unanswered",
        "blocked_until",
        "changed",
        "level",
        "paced",
        "paused_until",
        "tickets",
        "touched",
    )

    def __init__(self, told: float, now: float) -> None:
        self.level = AdaptiveRate(told)
        self.tickets = 0
        self.paced = self.paused_until = self.blocked_until = -math.inf
        self.touched = now
        self.changed: set[int] = set()  # tickets whose places were changed since somebody cleared this
        self._places: dict[int, Place] = {}
        self._ends = Expiries()
        self._refused = Expiries()
        self._unanswered: dict[int, float] = {}  # the longest out first: from when on an answer frees the place

    def __len__(self) -> int:
        return len(self._places)

    def tell(self, told: float) -> None:
        """The quota as the caller knows it; the newest word counts."""
        if told != self.level.told:
            self.level.tell(told)

    def block_unknown(self, since: float) -> None:
        """What was sent before `since` is not known: send nothing until none of it can count any more."""
        self.blocked_until = max(self.blocked_until, since + window_of(self.level.told)[1] + LONGEST)

    def take(self, now: float, wanted: int, *, horizon: float = 0.0, unanswered: float = LONGEST) -> list[Grant]:
        """At most `wanted` grants, none later than `horizon` seconds from now; `unanswered` is kept for no answer."""
        if now - self.touched >= FORGET:
            self.level = AdaptiveRate(self.level.told)
        self.touched = now
        for _, ticket in self._ends.forget(now):
            del self._places[ticket]
            self._unanswered.pop(ticket, None)
        self._refused.forget(now)
        grants: list[Grant] = []
        while len(grants) < wanted:
            at = self._next(now)
            if at > now + horizon:
                break
            grants.append(self._grant(now, at, unanswered))
        return grants

    def wait(self, now: float) -> float:
        """Seconds until it is worth asking again."""
        at, paced = self._next(now), self._paced(now)
        if at > paced and self._unanswered:
            soon = next(iter(self._unanswered.values()))
            at = min(at, max(soon, paced, now + POLL))
        if at > now and self.level.is_reduced:
            at = min(at, max(self.level.probe_at, now + POLL))
        return at - now if at > now else POLL

    def settle(self, grant: Grant, sent: float, allowance: float) -> None:
        """The call was sent at `sent` and reached the server at most `allowance` after the quickest way."""
        place = self._places.get(grant.ticket)
        if place is not None:
            _, window = self.level.allowed()
            self._put(grant.ticket, Place(sent + window + allowance, is_refused=place.is_refused))

    def hold(self, grant: Grant, latest: float) -> None:
        """The call is late and arrives at `latest`: keep its place for a window after that."""
        place = self._places.get(grant.ticket)
        if place is not None:
            _, window = self.level.allowed()
            self._put(grant.ticket, place._replace(end=max(latest + window, place.end)))

    def give_back(self, grant: Grant) -> None:
        """The grant will not be used: its place is free at once."""
        if grant.ticket in self._places:
            self._put(grant.ticket, None)

    def accepted(self, grant: Grant, now: float) -> None:
        """The call was answered well."""
        self.level.accepted(grant.granted, grant.load, now)

    def refused(self, grant: Grant, now: float) -> None:
        """The call was throttled: it does not count for the server, only for what we were told."""
        self.level.refused(grant.granted, grant.load, now)
        place = self._places.get(grant.ticket)
        if place is not None:
            self._put(grant.ticket, place._replace(is_refused=True))

    def pause(self, until: float) -> None:
        """Nobody sends before then."""
        self.paused_until = max(self.paused_until, until)

    def is_held(self, now: float) -> bool:
        """Throttled answers or a pause slow this quota down now."""
        return self.level.is_reduced or self.paused_until > now

    def places(self, tickets: Iterable[int] | None = None) -> list[tuple[int, Place | None]]:
        """What these calls hold, None for nothing; without `tickets`, all that is held."""
        return list(self._places.items()) if tickets is None else [(each, self._places.get(each)) for each in tickets]

    def enter(self, ticket: int, place: Place | None) -> None:
        """Write down what a call holds, as somebody else has changed it."""
        before = self._places.pop(ticket, None)
        if before is not None:
            self._ends.remove(before.end, ticket)
            self._unanswered.pop(ticket, None)
            if before.is_refused:
                self._refused.remove(before.end, ticket)
        if place is not None:
            self._places[ticket] = place
            self._ends.add(place.end, ticket)
            if place.soon < math.inf:
                self._unanswered[ticket] = place.soon
            if place.is_refused:
                self._refused.add(place.end, ticket)

    def _put(self, ticket: int, place: Place | None) -> None:
        self.enter(ticket, place)
        self.changed.add(ticket)

    def _paced(self, now: float) -> float:
        return max(now, self.paused_until, self.blocked_until, self.paced)

    def _next(self, now: float) -> float:
        most, _ = window_of(self.level.told)
        calls, _ = self.level.allowed(now)
        return max(self._paced(now), self._ends.nth_largest(min(calls, most)))

    def _grant(self, now: float, at: float, unanswered: float) -> Grant:
        load = self._ends.after(at) - self._refused.after(at) + 1
        _, window = self.level.allowed()
        self.level.granted(load, now)
        self.tickets += 1
        self._put(self.tickets, Place(at + window + unanswered, at + window))
        self.paced = max(self.paced, at - _LAG) + _EVENLY * self.level.spacing()
        return Grant(self.tickets, at, now, load)
