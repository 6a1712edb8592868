"""Bounds of how far a server's clock is ahead of ours, from the times before and after each question."""

from __future__ import annotations

from collections import deque

_KEPT = 10.0  # seconds for which a comparison is good,
_DRIFT = 0.0005  # in which two clocks part by less than this


class Offsets:
    """The bounds on which the newest comparisons agree."""

    __slots__ = ("_seen", "early", "late")

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float, float]] = deque()
        self.late = self.early = 0.0  # the server's clock is ahead by `late` at least and by `early` at most

    def add(self, before: float, server: float, after: float) -> bool:
        """Between `before` and `after` the server's clock said `server`. True: it has been set since the last time."""
        least, most = server - after, server - before
        was_set = bool(self._seen) and (least > self.early + _DRIFT or most < self.late - _DRIFT)
        if was_set:
            self._seen.clear()
        while self._seen and self._seen[0][0] < after - _KEPT:
            self._seen.popleft()
        self._seen.append((after, least, most))
        late = max(least for _, least, _ in self._seen)
        early = min(most for _, _, most in self._seen)
        self.late, self.early = min(late, early) - _DRIFT, max(late, early) + _DRIFT
        return was_set
