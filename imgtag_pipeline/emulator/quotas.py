"""Quotas as the vendors count them: per account and action, in sliding windows, refused calls not counted."""

from __future__ import annotations

import math
from collections import deque


class SlidingWindow:
    """Admits at most `qps` calls in any second; 2.5 a second is two in any 0.8 s."""

    __slots__ = ("_calls", "_seconds", "_times", "qps")

    def __init__(self, qps: float) -> None:
        self.qps = qps
        self._calls = max(1, math.floor(qps))
        self._seconds = self._calls / qps
        self._times: deque[float] = deque(maxlen=self._calls)

    def admit(self, arrived: float) -> bool:
        """Whether the call that arrived at this time is within the quota; it then counts."""
        times = self._times
        if len(times) == self._calls and arrived - times[0] < self._seconds:
            return False
        times.append(arrived)
        return True


class WorstWindow:
    """The most calls that any second held, counted from each call's arrival backwards."""

    __slots__ = ("_times", "worst")

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self.worst = 0

    def add(self, arrived: float) -> None:
        """Count one arrival; arrivals come in order."""
        times = self._times
        times.append(arrived)
        while arrived - times[0] >= 1.0:
            times.popleft()
        if len(times) > self.worst:
            self.worst = len(times)
