"""Parquet parts: outcomes to bytes and back, and the folder they lie in, on a disk or behind an fsspec URL."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa

from imgtag_pipeline.checkpoint.files import TEMPORARY, Files, write_whole
from imgtag_pipeline.checkpoint.frames import FORMAT
from imgtag_pipeline.checkpoint.layout import PART_SUFFIX, package_version
from imgtag_pipeline.core import schema

GROUP_ROWS: Final = 16_384
_CLOCK_GRAIN_NS: Final = 50_000_000  # file systems stamp with the kernel's tick


def part_bytes(rows: pa.Table, *, run: str) -> bytes:
    """The rows as one Parquet file that says which run and version made it."""
    import pyarrow.parquet as pq

    facts = {"imgtag_run": run, "imgtag_version": package_version(), "imgtag_format": str(FORMAT)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        rows.replace_schema_metadata({**facts, "imgtag_schema": str(schema.VERSION)}),
        sink,
        compression="zstd",
        row_group_size=GROUP_ROWS,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


def split_parts(rows: pa.Table, *, run: str, max_bytes: int) -> list[bytes]:
    """The rows as files of at most `max_bytes` each (a single row may be larger), in order."""
    data = part_bytes(rows, run=run)
    if len(data) <= max_bytes or rows.num_rows <= 1:
        return [data]
    half = rows.num_rows // 2
    return [
        *split_parts(rows.slice(0, half), run=run, max_bytes=max_bytes),
        *split_parts(rows.slice(half), run=run, max_bytes=max_bytes),
    ]


def joined(batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """The batches as one table."""
    return pa.Table.from_batches(batches, schema=schema.OUTCOME).combine_chunks()


class PartFolder(Protocol):
    """A folder of parts. A part appears whole or not at all, and its content never changes."""

    def sizes(self) -> dict[str, int]:
        """The parts' names and bytes."""
        ...

    def stamp(self) -> int | None:
        """A number that changes when a part comes or goes; None when that cannot be told cheaply."""
        ...

    def opened(self, name: str) -> Any:
        """A file to read from; FileNotFoundError when the part is gone."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Add a part; OSError when that cannot be done."""
        ...

    def remove(self, name: str) -> None:
        """Remove a part; one that is gone already is fine."""
        ...


class LocalParts:
    """Parts in a folder on this machine's disk: written aside, then renamed."""

    def __init__(self, path: Path, files: Files) -> None:
        self.path = path
        self._files = files

    def sizes(self) -> dict[str, int]:
        """The parts' names and bytes, by name."""
        found = {}
        for path in sorted(self.path.glob(f"*{PART_SUFFIX}")) if self.path.is_dir() else ():
            if path.name.startswith(TEMPORARY):
                continue
            try:
                found[path.name] = path.stat().st_size
            except FileNotFoundError:
                continue
        return found

    def stamp(self) -> int | None:
        """The folder's time of change, once it is old enough for a further change to show."""
        try:
            changed = self.path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        return changed if time.time_ns() - changed > _CLOCK_GRAIN_NS else None

    def opened(self, name: str) -> Any:
        """A memory map."""
        path = self.path / name
        if path.stat().st_size == 0:
            raise OSError("the file is empty")
        return pa.memory_map(str(path))

    def put(self, name: str, data: bytes) -> None:
        """Add a part."""
        write_whole(self._files, self.path / name, data)

    def remove(self, name: str) -> None:
        """Remove a part."""
        self._files.unlink(self.path / name)
