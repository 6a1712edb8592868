"""Turns journal segments into parts, on a thread of its own. A segment is removed only after its part is in place."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

import pyarrow as pa

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.compaction import missing_from
from imgtag_pipeline.checkpoint.layout import PART_SUFFIX
from imgtag_pipeline.checkpoint.parts import PartFolder, joined, split_parts

log = logging.getLogger("imgtag_pipeline")


class Sealable(Protocol):
    """A segment that will not grow any more."""

    @property
    def name(self) -> str:
        """Its name without the suffix."""
        ...

    def remove(self) -> None:
        """Delete it."""
        ...

    def close(self) -> None:
        """Leave it to be adopted."""
        ...


class Worker:
    """A thread that runs what it is given, in order; started at the first piece of work."""

    def __init__(self, name: str) -> None:
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._name = name

    def submit(self, work: Callable[[], None]) -> None:
        """Run it after what was submitted before. What it raises is logged, and stops nothing else."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._queue.put(work)

    def stop(self) -> None:
        """End after what was submitted before."""
        if self._thread is not None:
            self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception as error:  # whatever it is, somebody waits for what comes after it
                log.warning("event=store_work_failed detail=%s", type(error).__name__)


@dataclass(slots=True)
class Task:
    """A segment, and the source that holds its rows; `is_stored` once they stand in parts."""

    segment: Sealable
    source: int
    is_stored: bool = False


class Sealer:
    """Seals segments into `folder` as parts of at most `max_bytes`. What fails is kept and tried again later."""

    def __init__(self, shelf: Catalog, folder: PartFolder, *, run: str, max_bytes: int) -> None:
        self._shelf = shelf
        self._folder = folder
        self._run = run
        self._max_bytes = max_bytes
        self._waiting: list[Task] = []
        self.error: Exception | None = None
        self.on_sealed: Callable[[int], None] = lambda rows: None

    def seal(self, task: Task) -> None:
        """Seal this one and those that failed before; never raises, see `error`."""
        self._waiting.append(task)
        self.retry()

    def retry(self) -> None:
        """Seal what failed before."""
        self.error = None
        tasks, self._waiting = self._waiting, []
        for task in tasks:
            try:
                self._seal(task)
            except Exception as error:  # whatever it is, the segment stays, and this thread has more to do
                self.error = error
                self._waiting.append(task)

    def close(self) -> list[str]:
        """Leave what could not be sealed to a later run; returns the names of those segments."""
        names = [task.segment.name for task in self._waiting]
        for task in self._waiting:
            task.segment.close()
        self._waiting = []
        return names

    def _seal(self, task: Task) -> None:
        if not task.is_stored:
            self._store(task)
            task.is_stored = True
        task.segment.remove()

    def _store(self, task: Task) -> None:
        batches = self._shelf.rows(task.source)
        stem = task.segment.name
        if batches and not self._shelf.has_part(_part_name(stem, 0)):
            self._shelf.settle(task.source, self._put(stem, 0, joined(batches)))
            return
        if batches:
            self._store_rest(stem, joined(batches))
        self._shelf.forget(task.source)

    def _store_rest(self, stem: str, rows: pa.Table) -> None:
        """A segment that was sealed before came back, and may say less by now: its parts stay as they are."""
        number = 0
        while self._shelf.has_part(_part_name(stem, number)):
            rows = missing_from(self._shelf.piece(_part_name(stem, number)), rows)
            number += 1
        if rows.num_rows:
            self._put(stem, number, rows)
            self._shelf.read_parts()

    def _put(self, stem: str, first: int, rows: pa.Table) -> list[str]:
        names = []
        for number, data in enumerate(split_parts(rows, run=self._run, max_bytes=self._max_bytes), first):
            names.append(_part_name(stem, number))
            self._folder.put(names[-1], data)
        self.on_sealed(rows.num_rows)
        return names


def _part_name(stem: str, number: int) -> str:
    return f"{stem}-{number}{PART_SUFFIX}"
