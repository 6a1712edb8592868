"""Merges small parts of a store. The new part stands before the old ones go, and a part's rows are never changed, so
that readers and writers, and even a second compaction, may be at work meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from imgtag_pipeline.checkpoint.cache import Cache
from imgtag_pipeline.checkpoint.hash import digests
from imgtag_pipeline.checkpoint.layout import PART_SUFFIX
from imgtag_pipeline.checkpoint.parts import PartFolder, split_parts
from imgtag_pipeline.checkpoint.row_blocks import PartGone, PartPiece

_NAMING: Final = ("key", "run", "at")


def small_groups(sizes: dict[str, int], *, target: int) -> list[list[str]]:
    """Neighbouring parts, by name, that together make one of about `target` bytes; larger ones are left alone."""
    groups: list[list[str]] = [[]]
    total = 0
    for name, size in sorted(sizes.items()):
        if size * 2 > target:
            continue
        if total + size > target:
            groups.append([])
            total = 0
        groups[-1].append(name)
        total += size
    return [group for group in groups if len(group) > 1]


def merge(
    folder: PartFolder,
    names: Sequence[str],
    *,
    stem: str,
    run: str,
    max_bytes: int,
    before_removal: Callable[[Sequence[str]], None] = lambda names: None,
) -> list[str]:
    """Put the rows of these parts, each row once, into new parts named after `stem`; then remove the old ones.

    Every outcome is kept, also those that a later one has beaten. Nothing is done when a part is gone by now.
    """
    try:
        tables = [rows_of(folder, name) for name in names]
    except PartGone:
        return []
    rows = distinct(pa.concat_tables(tables))
    new = []
    for number, data in enumerate(split_parts(rows, run=run, max_bytes=max_bytes)):
        new.append(f"{stem}-{number}{PART_SUFFIX}")
        folder.put(new[-1], data)
    before_removal(new)
    for name in names:
        folder.remove(name)
    return new


def rows_of(folder: PartFolder, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's rows; `PartGone` when somebody else has compacted it."""
    return PartPiece(name, lambda: folder.opened(name), Cache(0)).columns(columns)


def distinct(rows: pa.Table) -> pa.Table:
    """Each outcome once, the order kept: what a crash between sealing and clearing up has doubled."""
    _, first = np.unique(digests(row_names(rows)), return_index=True)
    return rows if len(first) == rows.num_rows else rows.take(pa.array(np.sort(first)))


def missing_from(part: PartPiece, rows: pa.Table) -> pa.Table:
    """The rows that the part does not hold."""
    held = digests(row_names(part.columns(_NAMING)))
    return rows.filter(pa.array(~np.isin(digests(row_names(rows)), held)))


def row_names(rows: pa.Table) -> list[str]:
    """What tells one outcome from another: its key, run and moment."""
    columns = (rows.column(name).to_pylist() for name in ("key", "run"))
    moments = rows.column("at").cast(pa.int64()).to_pylist()
    return [f"{key}\0{run}\0{at}" for key, run, at in zip(*columns, moments, strict=True)]
