"""Which part or segment holds the outcome of each key, and the rows.

Safe from any thread. A part that is gone was compacted by another process: the newer part is read instead.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.checkpoint.cache import Cache
from imgtag_pipeline.checkpoint.index import ROW_BITS, STATUSES, Entry, Found, Index, level_of_rows
from imgtag_pipeline.checkpoint.parts import PartFolder
from imgtag_pipeline.checkpoint.respelling import KeyOf, key_today, respelled
from imgtag_pipeline.checkpoint.row_blocks import PartGone, PartPiece, RowBlock, Sources
from imgtag_pipeline.checkpoint.rows import empty
from imgtag_pipeline.errors import StoreError

Known = Literal["ok", "empty", "failed"]
_INDEXED: Final = ("key", "status", "attempts", "at")
_CODES: Final = {name: code for code, name in enumerate(STATUSES)}
_RETRIES: Final = 5
_THREADS: Final = 8


class Catalog:
    """All outcomes that can be read. `folders` are looked through in order for a part."""

    def __init__(self, folders: Sequence[PartFolder], *, cache_bytes: int, key_of: KeyOf | None = None) -> None:
        self.index = Index()
        self.key_of = key_of
        self._folders = folders
        self._sources = Sources()
        self._cache = Cache(cache_bytes)
        self._known: set[str] = set()
        self._stamps: list[int | None] = []
        self._by_part: dict[str, int] = {}
        self._loading = threading.Lock()
        self._settled_before = 0
        self._growing = np.zeros(0, np.int64)
        self._opened_at = 0

    def mark_opened(self, at: int) -> None:
        """What is known by now was known before this run: a failure among it may be retried."""
        self._settled_before = self._sources.last
        self._growing = np.array(self.index.recent_sources(), np.int64)
        self._opened_at = at

    def read_parts(self) -> None:
        """Read the parts that are new."""
        with self._loading:
            self._stamps = [folder.stamp() for folder in self._folders]
            for _ in range(_RETRIES):
                names = sorted({name for folder in self._folders for name in folder.sizes()} - self._known)
                if all(self._read_all(names)):
                    return
            raise StoreError("the store's parts change faster than they can be read; try again when compaction is over")

    def has_part(self, name: str) -> bool:
        """The part was read, or is ours."""
        return name in self._known

    def look_for_parts(self) -> None:
        """Read the parts that are new, if a cheap look says that there may be some."""
        stamps = [folder.stamp() for folder in self._folders]
        if None in stamps or stamps != self._stamps:
            self.read_parts()

    def _read_all(self, names: Sequence[str]) -> list[bool]:
        if len(names) < _THREADS:
            return [self._read_part(name) for name in names]
        with ThreadPoolExecutor(_THREADS, "imgtag-read") as threads:
            return list(threads.map(self._read_part, names))

    def _read_part(self, name: str) -> bool:
        try:
            piece = self.piece(name)
            columns = piece.columns(_INDEXED)
        except PartGone:
            return False
        number = self._sources.add(RowBlock([piece]))
        self.index.add_level(level_of_rows(columns, place=number << ROW_BITS))
        self._add_respelled(columns, piece, number)
        self._known.add(name)
        self._by_part[name] = number
        return True

    def _add_respelled(self, columns: pa.Table, piece: PartPiece, number: int) -> None:
        """Let a part's rows that have another key today be found by that as well."""
        if self.key_of is None:
            return
        moments = columns.column("at").cast(pa.int64()).to_pylist()
        names = columns.column("key").to_pylist()
        found = respelled(names, moments, lambda: piece.columns(("url",)).column("url").to_pylist(), self.key_of)
        if not found:
            return
        rows, keys = zip(*found, strict=True)
        again = columns.take(pa.array(rows, pa.int64()))
        again = again.set_column(again.schema.get_field_index("key"), "key", pa.array(keys, pa.string()))
        places = np.array(rows, np.uint64) + np.uint64(number << ROW_BITS)
        self.index.add_level(level_of_rows(again, place=number << ROW_BITS, places=places))

    def replace_parts(self, old: Sequence[str], new: Sequence[str]) -> None:
        """The rows of the old parts stand in the new ones: read these, and look into the old ones no more."""
        with self._loading:
            if all([self._read_part(name) for name in new]):  # noqa: C419 - every one must be read
                for name in old:
                    if number := self._by_part.pop(name, None):
                        self._sources.drop(number)

    def piece(self, name: str) -> PartPiece:
        """A part as a piece of a source."""
        return PartPiece(name, lambda: self._open(name), self._cache)

    def _open(self, name: str) -> Any:
        for folder in self._folders[:-1]:
            try:
                return folder.opened(name)
            except FileNotFoundError:
                continue
        return self._folders[-1].opened(name)

    def new_source(self) -> int:
        """A source that grows by `append`."""
        return self._sources.add(RowBlock())

    def append(self, number: int, batch: pa.RecordBatch) -> None:
        """Add rows to a growing source."""
        start = self._sources.get(number).append(batch)
        keys, statuses, attempts = (batch.column(name).to_pylist() for name in ("key", "status", "attempts"))
        moments = batch.column("at").cast(pa.int64()).to_pylist()
        self.announce(number, start, keys, statuses, moments, attempts)
        if self.key_of is not None:
            for row, key in respelled(keys, moments, lambda: batch.column("url").to_pylist(), self.key_of):
                at = [moments[row]]
                self.announce(number, start + row, [key], [statuses[row]], at, [attempts[row]])

    def announce(
        self,
        number: int,
        start: int,
        keys: Sequence[str],
        statuses: Sequence[str],
        at: Sequence[int | None],
        attempts: Sequence[int | None],
    ) -> None:
        """Let rows of a growing source be found, the first of which is row `start`."""
        first = number << ROW_BITS | start
        entries = [
            (key, Entry(_CODES.get(status, 0), moment or 0, first + i, count or 1))
            for i, (key, status, moment, count) in enumerate(zip(keys, statuses, at, attempts, strict=True))
        ]
        self.index.add_recent(number, entries)

    def add_rows(self, number: int, batch: pa.RecordBatch) -> None:
        """The rows that were announced."""
        self._sources.get(number).append(batch)

    def rows(self, number: int) -> list[pa.RecordBatch]:
        """A source's rows that are in memory."""
        return self._sources.get(number).batches()

    def rows_at(self, places: Any) -> pa.RecordBatch:
        """The rows at these places of the index."""
        return self._sources.take(places)

    def sources(self) -> range:
        """The numbers of all sources."""
        return range(1, self._sources.last + 1)

    def settle(self, number: int, parts: Sequence[str] = ()) -> None:
        """The source grows no more; with `parts`, these hold its rows from now on."""
        if parts:
            self._sources.get(number).replace([self.piece(name) for name in parts])
            self._known.update(parts)
            if len(parts) == 1:
                self._by_part[parts[0]] = number
        self.index.settle(number)

    def forget(self, number: int) -> None:
        """Drop a growing source whose rows stand in parts that were read."""
        self.index.forget(number)
        self._sources.drop(number)

    def known(self, keys: Sequence[str], *, retry_failed: bool = False) -> list[Known | None]:
        """The status of each key; None means ask. With `retry_failed`, a failure of an earlier run counts as None."""
        found = self.index.find(keys)
        codes = found.status
        if retry_failed:
            codes = np.where((codes == 0) & self._is_earlier(found), -1, codes)
        return [_NAMES[code] for code in codes.tolist()]

    def _is_earlier(self, found: Found) -> Any:
        sources = (found.place >> np.uint64(ROW_BITS)).astype(np.int64)
        is_old = (sources <= self._settled_before) & ~np.isin(sources, self._growing)
        return is_old | (found.at < self._opened_at)

    def take(self, keys: Sequence[str]) -> pa.RecordBatch:
        """The winning outcome of each key, in order."""
        if not keys:
            return empty()
        gone = ""
        for _ in range(_RETRIES):
            found = self.index.find(keys)
            missing = np.flatnonzero(found.status < 0)
            if len(missing):
                raise StoreError(f"the tag store has no outcome for {keys[int(missing[0])]!r}")
            try:
                batch = self._sources.take(found.place)
            except PartGone as error:
                gone = str(error)
                self.read_parts()
                continue
            return self._as_asked(batch, pa.array(keys, pa.string()))
        raise StoreError(
            f"part {gone} is gone and its rows stand in no other part; a further run asks about them again"
        )

    def _as_asked(self, batch: pa.RecordBatch, keys: pa.Array) -> pa.RecordBatch:
        """These rows under the keys that they were asked for by: an older version may have spelled them otherwise."""
        same = pc.equal(batch.column("key"), keys)
        if pc.all(same).as_py():
            return batch
        for row in pc.indices_nonzero(pc.invert(same)).to_pylist():
            stored, asked = batch.column("key")[row].as_py(), keys[row].as_py()
            if self.key_of is None or key_today(stored, self.key_of) != asked:
                raise StoreError("the tag store's index and parts disagree; nothing is returned, open the store anew")
        return batch.set_column(batch.schema.get_field_index("key"), batch.schema.field("key"), keys)


_NAMES: Final[dict[int, Known | None]] = {-1: None, 0: "failed", 1: "empty", 2: "ok"}
