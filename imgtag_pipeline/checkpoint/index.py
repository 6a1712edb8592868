"""Which row is the winning outcome of each key: sorted arrays of key hashes for what is stored, dicts for what is new.

About 31 bytes a key in the arrays. Safe from any thread; readers never wait.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.checkpoint.hash import digests

Array = np.ndarray[Any, Any]

FAILED, EMPTY, OK = 0, 1, 2
STATUSES: Final = ("failed", "empty", "ok")
Recent = tuple[tuple[int, "dict[str, Entry]"], ...]

_MAX_ATTEMPTS: Final = 65535
ROW_BITS: Final = 32


class Entry(NamedTuple):
    """The winning outcome of one key: status code, when (microseconds), where (source << 32 | row), attempts."""

    status: int
    at: int
    place: int
    attempts: int


@dataclass(frozen=True, slots=True)
class SortedRun:
    """Winners sorted by hash; columns side by side."""

    high: Array
    low: Array
    status: Array
    at: Array
    place: Array
    attempts: Array

    def __len__(self) -> int:
        return len(self.high)

    def pick(self, rows: Array) -> SortedRun:
        """These rows."""
        return SortedRun(*(column[rows] for column in self._columns()))

    def _columns(self) -> tuple[Array, ...]:
        return self.high, self.low, self.status, self.at, self.place, self.attempts

    def find(self, hashes: Array) -> Array:
        """The row of each hash, -1 where there is none."""
        if not len(self):
            return np.full(len(hashes), -1)
        first = np.searchsorted(self.high, hashes["high"])
        first[first == len(self)] = 0
        same = self.high[first] == hashes["high"]
        found = np.where(same & (self.low[first] == hashes["low"]), first, -1)
        for i in np.flatnonzero(same & (found < 0)):  # two keys alike in the first 64 bits
            row = int(first[i]) + 1
            while row < len(self) and self.high[row] == hashes["high"][i]:
                if self.low[row] == hashes["low"][i]:
                    found[i] = row
                row += 1
        return found


def level_of(keys: Sequence[str], status: Array, at: Array, place: Array, attempts: Array) -> SortedRun:
    """A level of these rows; where a key comes twice, the winner."""
    hashes = digests(keys)
    clipped = np.minimum(attempts, _MAX_ATTEMPTS).astype(np.uint16)
    return _settled(
        [SortedRun(hashes["high"], hashes["low"], status.astype(np.int8), at, place.astype(np.uint64), clipped)]
    )


def level_of_rows(rows: pa.Table | pa.RecordBatch, *, place: int, places: Array | None = None) -> SortedRun:
    """A level of stored outcomes, the first of which lies at `place`, or each at its own of `places`."""
    status = pc.fill_null(pc.index_in(rows.column("status"), pa.array(STATUSES)), FAILED)
    at = pc.fill_null(rows.column("at").cast(pa.int64()), 0)
    attempts = pc.fill_null(rows.column("attempts"), 1)
    if places is None:
        places = np.arange(place, place + rows.num_rows, dtype=np.uint64)
    return level_of(rows.column("key").to_pylist(), status.to_numpy(), at.to_numpy(), places, attempts.to_numpy())


def _settled(levels: Sequence[SortedRun]) -> SortedRun:
    """One level of several, older ones first: a success beats a failure, the newest wins, a tie goes to the later."""
    joined = SortedRun(*(np.concatenate(columns) for columns in zip(*(lv._columns() for lv in levels), strict=True)))
    joined = joined.pick(np.argsort(joined.high, kind="stable"))
    twin = joined.high[1:] == joined.high[:-1]
    if not twin.any():
        return joined
    mask = np.zeros(len(joined), bool)
    mask[1:] = twin
    mask[:-1] |= twin
    suspects = joined.pick(np.flatnonzero(mask))
    arrival = np.arange(len(suspects))
    order = np.lexsort((arrival, suspects.at, suspects.status > FAILED, suspects.low, suspects.high))
    suspects = suspects.pick(order)
    ends = np.ones(len(suspects), bool)
    ends[:-1] = (suspects.high[1:] != suspects.high[:-1]) | (suspects.low[1:] != suspects.low[:-1])
    starts = np.concatenate(([0], np.flatnonzero(ends)[:-1] + 1))
    most = np.maximum.reduceat(suspects.attempts, starts)
    winners = suspects.pick(np.flatnonzero(ends))
    winners.attempts[:] = most
    single = joined.pick(np.flatnonzero(~mask))
    both = SortedRun(*(np.concatenate(pair) for pair in zip(single._columns(), winners._columns(), strict=True)))
    return both.pick(np.argsort(both.high, kind="stable"))


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a sequence of keys, row by row; `status` is -1 where nothing is."""

    status: Array
    at: Array
    place: Array
    attempts: Array


class Index:
    """All winners. New rows are found by source and key until their source is settled.

    The state is one immutable pair, read without a lock; `_lock` guards its replacement, `_merging` the slow part.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._merging = threading.Lock()
        self._state: tuple[tuple[SortedRun, ...], Recent] = ((), ())

    def find(self, keys: Sequence[str]) -> Found:
        """The winning outcome of each key."""
        count = len(keys)
        levels, recent = self._state
        best = Found(np.full(count, -1, np.int8), np.zeros(count, np.int64), *np.zeros((2, count), np.uint64))
        if levels and count:
            hashes = digests(keys)
            for level in levels:
                _take_better(best, level, level.find(hashes))
        for _, entries in recent:
            if entries:
                _take_better_entries(best, keys, entries)
        return best

    def add_recent(self, source: int, entries: Iterable[tuple[str, Entry]]) -> None:
        """Rows of a source that is still growing, in order."""
        with self._lock:
            levels, recent = self._state
            own = dict(recent).get(source)
            if own is None:
                own = {}
                self._state = (levels, (*recent, (source, own)))
            for key, entry in entries:
                old = own.get(key)
                own[key] = entry if old is None else _better(old, entry)

    def settle(self, source: int) -> None:
        """The source grows no more: its rows move into the sorted arrays."""
        entries = dict(self._state[1]).get(source)
        if not entries:
            self.forget(source)
            return
        status, at, place, attempts = (np.array(column) for column in zip(*entries.values(), strict=True))
        self._push(level_of(list(entries), status, at, place, attempts), settled=source)

    def add_level(self, level: SortedRun) -> None:
        """Stored rows."""
        self._push(level)

    def forget(self, source: int) -> None:
        """Drop an unsettled source's rows, which stand elsewhere by now."""
        with self._lock:
            levels, recent = self._state
            self._state = (levels, tuple(pair for pair in recent if pair[0] != source))

    def recent_sources(self) -> list[int]:
        """The sources that may still grow."""
        return [source for source, _ in self._state[1]]

    def winners(self) -> SortedRun:
        """All winners as one level: what a summary counts."""
        for source in self.recent_sources():
            self.settle(source)
        levels, _ = self._state
        return _settled(levels) if levels else level_of([], *(np.zeros(0, np.int64),) * 4)

    def _push(self, level: SortedRun, settled: int | None = None) -> None:
        with self._merging:
            levels = [*self._state[0], level] if len(level) else list(self._state[0])
            while len(levels) > 1 and len(levels[-2]) <= 2 * len(levels[-1]):
                last = levels.pop()
                levels[-1] = _settled([levels[-1], last])
            with self._lock:
                recent = tuple(pair for pair in self._state[1] if pair[0] != settled)
                self._state = (tuple(levels), recent)


def _better(old: Entry, new: Entry) -> Entry:
    attempts = max(old.attempts, new.attempts)
    wins = ((new.status > FAILED), new.at) >= ((old.status > FAILED), old.at)
    return (new if wins else old)._replace(attempts=attempts)


def _take_better(best: Found, level: SortedRun, rows: Array) -> None:
    hit = np.flatnonzero(rows >= 0)
    at_rows = rows[hit]
    success, had = level.status[at_rows] > FAILED, best.status[hit] > FAILED
    newer = level.at[at_rows] >= best.at[hit]
    wins = (best.status[hit] < 0) | (success & ~had) | ((success == had) & newer)
    best.attempts[hit] = np.maximum(best.attempts[hit], level.attempts[at_rows])
    target, origin = hit[wins], at_rows[wins]
    best.status[target], best.at[target], best.place[target] = (
        level.status[origin],
        level.at[origin],
        level.place[origin],
    )


def _take_better_entries(best: Found, keys: Sequence[str], entries: dict[str, Entry]) -> None:
    for i, key in enumerate(keys):
        entry = entries.get(key)
        if entry is None:
            continue
        if best.status[i] >= 0:
            entry = _better(
                Entry(int(best.status[i]), int(best.at[i]), int(best.place[i]), int(best.attempts[i])), entry
            )
        best.status[i], best.at[i], best.place[i], best.attempts[i] = entry
