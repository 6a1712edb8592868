"""Decoded row groups of parts: the ones used last stay in memory; ones that keep coming back go uncompressed to disk.

An input in the order of the store needs each row group once. A shuffled one needs all of them for every window: then
decoding anew each time would cost a thousand times as much as the rows that are wanted.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.core import schema

Name = tuple[str, int]

_CHUNK_BYTES: Final = 1 << 30
_ALIGN: Final = 64
_PATIENCE: Final = 2  # evictions of one row group before it is kept uncompressed


class Cache:
    """Bounded in bytes; safe from any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[Name, pa.RecordBatch] = OrderedDict()
        self._bytes = 0
        self._evictions: Counter[Name] = Counter()
        self._spilled: dict[Name, pa.RecordBatch] = {}
        self._spill = Spill()
        self._lock = threading.Lock()

    def get(self, name: Name, load: Callable[[], pa.RecordBatch]) -> pa.RecordBatch:
        """The row group, loaded when it is not at hand."""
        with self._lock:
            if (held := self._spilled.get(name) or self._held.get(name)) is not None:
                if name in self._held:
                    self._held.move_to_end(name)
                return held
        batch = load()
        with self._lock:
            if self._evictions[name] >= _PATIENCE and (kept := self._spill.keep(batch)) is not None:
                self._spilled[name] = kept
                return kept
            self._hold(name, batch)
        return batch

    def _hold(self, name: Name, batch: pa.RecordBatch) -> None:
        if name not in self._held:
            self._held[name] = batch
            self._bytes += batch.nbytes
        while self._bytes > self._max_bytes and len(self._held) > 1:
            old_name, old = self._held.popitem(last=False)
            self._bytes -= old.nbytes
            self._evictions[old_name] += 1


class Spill:
    """Batches in memory-mapped files that have no name any more, so that they end with the process."""

    def __init__(self, chunk_bytes: int = _CHUNK_BYTES) -> None:
        self._chunk_bytes = chunk_bytes
        self._map: Any = None
        self._handle = -1
        self._used = 0

    def keep(self, batch: pa.RecordBatch) -> pa.RecordBatch | None:
        """The same rows, backed by the disk; None when there is no room."""
        data = batch.serialize()
        try:
            if self._map is None or self._used + data.size > self._chunk_bytes:
                self._begin(max(self._chunk_bytes, data.size))
            if os.pwrite(self._handle, data, self._used) != data.size:
                return None
        except (OSError, AttributeError):  # no room, or a system without `pwrite`
            return None
        self._map.seek(self._used)
        mapped = self._map.read_buffer(data.size)
        self._used += -(-data.size // _ALIGN) * _ALIGN
        return pa.ipc.read_record_batch(mapped, schema.OUTCOME)

    def _begin(self, size: int) -> None:
        self._end()
        handle, path = tempfile.mkstemp(prefix="imgtag-rows-", dir=_roomy_folder())
        try:
            os.ftruncate(handle, size)
            self._map = pa.memory_map(path)
        finally:
            with suppress(OSError):
                Path(path).unlink()
        self._handle, self._used = handle, 0

    def _end(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self._end()


def _roomy_folder() -> str | None:
    """`/tmp` may be memory; `/var/tmp` is a disk by convention."""
    roomy = "/var/tmp"  # noqa: S108 - a name chosen by mkstemp, removed at once
    return roomy if os.access(roomy, os.W_OK) else None
