"""Bounds, from the round trips seen, how late a call can have reached the server. The limiter lets a call count for one
window after that moment.
"""

from __future__ import annotations

import math
from collections import deque

GRAIN = 0.0002  # clock grain and rounding, on top of every allowance
LONGEST = 1.5  # a request that takes longer than this to arrive (a lost SYN takes 1 s) is beyond what is promised
_KEPT = 128
_EVERY = 0.05  # seconds between the round trips that are kept, so that a busy moment is not taken for the usual
_REMEMBERED = 30.0  # seconds, and up to twice that, for which the shortest round trip counts
_WARM_ENOUGH = 16
# Share of a window that allowances may cost on average before the usual spread is attributed to the server.
_MEAN_GIVEN_AWAY = 0.03
# Own timers that are kept to tell how late this process is.
_SLEEPS = 16
# Times that a call meets such a delay where the server is as busy: it is sent, read, answered, read.
_HOPS = 4
# Seconds that stay for the network where the spread is attributed to the server.
_SPREAD_MARGIN = 0.005


class RoundTrips:
    """Turns a round trip into the latest arrival: `sent + one way + allowance`.

    Until a few calls have gone over connections that were open already, a call may have arrived as late as its reply.
    After that, at most `rtt - smallest rtt` late. If round trips vary so much that this allowance would cost over 3 %
    of the quota, the usual spread is attributed to the server, and only what is longer counts. This is skipped while
    our own timers fire late.
    """

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=_KEPT)
        self._kept_at = -math.inf
        self._first_reply: float | None = None
        self._warm = 0
        self._shortest = self._shortest_before = math.inf  # of this stretch of time and of the one before
        self._turned_at = 0.0
        self._base = 0.0
        self._margin = GRAIN
        self._typical = LONGEST
        self._often_longer = 0.0  # what half of the answers take at least
        self._oversleeps = 0.0

    def overslept(self, seconds: float) -> None:
        """A sleep of this process took so much longer than it should."""
        self._oversleeps += (seconds - self._oversleeps) / _SLEEPS

    def add(self, sent: float, replied: float) -> None:
        """A call sent at `sent` was answered at `replied`."""
        if self._first_reply is None or replied < self._first_reply:
            self._first_reply = self._turned_at = replied
        if sent < self._first_reply:
            return  # probably opened its own connection: says nothing about the shortest way
        rtt = replied - sent
        if replied - self._turned_at > _REMEMBERED:
            self._turned_at, self._shortest_before, self._shortest = replied, self._shortest, rtt
        is_shortest = rtt < self._shortest
        self._shortest = min(self._shortest, rtt)
        if self._warm <= 2 * _WARM_ENOUGH or replied - self._kept_at >= _EVERY:
            self._kept_at = replied
            self._warm += 1
            self._recent.append(rtt)
            if self._warm <= 2 * _WARM_ENOUGH or self._warm % 8 == 0:
                is_shortest = True
        if is_shortest:
            self._learn()

    def allowance(self, rtt: float) -> float:
        """How much later than the quickest one a call with this round trip may have arrived."""
        return min(LONGEST, max(0.0, rtt - self._base) + self._margin)

    def unanswered(self, window: float) -> float:
        """The allowance for a call without an answer yet: the longest, unless most answers take over a window."""
        return self._typical if self._often_longer >= window else LONGEST

    def _learn(self) -> None:
        if self._warm < _WARM_ENOUGH:
            return
        trips = sorted(self._recent)
        self._often_longer = trips[len(trips) // 2]
        self._base = shortest = min(self._shortest, self._shortest_before, trips[0])
        self._margin = GRAIN + (trips[len(trips) // 8] - trips[0]) / 2  # the shortest is yet to be seen
        usual = [shortest, *trips[: len(trips) - len(trips) // 8]]  # without the few of a stalled loop
        over, most = 0.0, (_MEAN_GIVEN_AWAY + _HOPS * self._oversleeps) * len(usual)
        for rank in range(len(usual) - 1, 0, -1):  # lower the base from the longest trip while that is affordable
            over += (usual[rank] - usual[rank - 1]) * (len(usual) - rank)
            if over > most:
                self._base, self._margin = usual[min(rank, len(trips) // 2)], _SPREAD_MARGIN
                break
        self._typical = self.allowance(trips[len(trips) // 2])
