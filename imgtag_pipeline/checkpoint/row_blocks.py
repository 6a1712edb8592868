"""Stored rows in blocks of pieces, in memory or in a part's row groups, with a cache bounded by bytes."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from imgtag_pipeline.checkpoint.cache import Cache
from imgtag_pipeline.checkpoint.index import ROW_BITS, Array
from imgtag_pipeline.checkpoint.rows import concat, empty
from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import StoreError

_ROW_MASK: Final = (1 << ROW_BITS) - 1
_FAN: Final = 16


class PartGone(Exception):
    """A part that was listed is no longer there: somebody compacted, and its rows stand in a newer part."""


class Piece(Protocol):
    """Consecutive rows of a source."""

    rows: int

    def take(self, rows: Array) -> pa.RecordBatch:
        """These rows, in the order asked for."""
        ...


class MemoryPiece:
    """Rows held in memory."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self.batch = batch
        self.rows = batch.num_rows

    def take(self, rows: Array) -> pa.RecordBatch:
        """These rows, in the order asked for."""
        return pick(self.batch, rows)


def pick(batch: pa.RecordBatch, rows: Array) -> pa.RecordBatch:
    """These rows; without a copy where they are consecutive."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (len(rows) == 1 or bool((np.diff(rows) == 1).all())):
        return batch.slice(int(rows[0]), len(rows))
    return batch.take(pa.array(rows))


class PartPiece:
    """Rows of one Parquet part, read by row group. `opened` gives a readable file, or raises FileNotFoundError."""

    def __init__(self, name: str, opened: Callable[[], Any], cache: Cache) -> None:
        self.name = name
        self._opened = opened
        self._cache = cache
        self._lock = threading.Lock()
        with self._file() as file:
            meta = file.metadata
            sizes = [meta.row_group(i).num_rows for i in range(meta.num_row_groups)]
        self.rows = sum(sizes)
        self._starts = np.array([0, *accumulate(sizes)], np.int64)

    def columns(self, names: Sequence[str] | None = None) -> pa.Table:
        """Some columns of all rows, or all of them."""
        wanted = pa.schema([schema.OUTCOME.field(name) for name in names or schema.OUTCOME.names])
        try:
            with self._file() as file:
                return file.read(columns=wanted.names).select(wanted.names).cast(wanted)
        except (pa.ArrowException, KeyError, OSError) as error:
            raise damaged(self.name, error) from error

    def take(self, rows: Array) -> pa.RecordBatch:
        """These rows, in the order asked for."""
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        return gather(groups, rows - self._starts[groups], lambda group, local: pick(self._group(group), local))

    def _group(self, number: int) -> pa.RecordBatch:
        return self._cache.get((self.name, number), lambda: self._load(number))

    def _load(self, number: int) -> pa.RecordBatch:
        try:
            with self._lock, self._file() as file:
                rows = file.read_row_group(number).select(schema.OUTCOME.names).cast(schema.OUTCOME)
                return concat(rows.to_batches() or [empty()])
        except (pa.ArrowException, KeyError, OSError) as error:
            raise damaged(self.name, error) from error

    def _file(self) -> Any:
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self._opened(), page_checksum_verification=True)
        except FileNotFoundError:
            raise PartGone(self.name) from None
        except (pa.ArrowException, OSError) as error:
            raise damaged(self.name, error) from error


def damaged(name: str, error: BaseException) -> StoreError:
    """What is said of a part that cannot be read."""
    return StoreError(
        f"part {name} cannot be read ({error}); nothing of it is used: restore it, or move it out of the folder, "
        "which asks about its images again"
    )


class RowBlock:
    """Rows that were written together, numbered from 0; pieces may be replaced by others that hold the same rows."""

    def __init__(self, pieces: Sequence[Piece] = ()) -> None:
        self._lock = threading.Lock()
        self._pieces: list[Piece] = list(pieces)
        self._starts = [0, *accumulate(piece.rows for piece in pieces)]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._starts[-1]

    def append(self, batch: pa.RecordBatch) -> int:
        """Add rows in memory; returns the number of the first. Small batches are merged, so that many stay cheap."""
        with self._lock:
            start = self._starts[-1]
            pieces: list[Piece] = [*self._pieces, MemoryPiece(batch)]
            while (merged := _trailing(pieces)) >= _FAN:
                batches = [piece.batch for piece in pieces[-merged:] if isinstance(piece, MemoryPiece)]
                pieces[-merged:] = [MemoryPiece(concat(batches))]
            self._pieces = pieces
            self._starts = [0, *accumulate(piece.rows for piece in pieces)]
            return start

    def batches(self) -> list[pa.RecordBatch]:
        """The rows that are in memory."""
        with self._lock:
            return [piece.batch for piece in self._pieces if isinstance(piece, MemoryPiece)]

    def replace(self, pieces: Sequence[Piece]) -> None:
        """The same rows, from elsewhere."""
        starts = [0, *accumulate(piece.rows for piece in pieces)]
        with self._lock:
            if starts[-1] != self._starts[-1]:
                raise StoreError(f"sealed {starts[-1]} rows of {self._starts[-1]}; the journal is kept")
            self._pieces, self._starts = list(pieces), starts

    def take(self, rows: Array) -> pa.RecordBatch:
        """These rows, in the order asked for."""
        with self._lock:
            pieces, starts = self._pieces, self._starts
        low, high = int(rows.min()), int(rows.max())
        first = bisect_right(starts, low) - 1
        if high < starts[first + 1]:
            return pieces[first].take(rows - starts[first])
        numbers = np.searchsorted(np.array(starts), rows, side="right") - 1
        return gather(numbers, rows - np.array(starts)[numbers], lambda number, local: pieces[number].take(local))


def _trailing(pieces: Sequence[Piece]) -> int:
    """How many of the last pieces are in memory and of no higher order of size than the very last."""
    limit = _FAN ** (int(math.log(max(1, pieces[-1].rows), _FAN)) + 1)
    count = 0
    for piece in reversed(pieces):
        if not isinstance(piece, MemoryPiece) or piece.rows >= limit:
            break
        count += 1
    return count


def gather(groups: Array, rows: Array, take: Callable[[int, Array], pa.RecordBatch]) -> pa.RecordBatch:
    """Rows of several groups in the order asked for; `take` reads from one group."""
    order = np.argsort(groups, kind="stable")
    sorted_groups = groups[order]
    edges = [0, *(np.flatnonzero(np.diff(sorted_groups)) + 1).tolist(), len(groups)]
    picked = [take(int(sorted_groups[a]), rows[order[a:b]]) for a, b in pairwise(edges)]
    if len(picked) == 1 and bool((np.diff(order) == 1).all()):
        return picked[0]
    back = np.empty(len(rows), np.int64)
    back[order] = np.arange(len(rows))
    return pick(concat(picked), back)


class Sources:
    """All sources by number, counted from 1; a place is `source << 32 | row`."""

    def __init__(self) -> None:
        self._all: dict[int, RowBlock] = {}
        self._lock = threading.Lock()
        self.last = 0

    def add(self, source: RowBlock) -> int:
        """Its number."""
        with self._lock:
            self.last += 1
            self._all[self.last] = source
            return self.last

    def get(self, number: int) -> RowBlock:
        """The source; `PartGone` when its rows were found elsewhere meanwhile."""
        source = self._all.get(number)
        if source is None:
            raise PartGone(f"of source {number}")
        return source

    def drop(self, number: int) -> None:
        """Forget a source that no place points into."""
        self._all.pop(number, None)

    def take(self, places: Array) -> pa.RecordBatch:
        """The rows at these places, in order."""
        return gather(
            (places >> np.uint64(ROW_BITS)).astype(np.int64),
            (places & np.uint64(_ROW_MASK)).astype(np.int64),
            lambda number, rows: self.get(number).take(rows),
        )
