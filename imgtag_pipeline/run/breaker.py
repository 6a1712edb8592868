"""Stops a run that only fails: a vendor that is down, or a setting that every image is refused for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imgtag_pipeline.errors import BreakerOpen, ConfigError
from imgtag_pipeline.model import Outcome

# How codes begin that are about the single image or its URL: a table may begin with many of these.
_OF_THE_IMAGE: Final = (
    *("NoSuchKey", "InvalidObject", "ImageTooLarge", "InvalidImage", "InvalidFile", "IllegalUrl", "UnsupportedFormat"),
    *("HTTP404", "HTTP410", "-11", "-13", "-14", "-15"),
)


LEAST_OUTCOMES: Final = 50  # before a share of failed images says something


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a run stops by itself. Only images that a vendor was asked about count, never files that are missing.

    `unanswered_in_a_row`: images without an answer, all with one code (the vendor is down). `refused_in_a_row`: images
    refused with one code (a setting is wrong). `refused_at_first`: the same, where no image has had another outcome so
    far; codes that are about the single image (missing, unfit, not to be fetched) do not count. `failed_share`
    of the last `window` images, 0..1, None for no limit.
    """

    unanswered_in_a_row: int = 20
    refused_in_a_row: int = 200
    refused_at_first: int = 10
    failed_share: float | None = 0.95
    window: int = 1000

    def __post_init__(self) -> None:
        if min(self.unanswered_in_a_row, self.refused_in_a_row, self.refused_at_first, self.window) < 1:
            raise ConfigError("the breaker's limits count images; allowed: whole numbers of 1 or more")
        if self.failed_share is not None and not 0 < self.failed_share <= 1:
            raise ConfigError(f"failed_share is {self.failed_share}; allowed: above 0 up to 1, or None")


@dataclass(slots=True)
class Breaker:
    """Counts the outcomes of one run as they come."""

    limits: BreakerLimits
    stop_failed: Callable[[int], float] | None = None  # failed images that are allowed among so many
    stop_text: str = ""
    _outcomes: int = 0
    _all_failed: int = 0
    _code: str | None = None
    _in_a_row: int = 0
    _is_first_code: bool = True
    _seen: int = 0
    _failed: int = 0

    def note(self, outcome: Outcome) -> BreakerOpen | None:
        """Count this outcome; the error to stop with, when it was one too many."""
        if self.stop_failed is not None and (stopped := self._too_many(outcome)) is not None:
            return stopped
        if outcome.calls == 0:
            return None
        if outcome.status != "failed":
            self._code, self._in_a_row, self._is_first_code = None, 0, False
            return self._share(is_failed=False)
        is_one_code = self._code in (None, outcome.error_code)
        is_of_the_run = not (outcome.error_code or "").startswith(_OF_THE_IMAGE)
        self._is_first_code = self._is_first_code and is_one_code and is_of_the_run
        self._in_a_row = self._in_a_row + 1 if outcome.error_code == self._code else 1
        self._code = outcome.error_code
        is_unanswered = not outcome.is_final or outcome.billed == "unknown"
        limit = self.limits.unanswered_in_a_row if is_unanswered else self.limits.refused_in_a_row
        if self._is_first_code and not is_unanswered:
            limit = min(limit, self.limits.refused_at_first)
        if self._in_a_row >= limit:
            return BreakerOpen(
                f"{self._in_a_row} images in a row failed with {self._code} ({outcome.error}); nothing more is sent. "
                "Put the cause right and run again to go on"
            )
        return self._share(is_failed=True)

    def _too_many(self, outcome: Outcome) -> BreakerOpen | None:
        """The caller's own limit: of all images that have an outcome, also those that no vendor was asked about."""
        assert self.stop_failed is not None
        self._outcomes += 1
        self._all_failed += outcome.status == "failed"
        if outcome.status != "failed" or self._all_failed <= self.stop_failed(self._outcomes):
            return None
        if self.stop_text.endswith("%") and self._outcomes < LEAST_OUTCOMES:
            return None
        return BreakerOpen(
            f"{self._all_failed:,} of {self._outcomes:,} images failed, more than stop_failed={self.stop_text} "
            f"(--stop-failed), the last with {outcome.error_code}; run again to go on"
        )

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
