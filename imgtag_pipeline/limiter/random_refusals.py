"""Refusals that have nothing to do with the pace: how they are told from a quota's edge, and what share they take.

A full window refuses every call until one of its calls expires. So a refusal is *contradicted* when calls at a clearly
higher load were answered shortly before. A quota that falls contradicts itself once; contradictions that go on mean
that the vendor refuses at random, for example because others use the account as well. What looks random is proven by
a lower rate for one block of answers: refusals at random go on there, those of an edge end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

BLOCK: Final = 200  # answers that are judged together,
TRIAL: Final = 60  # the same while a lower rate is tried,
ENOUGH: Final = 10  # or as many as hold so many refusals
RUN: Final = 4  # refusals in a row that are an edge, where no share of random ones is known
ODDS: Final = 1e-4  # where one is known: as many in a row as this share makes this improbable
MOST_SHARE: Final = 0.45  # of the answers; more is not taken for random
TOLERATED: Final = 0.02  # beyond 1.5 times the known share,
CHANCE: Final = 3.0  # or so many standard deviations beyond it
FADING: Final = 0.99  # weight of older answers, at each answer
CONTRADICTED: Final = 1.9  # refusals, so weighed, that make random ones known
MEMORY: Final = 30.0  # seconds for which the highest answered load is remembered, to be restored
SOON: Final = 3.0  # seconds between a refused call and the one before that contradicts it,
BLUR: Final = 0.05  # at a load higher by one call, or by this share: an edge is no sharper
LEAST_SHARE: Final = 0.004  # below it, none are known any more
SMOOTHING: Final = 0.3  # weight of the newest block in the known share


@dataclass(slots=True)
class RandomRefusals:
    """Counts refusals in blocks of answers and says what rate they call for; knows the usual share of random ones."""

    answers: int = 0
    refusals: int = 0
    run: int = 0  # refusals since the last good answer
    run_since: float = -math.inf
    usual: float = 0.0  # share of answers that are refused at random, 0 where none are known
    tried_rate: float = 0.0  # what is restored when a lower rate does not end the refusals
    tried_share: float = 0.0
    seen: float = 0.0  # answers, older ones fading
    refused_seen: float = 0.0  # refusals, likewise
    contradicted: float = 0.0  # refusals that were contradicted, likewise
    fresh: float = 0.0  # the highest load answered lately, and since the last contradicted refusal
    fresh_at: float = -math.inf
    peak: float = 0.0  # the highest load answered in the last seconds
    peak_at: float = -math.inf
    is_new: bool = False  # known since the last answer
    is_unproven: bool = False  # known, but no lower rate has been tried

    @property
    def are_known(self) -> bool:
        """The vendor is known to refuse at random."""
        return self.usual > 0

    @property
    def is_trying(self) -> bool:
        """A lower rate is in force to see whether the refusals end."""
        return self.tried_rate > 0

    def patience(self) -> int:
        """Refusals in a row that are more than chance."""
        if not self.are_known:
            return RUN
        return max(RUN, math.ceil(math.log(ODDS) / math.log(min(MOST_SHARE, 1.2 * self.usual))))

    def answered(self, granted: float, load: float) -> tuple[float, int] | None:
        """A good answer; the share of refusals when a block of answers is full, and how many these are."""
        if granted > self.run_since:
            self.run = 0
        if load >= self.peak or granted - self.peak_at > MEMORY:
            self.peak, self.peak_at = load, granted
        if load >= self.fresh or granted - self.fresh_at > SOON:
            self.fresh, self.fresh_at = load, granted
        return self._counted()

    def refused(self, granted: float, load: float) -> tuple[float, int] | None:
        """A refusal; the share of refusals when a block of answers is full, and how many these are."""
        if self.run == 0:
            self.run_since = granted
        self.run += 1
        self.refusals += 1
        self.refused_seen += 1
        if self._is_contradicted(granted, load):
            self._contradict()
        return self._counted()

    def judge(self, share: float, rate: float, answers: int) -> float:
        """The rate after a block with this share of refusals.

        If lowering the rate by the share of refusals ends them, the rate was too high. If they go on, the vendor
        refuses at random, and the old rate is restored.
        """
        if self.is_unproven:
            return self._verified(share, rate)
        most = 1.5 * self.usual + TOLERATED
        if self.are_known:
            most = max(most, self.usual + CHANCE * math.sqrt(self.usual / answers))
        if share <= most:
            self.tried_rate = 0.0
            if self.are_known:
                self._learn(share)
            return rate
        if self.tried_rate and self.tried_share / 2 < share < min(MOST_SHARE, 1.5 * self.tried_share + TOLERATED):
            self.usual, rate, self.tried_rate = share, self.tried_rate, 0.0
            return rate
        self.tried_rate, self.tried_share = self.tried_rate or rate, share
        return _lowered(rate, share)

    def _verified(self, share: float, rate: float) -> float:
        if not self.tried_rate:
            self.tried_rate, self.tried_share = rate, share
            return _lowered(rate, share)
        is_random = share > self.tried_share / 2
        rate = self.tried_rate if is_random else rate
        self.usual = share if is_random else 0.0
        self.contradicted = self.tried_rate = 0.0
        self.is_unproven = False
        return rate

    def _is_contradicted(self, granted: float, load: float) -> bool:
        """More calls than these were let through a moment ago, since the last refusal of this kind."""
        return load + max(1.0, BLUR * load) <= self.fresh and granted - self.fresh_at <= SOON

    def _contradict(self) -> None:
        self.contradicted += 1
        self.fresh = 0.0
        if not self.are_known and self.contradicted >= CONTRADICTED:
            self.usual = min(MOST_SHARE, self.refused_seen / self.seen)
            self.tried_rate = 0.0
            self.answers = self.refusals = 0
            self.is_new = self.is_unproven = True

    def _learn(self, share: float) -> None:
        self.usual += SMOOTHING * (share - self.usual)
        if self.usual < LEAST_SHARE:
            self.usual = self.contradicted = 0.0

    def _counted(self) -> tuple[float, int] | None:
        self.seen = FADING * self.seen + 1
        self.refused_seen *= FADING
        self.contradicted *= FADING
        self.answers += 1
        most = TRIAL if self.is_unproven or self.tried_rate else BLOCK
        if self.answers < most and (self.refusals < ENOUGH or self.answers < 2 * ENOUGH):
            return None
        block = self.refusals / self.answers, self.answers
        self.answers = self.refusals = 0
        return block


def _lowered(rate: float, share: float) -> float:
    """Below what was let through of this rate."""
    return rate * (1 - share) - min(1.0, 0.05 * rate)
