"""How many calls a window may hold just now: the quota as told, less what throttled answers have taught.

Pure arithmetic on times and counts that are handed in. A call's *load* is the number of calls in the window that it
was sent in, itself included and refused ones not, so a refusal at load 21 says that the quota is about 20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from imgtag_pipeline.limiter.random_refusals import RandomRefusals

DECREASE = 0.7  # of the rate, when a load is refused that was answered before: the quota has fallen
INCREASE = 0.5  # of the rate at most, at each answer that proves the rate in force
LOWEST = 0.1  # calls a second that are tried even when everything is refused
FIRST_PROBE = 3.0  # seconds until one call is tried beyond the load refused last,
PROBE_SHARE = 0.15  # then this share of the time for which the rate has held,
LONGEST_PROBE = 10.0  # at most so long, or a probe in 50 calls
NEARLY = 0.9  # of the rate in force must be proven before it climbs: some calls of a window may be refused at random
HOLD = 0.5  # windows for which a probe's success must last before the rate climbs further
DOUBT = 3  # calls are so many times further apart while no call has been answered since a decrease
FIRST_CALLS = 4  # at once before any answer; then
GROWTH = 1.5  # times the load that was answered, until the quota is proven
REFUSALS_KEPT = 32
WINS = 2  # probes in a row that must be answered where the edge is blurred: the same load was answered and refused
ABOUT = 0.15  # rates that differ by this share, or by one call, are the same with some noise
EDGE, EDGE_SHARE = 4, 0.25  # after so many good answers, and this share of a second's, a refusal is the quota's edge
MANY = 50  # calls a second from which a single refusal says little: one of them comes by chance


def window_of(rate: float) -> tuple[int, float]:
    """`rate` calls a second as (calls, seconds): whole calls in one second, or one call in 1 / rate seconds."""
    calls = max(1, math.floor(rate + 1e-9))
    return calls, max(1.0, calls / rate)


@dataclass(slots=True)
class AdaptiveRate:
    """The rate in force for one quota, learned by additive increase and multiplicative decrease.

    - A load is refused that was never answered well, or after a stretch of good answers: that is the quota's edge, and
      the rate becomes the load below it.
    - A load is refused that was answered before, and again: the quota has fallen. The rate falls to a fraction, and
      then by steps, until calls are answered again.
    - Below the load refused last (the ceiling) the rate climbs quickly with the answers; beyond it single calls probe,
      and when they are answered it climbs by 1, 2, 4 and more.
    """

    told: float
    rate: float = 0.0
    ceiling: float = math.inf
    proven: float = 0.0  # the highest load answered well since the last decrease
    refused_sent: float = -math.inf  # when the call was granted that set the ceiling
    changed_at: float = -math.inf  # calls granted before this were sent at an older rate
    since: float = -math.inf  # the rate has held since
    climb_at: float = -math.inf
    probe_at: float = math.inf
    probe_sent: float = math.inf  # a probe is out since
    wins: int = 0  # probes answered in a row,
    wins_needed: int = 1  # of so many until the rate climbs
    held: float = 0.0  # the rate that has held, more or less, since `since`
    answers: int = 0  # good ones since the last decrease
    stride: float = 1.0  # calls a second by which the rate climbs beyond the load refused last, doubling
    refusals: list[tuple[float, float]] = field(default_factory=list)  # (granted, learned), newest last
    random: RandomRefusals = field(default_factory=RandomRefusals)

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

    def allowed(self, now: float = -math.inf) -> tuple[int, float]:
        """(calls, seconds) in force; one call more when a probe is due."""
        calls, window = window_of(self.rate)
        if self.proven < calls:
            calls = min(calls, int(max(FIRST_CALLS / (2 if self.refusals else 1), GROWTH * self.proven + 1)))
        return calls + (self.is_reduced and now >= self.probe_at), window

    def spacing(self) -> float:
        """Seconds between calls that are sent evenly."""
        calls, window = window_of(self.rate)
        return window / calls * (DOUBT if self.refusals and not self.proven else 1)

    def granted(self, load: int, now: float) -> None:
        """A call goes out with this load; when it is one more than the rate allows, it is the probe."""
        if self.is_reduced and now >= self.probe_at and load > window_of(self.rate)[0]:
            self.probe_sent = now
            self.probe_at = now + 2 * self._pause_between_probes(now)  # should its answer never come

    def accepted(self, granted: float, load: int, now: float) -> None:
        """A call was answered well."""
        load = self._without_refused(granted, load)
        if granted >= self.changed_at:
            self.proven = max(self.proven, load)
            self.answers += 1
            self._weigh(self.random.answered(granted, load), now)
        is_fast = self._is_patient  # one refusal says little there: calls that were on their way with it may answer it
        if load >= self.ceiling and granted >= (self.refused_sent if is_fast else self.changed_at):
            self._won(load, now)
        enough = self.allowed()[0] * (NEARLY * (1 - self.random.usual) if is_fast else 1)
        if self.is_reduced and not self.random.is_trying and now >= self.climb_at and self.proven >= enough:
            self._climb(now)

    def refused(self, granted: float, load: int, now: float) -> None:
        """A call was throttled. A burst of such answers to calls already on their way is one decrease."""
        load = self._without_refused(granted, load)
        self.refusals = [*self.refusals[1 - REFUSALS_KEPT :], (granted, now)]
        if granted < self.changed_at:
            return
        if granted < self.probe_sent and self._is_random(granted, load, now):
            return
        if granted < self.probe_sent:
            self._lower(load, now)
        self.answers, self.wins, self.stride = 0, 0, 1.0
        self.ceiling = load
        self.refused_sent = granted
        self.changed_at = now
        self.probe_at, self.probe_sent = now + self._pause_between_probes(now), math.inf

    def _lower(self, load: int, now: float) -> None:
        self.random.tried_rate = 0.0  # what was being tried is over
        is_edge = load > 1 and (0 < self.proven < load or self.answers >= max(EDGE, EDGE_SHARE * self.rate))
        if is_edge:
            self.wins_needed = WINS if load <= self.proven else 1
            self._set(min(self.rate, load - 1), now)
            self.proven = min(self.proven, load - 1)
        else:
            self.wins_needed = 1
            self._set(DECREASE * (min(self.rate, load) if load > 1 else self.rate), now)
            self.proven = 0.0

    def _won(self, load: int, now: float) -> None:
        """A load was answered that was refused before: the rate may climb, unless that was luck."""
        self.wins += 1
        if self.wins < self.wins_needed:
            self.probe_at, self.probe_sent = now + HOLD * self.allowed()[1], math.inf
            return
        self.ceiling = self.probe_at = self.probe_sent = math.inf
        self.wins = 0
        self._set(max(self.rate, load), now)
        self.climb_at = now + HOLD * self.allowed()[1]

    @property
    def _is_patient(self) -> bool:
        """Single refusals say little: at many calls a second, or where the vendor is known to refuse at random."""
        return self.rate >= MANY or self.random.are_known

    def _is_random(self, granted: float, load: int, now: float) -> bool:
        self._weigh(self.random.refused(granted, load), now)
        if not self._is_patient:
            return False
        patience = self.random.patience()
        if load > self.proven:
            patience = max(2, patience - 2) if self.random.are_known else 2
        return self.random.run < patience

    def _weigh(self, block: tuple[float, int] | None, now: float) -> None:
        if self.random.is_new:
            self._restore(now)
        if block is None or not self._is_patient:
            return
        share, answers = block
        was_trying = self.random.is_trying
        rate = self.random.judge(share, self.rate, answers)
        if was_trying and not self.random.is_trying:
            self.probe_at = min(self.probe_at, now + FIRST_PROBE)
        if rate > self.rate:
            self.ceiling = self.probe_at = math.inf
        elif rate < self.rate:
            self.ceiling = math.floor(rate) + 1
            self.probe_at = now + FIRST_PROBE if not self.random.is_trying else math.inf
            self.changed_at = now
        self._set(rate, now)

    def _restore(self, now: float) -> None:
        """Random refusals have become known: the rate is what was answered before they were taken for an edge."""
        self.random.is_new = False
        if self.random.peak > self.rate:
            self.ceiling = self.probe_at = self.probe_sent = math.inf
            self.proven = self.random.peak
            self.changed_at = now
            self._set(self.random.peak, now)

    def _set(self, rate: float, now: float) -> None:
        self.rate = rate = min(self.told, max(LOWEST, rate))
        if self.since == -math.inf or abs(rate - self.held) > max(1.0, ABOUT * self.held):
            self.held, self.since = rate, now

    def _climb(self, now: float) -> None:
        step = max(1.0, self.rate * INCREASE)
        if not math.isfinite(self.ceiling):
            step, self.stride = min(step, self.stride), 2 * self.stride
        target = self.rate * 2 if self.rate < 1 else math.floor(self.rate + step)
        target = min(target, self.ceiling - 1)
        if target > self.rate:
            self._set(target, now)
            self.probe_at = min(self.probe_at, now + FIRST_PROBE) if math.isfinite(self.ceiling) else math.inf

    def _pause_between_probes(self, now: float) -> float:
        longest = max(LONGEST_PROBE, 50 / self.rate)
        return min(longest, max(FIRST_PROBE, PROBE_SHARE * (now - self.since)))

    def _without_refused(self, granted: float, load: int) -> int:
        unknown_then = sum(1 for sent, learned in self.refusals if granted - 1 < sent <= granted < learned)
        return max(1, load - unknown_then)
