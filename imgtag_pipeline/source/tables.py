"""The caller's table as a stream of Arrow record batches, whatever kind of table it is.

Frames (pandas, Polars) hand over positions and text only; their own columns are put back by position in the end, so
no value has to survive a journey through Arrow. Everything else is Arrow already and streams as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads

from imgtag_pipeline.core.table import BATCH_ROWS, ROW, ImageColumn, Reading, Source, no_column, plain_text
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.source.text import reference_array, reference_values, text_array, text_values

__all__ = ["Source", "image_column", "open_source", "url_column"]

SAMPLED: Final = 100  # values that tell what a column of a frame holds
_SUPPORTED: Final = (
    "a pandas DataFrame or Series, a pyarrow Table, RecordBatch, RecordBatchReader, Dataset or Scanner, "
    "a Polars frame, a DuckDB relation, or anything with __arrow_c_stream__"
)


def open_source(table: Any) -> Source:
    """The source for a table that the caller holds; `ConfigError` for an object that is no table."""
    if isinstance(table, pd.DataFrame):
        return _pandas(table)
    if isinstance(table, pd.Series):
        name = "url" if table.name is None else table.name
        return replace(_pandas(table.to_frame(name=name)), column=str(name))
    if isinstance(table, pa.Table):
        return _arrow("table", table.schema, table.num_rows, lambda names: _select(table.to_batches(), names))
    if isinstance(table, pa.RecordBatch):
        return _arrow("table", table.schema, table.num_rows, lambda names: _select([table], names))
    if isinstance(table, pa.RecordBatchReader):
        return _arrow("reader", table.schema, None, lambda names: _select(table, names))
    module = type(table).__module__.partition(".")[0]
    kind = type(table).__name__
    if module == "pyarrow" and hasattr(table, "to_batches"):
        return _scan(table)
    if module == "polars" and kind in ("DataFrame", "LazyFrame", "Series"):
        return _polars(table, kind)
    if hasattr(table, "__arrow_c_stream__"):
        return _stream(table, "duckdb" if "duckdb" in module and "Relation" in kind else "stream")
    if isinstance(table, str | os.PathLike):
        raise ConfigError(f"{os.fspath(table)!r} is a path; files are for enrich and plan, here give {_SUPPORTED}")
    where = "" if module == "builtins" else f"{type(table).__module__}."
    raise ConfigError(f"a {where}{kind} is not a table that can be read; give {_SUPPORTED}")


def image_column(batch: pa.RecordBatch, col: str) -> pa.StringArray:
    """The image column as references: null where there is nothing; what is no text is marked, and fails as a row."""
    return reference_array(_column(batch, col))


def url_column(batch: pa.RecordBatch, col: str) -> pa.StringArray:
    """The column as text: null where there is nothing; numbers, bytes and anything else as their text."""
    return text_array(_column(batch, col))


def _column(batch: pa.RecordBatch, col: str) -> pa.Array:
    """A missing column is the caller's mistake."""
    at = batch.schema.get_all_field_indices(col)
    if len(at) != 1:
        reason = f"there are {len(at)} columns named {col!r}; rename all but one"
        raise ConfigError(reason if at else no_column(col, batch.schema.names))
    return batch.column(at[0])


def _arrow(kind: str, schema: pa.Schema, rows: int | None, read: Reading, *, table: Any = None) -> Source:
    return Source(kind, tuple(schema.names), schema, rows, kind == "reader", read, table)


def _select(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.select(names)


def _scan(table: Any) -> Source:
    """A pyarrow Dataset or Scanner: larger than memory perhaps, so it is streamed and given back as a reader."""
    if hasattr(table, "scanner"):
        source = _arrow("reader", table.schema, None, lambda names: iter(table.to_batches(columns=list(names))))
        return replace(source, lacking=_lacking(table))
    schema = table.projected_schema
    return _arrow("reader", schema, None, lambda names: _select(table.to_batches(), names))


def _lacking(dataset: Any) -> Mapping[str, tuple[str, ...]]:
    """The columns that some files of a Dataset do not have, each with these files; folders' columns are in all."""
    found: dict[str, tuple[str, ...]] = {}
    if not hasattr(dataset, "get_fragments") or not hasattr(dataset, "files"):
        return found
    for fragment in dataset.get_fragments():
        given = {*fragment.physical_schema.names, *pads.get_partition_keys(fragment.partition_expression)}
        for name in dataset.schema.names:
            if name not in given:
                found[name] = (*found.get(name, ()), str(fragment.path))
    return found


def _stream(table: Any, kind: str) -> Source:
    """A stream that nobody promises to be readable twice, and that comes back as one table: read whole, at once."""
    try:
        reader = pa.RecordBatchReader.from_stream(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, ValueError) as error:
        reason = f"the {type(table).__name__} gives no stream of rows with named columns; give {_SUPPORTED}"
        raise ConfigError(reason) from error
    whole = reader.read_all()
    return _arrow(kind, whole.schema, whole.num_rows, lambda names: _select(whole.to_batches(), names), table=table)


def _pandas(frame: pd.DataFrame) -> Source:
    names = tuple(str(label) for label in frame.columns)
    for name in names:
        if plain_text(name) != name:  # pandas itself could not put such a column beside ours
            raise ConfigError(f"the column name {name!r} is no text that a table can hold; rename the column")

    def column(name: str, start: int) -> pa.StringArray:
        values = frame.iloc[start : start + BATCH_ROWS, names.index(name)]
        return reference_values(values) if isinstance(name, ImageColumn) else text_values(values)

    def first(name: str) -> list[Any]:
        return list(frame.iloc[:, names.index(name)].dropna().iloc[:SAMPLED])

    return _frame("pandas", names, len(frame), column, frame, first)


def _polars(table: Any, kind: str) -> Source:
    if kind == "Series":
        name = table.name or "url"
        return replace(_polars(table.to_frame(name), "DataFrame"), column=name)
    frame = table.collect() if kind == "LazyFrame" else table
    names = tuple(frame.columns)

    def column(name: str, start: int) -> pa.StringArray:
        values = frame.get_column(name).slice(start, BATCH_ROWS)
        is_image = isinstance(name, ImageColumn)
        if str(values.dtype).startswith("Object"):
            return (reference_values if is_image else text_values)(values.to_list())
        return (reference_array if is_image else text_array)(values.to_arrow())

    def first(name: str) -> list[Any]:
        return frame.get_column(name).drop_nulls().head(SAMPLED).to_list()  # type: ignore[no-any-return]

    return _frame("polars", names, frame.height, column, frame, first)


def _frame(
    kind: str,
    names: tuple[str, ...],
    rows: int,
    column: Callable[[str, int], pa.StringArray],
    frame: Any,
    first: Callable[[str], list[Any]],
) -> Source:
    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, BATCH_ROWS):
            stop = min(start + BATCH_ROWS, rows)
            positions = pa.array(np.arange(start, stop, dtype=np.int64))
            arrays = [positions if name == ROW else column(name, start) for name in wanted]
            yield pa.RecordBatch.from_arrays(arrays, names=list(wanted))

    return Source(kind, names, None, rows, False, read, frame, first=first)
