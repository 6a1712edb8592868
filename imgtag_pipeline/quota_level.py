"""How many calls a window may hold just now: the quota as told, less what throttled answers have taught.

Pure arithmetic on times and counts that are handed in. A call's *load* is the number of calls in the window that it
was sent in, itself included and refused ones not, so a refusal at load 21 says that the quota is about 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

_DECREASE = 0.7
_INCREASE = 0.5
_LOWEST = 0.05  # calls a second that are tried even when everything is refused
_FIRST_PROBE = 2.5
_FORGET = 120.0  # an idle quota's lessons are forgotten after this


def window_of(rate: float) -> tuple[int, float]:
    """`rate` calls a second as (calls, seconds): whole calls in one second, or one call in 1 / rate seconds."""
    calls = max(1, math.floor(rate + 1e-9))
    return calls, max(1.0, calls / rate)


@dataclass(slots=True)
class Level:
    """The rate in force for one quota, learned by additive increase and multiplicative decrease."""

    told: float
    rate: float = 0.0
    ceiling: float = math.inf  # the load at which a call was last refused
    proven: float = 0.0  # the highest load answered well since the last decrease
    refused_sent: float = -math.inf
    changed_at: float = -math.inf  # calls granted before this were sent at an older rate
    since: float = -math.inf  # the rate has held since
    probe_at: float = math.inf
    is_probing: bool = False
    refusals: list[tuple[float, float]] = field(default_factory=list)  # (sent, learned), newest last

    def __post_init__(self) -> None:
        self.rate = self.rate or self.told

    def tell(self, told: float) -> None:
        """The caller's share has changed; what was learned below it stays."""
        if self.rate >= self.told or self.rate > told:
            self.rate = told
        self.told = told

    @property
    def is_reduced(self) -> bool:
        """Throttled answers hold the rate under what was told."""
        return self.rate < self.told

    def allowed(self) -> tuple[int, float]:
        """(calls, seconds) in force."""
        return window_of(self.rate)

    def before_sending(self, now: float) -> None:
        """Start a probe when one is due: one call more than the load that was refused last allows."""
        if self.is_reduced and not self.is_probing and now >= self.probe_at:
            self.is_probing = True
            self.rate = self._raised(self.rate, 1)
            self.changed_at = now

    def accepted(self, granted: float, load: int, now: float) -> None:
        """A call was answered well."""
        load = self._without_refused(granted, load)
        if granted >= self.changed_at:
            self.proven = max(self.proven, load)
        if load >= self.ceiling and granted >= self.refused_sent:
            self.ceiling, self.probe_at, self.is_probing = math.inf, math.inf, False
            self.rate = min(self.told, max(self.rate, load))
            self.proven = max(self.proven, load)
        if self.is_reduced and not self.is_probing and self.proven >= self.allowed()[0]:
            self._climb(now)

    def refused(self, granted: float, load: int, now: float) -> None:
        """A call was throttled. A burst of such answers to calls already on their way is one decrease."""
        load = self._without_refused(granted, load)
        self.refusals = [pair for pair in self.refusals if pair[1] > now - 5][-31:]
        self.refusals.append((granted, now))
        if granted < self.changed_at:
            return
        if self.is_probing:
            self.rate = self._lowered()
        elif self.proven and load > self.proven:
            self.rate, self.since = max(_LOWEST, min(self.rate, load - 1)), now
        else:
            basis = min(self.rate, load) if load > 1 else self.rate
            self.rate, self.since, self.proven = max(_LOWEST, _DECREASE * basis), now, 0.0
        self.ceiling = max(load, 1)
        self.is_probing = False
        self.refused_sent, self.changed_at = granted, now
        self.probe_at = now + self._pause_between_probes(now)

    def _climb(self, now: float) -> None:
        room = self.ceiling - 1 - self.rate
        step = min(max(1.0, self.rate * _INCREASE), room)
        if step > 0:
            self.rate = self._raised(self.rate, step)
            self.since = now
            if math.isfinite(self.ceiling):
                self.probe_at = now + _FIRST_PROBE

    def _raised(self, rate: float, step: float) -> float:
        raised = rate * 2 if rate < 1 else math.floor(rate + step)
        return min(self.told, raised)

    def _lowered(self) -> float:
        return max(_LOWEST, self.rate - 1 if self.rate > 1 else self.rate / 2)

    def _pause_between_probes(self, now: float) -> float:
        longest = max(10.0, 50 / self.rate)
        return min(longest, max(_FIRST_PROBE, 0.15 * (now - self.since)))

    def _without_refused(self, granted: float, load: int) -> int:
        unknown_then = sum(1 for sent, learned in self.refusals if granted - 1 < sent <= granted < learned)
        return max(1, load - unknown_then)
