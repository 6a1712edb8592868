"""Hands the events of a run to its observers and to the log. An observer that raises is dropped; the run goes on."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import BreakerOpen, CallError, CapReached, FatalError, StoreError, ThrottledError
from imgtag_pipeline.run import events
from imgtag_pipeline.run.report import RunReport, Tally
from imgtag_pipeline.urls import redact

log = logging.getLogger("imgtag_pipeline")

Observer = Callable[[events.Event], object]

PROGRESS_EVERY: Final = 0.1  # seconds between two events of progress
GROUP_EVERY: Final = 1.0  # seconds for which equal troubles are counted together
RATE_SECONDS: Final = 10.0  # over which the rate is measured
PACE_STEP: Final = 0.05  # share by which the pace has to change to be told
TICK: Final = 1.0  # seconds after which progress is told although nothing has happened
LOG_AFTER: Final = (10.0, 20.0, 30.0, 60.0, 120.0, 300.0)  # seconds between two log lines of progress; the last stays


@dataclass(slots=True, eq=False)
class Watch:
    """What one run tells. Used on the run's event loop only."""

    clock: Clock
    run: str = ""
    observers: Sequence[Observer] = ()
    pace: Callable[[], float | None] = lambda: None
    max_calls: int | None = None
    budget: float | None = None
    began: float = field(default=0.0, init=False)
    _told_at: float = field(default=float("-inf"), init=False)
    _log_at: float = field(default=0.0, init=False)
    _logged: int = field(default=0, init=False)
    _samples: deque[tuple[float, int]] = field(default_factory=deque, init=False)
    _pace: float | None = field(default=None, init=False)
    _pace_at: float = field(default=float("-inf"), init=False)
    _groups: Counter[tuple[str, str]] = field(default_factory=Counter, init=False)
    _retry_after: dict[str, float] = field(default_factory=dict, init=False)
    _has_stopped: bool = field(default=False, init=False)
    _grouped_at: float = field(default=float("-inf"), init=False)

    def __post_init__(self) -> None:
        self.observers = list(self.observers)
        self.began = self.clock.monotonic()
        self._log_at = self.began + LOG_AFTER[0]
        self._samples.append((self.began, 0))
        self._pace = self.pace()

    def is_heard(self) -> bool:
        """Whether anybody sees the events: an observer, or the log at INFO."""
        return bool(self.observers) or log.isEnabledFor(logging.INFO)

    async def ticks(self, tell: Callable[[], None]) -> None:
        """Call `tell` every second until cancelled, so that progress is told while a vendor does not answer."""
        while True:
            await self.clock.sleep(TICK)
            tell()

    def tell(self, event: events.Event, *, is_logged: bool = True) -> None:
        """Hand one event to everybody."""
        for observer in list(self.observers):
            try:
                observer(event)
            except Exception as error:  # whatever it is, it is the observer's, and the run is paid for
                self.observers = [other for other in self.observers if other is not observer]
                log.warning("event=observer_dropped type=%s detail=%s", type(error).__name__, redact(str(error)))
        if is_logged and log.isEnabledFor(event.level):
            facts = event.to_dict()
            log.log(event.level, "%s", events.text_of(facts), extra={"imgtag": facts})

    def progress(self, tally: Tally, total_rows: int | None, *, is_last: bool = False) -> None:
        """Tell how far the run is, when it was told long enough ago."""
        now = self.clock.monotonic()
        if now - self._told_at < PROGRESS_EVERY and not is_last:
            return
        self._told_at = now
        is_logged = now >= self._log_at
        if not self.observers and not (is_logged and log.isEnabledFor(logging.INFO)) and not self._groups:
            return
        if is_logged:
            self._logged += 1
            self._log_at = now + LOG_AFTER[min(self._logged, len(LOG_AFTER) - 1)]
        self.tell(self._progress(tally, total_rows, now), is_logged=is_logged)
        self._tell_pace(now)
        self._flush(now)

    def _progress(self, tally: Tally, total_rows: int | None, now: float) -> events.Progress:
        event = tally.progress(total_rows)
        self._samples.append((now, event.done - event.known))
        while len(self._samples) > 2 and now - self._samples[0][0] > RATE_SECONDS:
            self._samples.popleft()
        (earlier, before), (later, after) = self._samples[0], self._samples[-1]
        rate = (after - before) / (later - earlier) if later - earlier > 0.5 else None
        pace = self.pace()
        expected = event.images_expected
        left = None if expected is None else max(0, expected - event.done)
        return replace(
            event,
            run=self.run,
            elapsed=round(now - self.began, 3),
            rate=None if rate is None else round(rate, 3),
            pace=pace,
            eta=_eta(left, rate, pace, event),
            cap_used=self._cap_used(tally, event.yuan),
        )

    def _cap_used(self, tally: Tally, yuan: float | None) -> float | None:
        shares = [tally.calls / self.max_calls] if self.max_calls else []
        shares += [yuan / self.budget] if self.budget and yuan is not None else []
        return round(min(1.0, max(shares)), 4) if shares else None

    def _tell_pace(self, now: float) -> None:
        pace = self.pace()
        if pace is None or now - self._pace_at < GROUP_EVERY:
            return
        before, self._pace_at = self._pace, now
        if before is None or abs(pace - before) > PACE_STEP * before:
            self._pace = pace
            if before is not None:
                self.tell(events.PaceChanged(run=self.run, before=round(before, 3), now=round(pace, 3)))

    def troubled(self, error: CallError) -> None:
        """A call failed and is tried again; equal ones are told together."""
        if not self.is_heard():
            return
        kind = "throttled" if isinstance(error, ThrottledError) else "retry"
        self._groups[kind, error.code] += 1
        if isinstance(error, ThrottledError) and error.retry_after is not None:
            self._retry_after[error.code] = error.retry_after
        self._flush(self.clock.monotonic())

    def _flush(self, now: float) -> None:
        if not self._groups or now - self._grouped_at < GROUP_EVERY:
            return
        self._grouped_at = now
        groups, self._groups = self._groups, Counter()
        for (kind, code), count in sorted(groups.items()):
            if kind == "throttled":
                wait = self._retry_after.pop(code, None)
                self.tell(events.Throttled(run=self.run, code=code, count=count, retry_after=wait))
            else:
                self.tell(events.Retry(run=self.run, code=code, count=count))

    def stopped(self, error: BaseException) -> None:
        """The run stops: say why, once, where that is no wish of the caller's."""
        if self._has_stopped:
            return
        self._has_stopped = True
        reason = redact(str(error))
        if isinstance(error, BreakerOpen):
            self.tell(events.BreakerOpened(run=self.run, reason=reason))
        elif isinstance(error, CapReached):
            self.tell(events.CapReached(run=self.run, reason=reason))
        elif isinstance(error, FatalError | StoreError):
            code = error.code if isinstance(error, FatalError) else type(error).__name__
            self.tell(events.Fatal(run=self.run, code=code, reason=reason))

    def ended(self, report: RunReport) -> None:
        """Tell what is left to tell, and the report."""
        self._grouped_at = float("-inf")
        self._flush(self.clock.monotonic())
        self.tell(events.RunEnd(run=self.run, report=report))


def _eta(left: int | None, rate: float | None, pace: float | None, event: events.Progress) -> float | None:
    """Seconds for what is left: by the pace that the quota allows, or by the rate where that is lower."""
    if left is None or left == 0:
        return None if left is None else 0.0
    asked = event.done - event.known
    calls = event.calls / asked if event.calls and asked > 0 else 1.0
    speeds = [pace / max(1.0, calls)] if pace else []
    speeds += [rate] if rate else []
    return round(left / min(speeds), 1) if speeds else None
