"""Whether and when a failed call may be repeated, by what a repetition may cost.

Not billed: again within a time limit. Unknown: at most `max_paid_attempts`, counted as paid. Billed: never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imgtag_pipeline.errors import BreakerOpen, CallError, ConfigError, ThrottledError
from imgtag_pipeline.run.report import Spent


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often one image is tried; seconds.

    Unbilled failures of a call are repeated until `time_limit` after the first one; throttled ones do not count for
    that. No call about an image is repeated later than `deadline` after the image's first failure of any kind, and a
    vendor that asks for a longer pause than that stops the run. A call that may have been billed is made at most
    `max_paid_attempts` times, also where it was throttled (IMM bills 4xx). Waits have full jitter: uniform between 0
    and `base * 2**n`, at most `cap`.
    """

    max_paid_attempts: int = 2
    time_limit: float = 60.0
    deadline: float = 900.0
    base: float = 0.5
    cap: float = 20.0

    def __post_init__(self) -> None:
        if self.max_paid_attempts < 1:
            raise ConfigError(f"max_paid_attempts is {self.max_paid_attempts}; allowed: 1 or more")
        for name in ("time_limit", "deadline", "base", "cap"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: 0 to 86,400 seconds")


@dataclass(slots=True)
class RetryState:
    """The failures of one call so far. Moments are those of the monotonic clock; `random` gives 0 up to 1."""

    policy: RetryPolicy
    spent: Spent
    random: Callable[[], float]
    most_attempts: int | None = None
    attempts: int = 0
    since: float | None = None
    last: CallError | None = None

    def throttled(self, error: ThrottledError, now: float) -> None:
        """The pacer holds everybody back; this raises where the image, or the run, is not to wait for it."""
        if error.retry_after and error.retry_after > self.policy.deadline:
            raise BreakerOpen(
                f"the vendor asks for a pause of {error.retry_after:,.0f} s ({error}), longer than the deadline of "
                f"{self.policy.deadline:,.0f} s; run again after the pause to go on"
            )
        if error.billing != "no" and self.spent.paid_attempts >= self.policy.max_paid_attempts:
            raise error
        self._note(error, now, error.retry_after or 0.0)

    def failed(self, error: CallError, now: float) -> float:
        """Seconds to wait before the next attempt; raises the error where there is to be none."""
        self.attempts += 1
        self.since = now if self.since is None else self.since
        limits = [limit for limit in (error.max_attempts, self.most_attempts) if limit is not None]
        is_over = any(self.attempts >= limit for limit in limits) or error.billing == "yes"
        if error.billing == "unknown" and self.spent.paid_attempts >= self.policy.max_paid_attempts:
            is_over = True
        asked: float = error.retry_after or 0.0
        if is_over or now + asked - self.since > self.policy.time_limit:
            raise error
        ceiling = min(self.policy.cap, self.policy.base * 2 ** min(self.attempts - 1, 30))
        wait: float = max(asked, ceiling * self.random())
        self._note(error, now, wait)
        return wait

    def raise_when_late(self, now: float) -> None:
        """Raise the last failure when the image's deadline has passed while leave to send was waited for."""
        if self.last is not None:
            self._note(self.last, now, 0.0)

    def _note(self, error: CallError, now: float, wait: float) -> None:
        self.last = error
        if self.spent.failing_since is None:
            self.spent.failing_since = now
        if now + wait - self.spent.failing_since > self.policy.deadline:
            raise error
