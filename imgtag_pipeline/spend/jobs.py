"""Named jobs: caps that all runs of one name spend from, and what each day's calls came to.

A job's count outlives its runs, orderly or not. Of the names that were not used for `IDLE_SECONDS`, those not used for
longest are forgotten once more than `MOST_JOBS` are known.
"""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from imgtag_pipeline.errors import ConfigError

MOST_JOBS: Final = 150
IDLE_SECONDS: Final = 2 * 86_400.0
_LONGEST_NAME: Final = 32
_DAYS_KEPT: Final = 4


class Job(msgspec.Struct, array_like=True):
    """The caps of one name and what was spent of them; `seen` is the time of its last use."""

    calls: int = 0
    committed: int = 0
    seen: int = 0
    max_calls: int | None = None
    budget: int | None = None


def name_of(job: str) -> str:
    """The name as it stands in the book, where every byte counts."""
    is_short = len(job) <= _LONGEST_NAME and job.isascii() and job.isprintable()
    return job if is_short else "#" + hashlib.sha256(job.encode()).hexdigest()[: _LONGEST_NAME - 1]


def named(jobs: dict[str, Job], job: str, now: float) -> Job:
    """The job of this name, made where nobody has used it."""
    found = jobs.get(name_of(job))
    if found is None:
        _make_room(jobs, now)
        found = jobs[name_of(job)] = Job()
    found.seen = int(now)
    return found


def enter(days: dict[str, int], day: str, micro_yuan: int) -> None:
    """Add to what the day's calls came to; only the latest days are kept."""
    days[day] = days.get(day, 0) + micro_yuan
    for old in sorted(days)[:-_DAYS_KEPT]:
        del days[old]


def _make_room(jobs: dict[str, Job], now: float) -> None:
    while len(jobs) >= MOST_JOBS:
        oldest = min(jobs, key=lambda name: jobs[name].seen)
        if now - jobs[oldest].seen < IDLE_SECONDS:
            raise ConfigError(
                f"job= is the {MOST_JOBS + 1}. name within {IDLE_SECONDS / 86_400:g} days; the book of calls keeps "
                f"{MOST_JOBS}: give one name to all partitions of a job"
            )
        del jobs[oldest]
