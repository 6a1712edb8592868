"""The tag store of a run without `checkpoint`: the same answers, for as long as the process lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np
import pyarrow as pa

from imgtag_pipeline.checkpoint.catalog import Catalog, Known
from imgtag_pipeline.checkpoint.other_writers import Recovered
from imgtag_pipeline.checkpoint.rows import microseconds, outcomes_to_batch
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Job, Outcome

_SETTLE_ROWS: Final = 50_000
_BATCH_ROWS: Final = 512


class MemoryStore:
    """Nothing outlives the run; nothing is shared."""

    def __init__(self, *, run_id: str, clock: Clock) -> None:
        self.possibly_billed: list[str] = []
        self.recovered = asdict(Recovered())
        self._run_id = run_id
        self._clock = clock
        self._shelf = Catalog([], cache_bytes=0)
        self._source = self._shelf.new_source()
        self._rows = 0
        self._pending: list[tuple[Outcome, int, int]] = []
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._is_closed = False

    def tell_sealed(self, tell: Callable[[int], None]) -> None:
        """Nothing is sealed in memory."""

    def lookup(self, keys: Sequence[str], *, retry_failed: bool = False) -> list[Known | None]:
        """What is known of each key; None means ask."""
        return self._shelf.known(keys, retry_failed=retry_failed)

    def jobs(self, keys: Sequence[str]) -> dict[str, Job]:
        """The vendor jobs of these keys that have not been answered."""
        return {key: job for key in keys if (job := self._jobs.get(key))}

    def attempts(self, key: str) -> int:
        """How many outcomes this image has had."""
        return int(self._shelf.index.find([key]).attempts[0])

    def take(self, keys: Sequence[str]) -> pa.RecordBatch:
        """The outcome of each key, in order."""
        self._build()
        return self._shelf.take(keys)

    async def mark_sent(self, keys: Sequence[str]) -> None:
        """Nothing: a run without a checkpoint cannot be continued."""
        self._check()

    async def clear_sent(self, keys: Sequence[str]) -> None:
        """Nothing, as `mark_sent`."""
        self._check()

    async def save(self, outcomes: Sequence[Outcome]) -> None:
        """Keep these outcomes."""
        self._check()
        keys = [outcome.key for outcome in outcomes]
        found = self._shelf.index.find(keys)
        now = microseconds(self._clock.now())
        at = [max(now, earlier + 1) for earlier in found.at.tolist()]
        before = found.attempts.astype(np.int64).tolist()
        attempts = [more + outcome.attempts for more, outcome in zip(before, outcomes, strict=True)]
        with self._lock:
            self._pending += zip(outcomes, at, attempts, strict=True)
            self._shelf.announce(self._source, self._rows, keys, [o.status for o in outcomes], at, attempts)
            self._rows += len(outcomes)
        for key in keys:
            self._jobs.pop(key, None)
        if len(self._pending) >= _BATCH_ROWS:
            self._build()
        if self._rows >= _SETTLE_ROWS:
            self._build()
            self._shelf.settle(self._source)
            self._source, self._rows = self._shelf.new_source(), 0

    async def save_job(self, key: str, job: Job) -> None:
        """Keep this job until the key is answered."""
        self._check()
        self._jobs[key] = job

    async def claim(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """All keys that are not known: there is nobody else."""
        return _unknown(keys, self.lookup(keys, retry_failed=retry_failed))

    async def release(self, keys: Sequence[str]) -> None:
        """Nothing: there is nobody else."""

    async def wait_for(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """Those of the keys that are known."""
        return set(keys) - _unknown(keys, self.lookup(keys, retry_failed=retry_failed))

    async def refresh(self) -> None:
        """Nothing: there is nobody else."""

    async def flush(self) -> None:
        """Nothing: there is no disk."""

    async def close(self) -> None:
        """Accept nothing any more; what is known can still be taken."""
        self._is_closed = True

    def _build(self) -> None:
        """Outcomes become Arrow many at a time, which costs a tenth of one at a time."""
        with self._lock:
            if self._pending:
                outcomes, at, attempts = zip(*self._pending, strict=True)
                self._pending = []
                batch = outcomes_to_batch(outcomes, run=self._run_id, at=at, attempts=attempts)
                self._shelf.add_rows(self._source, batch)

    def _check(self) -> None:
        if self._is_closed:
            raise StoreError("the tag store is closed")


def _unknown(keys: Sequence[str], known: Sequence[Known | None]) -> set[str]:
    return {key for key, status in zip(keys, known, strict=True) if status is None}
