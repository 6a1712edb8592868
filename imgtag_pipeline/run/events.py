"""What happens in a run, as frozen values: for an observer, and as log lines with the same fields."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final

from imgtag_pipeline.urls import redact

if TYPE_CHECKING:
    from imgtag_pipeline.run.report import RunReport

# Of the report's fields, those that a log line of `run_end` shows.
_OF_THE_REPORT: Final = (
    *("rows", "images", "known", "ok", "empty", "failed", "unanswered", "calls", "retries", "yuan", "elapsed"),
    *("throttled_seconds", "possibly_billed_count", "stopped", "exit_code"),
)
_TO_QUOTE: Final = (" ", "=", '"', "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in the run named `run`. `event` is its name, `level` that of its log line."""

    event: ClassVar[str]
    level: ClassVar[int] = logging.INFO
    run: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the event's name and its fields, without secrets."""
        return {"event": self.event, **{item.name: _hidden(getattr(self, item.name)) for item in fields(self)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStart(Event):
    """All is open, no call has been made. `qps` is the pace to begin with, None where nothing limits it."""

    event = "run_start"
    provider: str
    rows: int | None
    concurrency: int
    qps: float | None
    checkpoint: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Event):
    """How far the run is, at most ten times a second.

    `images` are the distinct ones seen so far, `images_expected` an estimate for all rows (exact once all were seen,
    None where the input does not say how many rows it has). `done` have an outcome, `known` of them without a call.
    `rate` is images a second lately, `pace` the calls a second that are allowed just now, `eta` seconds. `cap_used`
    is the share (0 to 1) of `max_calls` or `budget` that this run has spent, whichever is higher. `throttled` counts
    calls.
    """

    event = "progress"
    run: str = ""
    rows_done: int
    total_rows: int | None
    images: int
    done: int
    known: int
    failed: int
    calls: int
    yuan: float | None
    images_expected: int | None = None
    elapsed: float = 0.0
    rate: float | None = None
    pace: float | None = None
    eta: float | None = None
    throttled: int = 0
    retries: int = 0
    cap_used: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled(Event):
    """So many calls were refused for being too fast since the last event of the kind, at most one a second a code."""

    event = "throttled"
    code: str
    count: int
    retry_after: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Event):
    """So many calls failed and are tried again, at most one event a second for each code."""

    event = "retry"
    code: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceChanged(Event):
    """The calls a second that are allowed have changed, by what the vendor answered."""

    event = "pace"
    before: float
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerOpened(Event):
    """The run stops by itself, since it only fails."""

    event = "breaker"
    level = logging.ERROR
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CapReached(Event):
    """The run stops, since `max_calls` or `budget` is used up."""

    event = "cap"
    level = logging.WARNING
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fatal(Event):
    """The run stops for a refusal that concerns every image, or for a store that cannot be written."""

    event = "fatal"
    level = logging.ERROR
    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed(Event):
    """Answers of the journal now stand in a Parquet part of the checkpoint."""

    event = "sealed"
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd(Event):
    """The run is over; `report` is what the caller gets."""

    event = "run_end"
    report: RunReport

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the figures of the report."""
        report = self.report.to_dict()
        return {"event": self.event, "run": self.run, **{name: _hidden(report[name]) for name in _OF_THE_REPORT}}


def _hidden(value: Any) -> Any:
    return redact(value) if isinstance(value, str) else value


def text_of(facts: dict[str, Any]) -> str:
    """Fields as `name=value`, without those that say nothing; what holds blanks stands in quotes."""
    words = []
    for name, value in facts.items():
        if value is None or value == {}:
            continue
        if isinstance(value, dict):
            value = ",".join(f"{key}:{count}" for key, count in value.items())
        text = redact(f"{value:.6g}" if isinstance(value, float) else str(value))
        if not text or any(mark in text for mark in _TO_QUOTE):
            text = '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'
        words.append(f"{name}={text}")
    return " ".join(words)
