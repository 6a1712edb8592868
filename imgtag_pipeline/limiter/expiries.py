"""Expiry times in order, each with its call. Most arrive nearly in order and leave at the front, so each costs one or
two microseconds.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort

_SPARE = 64  # forgotten entries that may stay at the front before it is cut off


class Expiries:
    """The expiry time of each call."""

    __slots__ = ("_first", "_sorted")

    def __init__(self) -> None:
        self._sorted: list[tuple[float, int]] = []
        self._first = 0  # what lies before is forgotten

    def __len__(self) -> int:
        return len(self._sorted) - self._first

    def add(self, end: float, ticket: int) -> None:
        """The call with this ticket counts until `end`."""
        insort(self._sorted, (end, ticket), self._first)

    def remove(self, end: float, ticket: int) -> None:
        """It does not, after all."""
        index = bisect_left(self._sorted, (end, ticket), self._first)
        if index < len(self._sorted) and self._sorted[index] == (end, ticket):
            del self._sorted[index]

    def forget(self, now: float) -> list[tuple[float, int]]:
        """Take out what has ended by now."""
        first = self._first
        self._first = bisect_right(self._sorted, (now, math.inf), first)
        over = self._sorted[first : self._first]
        if self._first > _SPARE + len(self):
            del self._sorted[: self._first]
            self._first = 0
        return over

    def nth_largest(self, nth: int) -> float:
        """The moment from which fewer than `nth` (1 or more) lie ahead."""
        return self._sorted[-nth][0] if len(self) >= nth else -math.inf

    def after(self, moment: float) -> int:
        """How many end later than this."""
        return len(self._sorted) - bisect_right(self._sorted, (moment, math.inf), self._first)
