"""Stops a run that only fails: a vendor that is down, or a setting that every image is refused for."""

from __future__ import annotations

from dataclasses import dataclass

from imgtag_pipeline.errors import BreakerOpen, ConfigError
from imgtag_pipeline.model import Outcome


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a run stops by itself. Only images that a vendor was asked about count, never files that are missing.

    `unanswered_in_a_row`: images without an answer, all with one code (the vendor is down). `refused_in_a_row`: images
    refused with one code (a setting is wrong). `failed_share` of the last `window` images, 0..1, None for no limit.
    """

    unanswered_in_a_row: int = 20
    refused_in_a_row: int = 200
    failed_share: float | None = 0.95
    window: int = 1000

    def __post_init__(self) -> None:
        if min(self.unanswered_in_a_row, self.refused_in_a_row, self.window) < 1:
            raise ConfigError("the breaker's limits count images; allowed: whole numbers of 1 or more")
        if self.failed_share is not None and not 0 < self.failed_share <= 1:
            raise ConfigError(f"failed_share is {self.failed_share}; allowed: above 0 up to 1, or None")


@dataclass(slots=True)
class Breaker:
    """Counts the outcomes of one run as they come."""

    limits: BreakerLimits
    _code: str | None = None
    _in_a_row: int = 0
    _seen: int = 0
    _failed: int = 0

    def note(self, outcome: Outcome) -> BreakerOpen | None:
        """Count this outcome; the error to stop with, when it was one too many."""
        if outcome.calls == 0:
            return None
        if outcome.status != "failed":
            self._code, self._in_a_row = None, 0
            return self._share(is_failed=False)
        self._in_a_row = self._in_a_row + 1 if outcome.error_code == self._code else 1
        self._code = outcome.error_code
        is_unanswered = not outcome.is_final or outcome.billed == "unknown"
        limit = self.limits.unanswered_in_a_row if is_unanswered else self.limits.refused_in_a_row
        if self._in_a_row >= limit:
            return BreakerOpen(
                f"{self._in_a_row} images in a row failed with {self._code} ({outcome.error}); nothing more is sent. "
                "Put the cause right and run again to go on"
            )
        return self._share(is_failed=True)

    def _share(self, *, is_failed: bool) -> BreakerOpen | None:
        self._seen += 1
        self._failed += is_failed
        if self.limits.failed_share is None or self._seen < self.limits.window:
            return None
        share = self._failed / self._seen
        self._seen = self._failed = 0
        if share <= self.limits.failed_share:
            return None
        return BreakerOpen(
            f"{share:.0%} of the last {self.limits.window:,} images failed, the last with {self._code}; nothing more "
            "is sent. Put the cause right and run again to go on"
        )
