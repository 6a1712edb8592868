"""The caller's table as a stream of Arrow record batches, whatever kind of table it is.

Frames (pandas, Polars) hand over positions and text only; their own columns are put back by position in the end, so
no value has to survive a journey through Arrow. Everything else is Arrow already and streams as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.source_text import text_array, text_values

ROW: Final = "__row__"
BATCH_ROWS: Final = 16_384
BATCH_BYTES: Final = 64 << 20
_SHOWN_NAMES: Final = 20
_SUPPORTED: Final = (
    "a pandas DataFrame or Series, a pyarrow Table, RecordBatch, RecordBatchReader, Dataset or Scanner, "
    "a Polars frame, a DuckDB relation, or anything with __arrow_c_stream__"
)

Reading = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Source:
    """A table to read once, or as often as its kind allows.

    `names` are its columns as text. `schema` is None for a frame: then the kept column is `__row__`, the row's
    position, and `give_back` restores index and columns from it. `rows` is None where nobody knows before the end.
    """

    kind: str
    names: tuple[str, ...]
    schema: pa.Schema | None
    rows: int | None
    is_lazy: bool
    read: Reading = field(repr=False)
    table: Any = field(default=None, repr=False)

    def resolve(self, label: Any = None) -> str:
        """The name of the column that the caller means: by its label, or `url`, or the only one there is."""
        if label is None:
            if len(self.names) == 1:
                return self.names[0]
            label = "url"
        name = label if isinstance(label, str) else str(label)
        if name not in self.names:
            raise ConfigError(_no_column(name, self.names))
        if self.names.count(name) > 1:
            raise ConfigError(f"there are {self.names.count(name)} columns named {name!r}; rename all but one")
        return name

    def kept(self, shape: str, keep: Sequence[str] = ()) -> pa.Schema:
        """The columns to carry beside each row: `keep` for a long table, all of them for a wide or nested one."""
        if self.schema is None:
            return pa.schema([pa.field(ROW, pa.int64())])
        if shape == "long":
            return pa.schema([self.schema.field(self.resolve(name)) for name in dict.fromkeys(keep)])
        for name in self.names:
            self.resolve(name)
        return self.schema

    def batches(self, columns: Sequence[str], *, max_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Record batches with these columns (each once), at most `max_rows` rows and about 64 MB each."""
        wanted = list(dict.fromkeys(columns))
        for batch in self.read(wanted):
            size = max(1, min(max_rows, BATCH_BYTES * batch.num_rows // max(1, batch.nbytes)))
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)

    def limited(self, rows: int) -> Source:
        """The same source with its first rows only; no more than these are read."""
        if rows < 0:
            raise ConfigError(f"limit is {rows}; give a number of rows from 0 up")

        def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
            left = rows
            batches = self.read(wanted)
            while left > 0 and (batch := next(batches, None)) is not None:
                yield batch.slice(0, left)
                left -= batch.num_rows

        return replace(self, read=read, rows=None if self.rows is None else min(self.rows, rows))


def open_source(table: Any) -> Source:
    """The source for a table that the caller holds; `ConfigError` for an object that is no table."""
    if isinstance(table, pd.DataFrame):
        return _pandas(table)
    if isinstance(table, pd.Series):
        name = "url" if table.name is None else table.name
        return _pandas(table.to_frame(name=name))
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
    raise ConfigError(f"a {type(table).__module__}.{kind} is not a table that can be read; give {_SUPPORTED}")


def url_column(batch: pa.RecordBatch, col: str) -> pa.StringArray:
    """The column as text: null where there is nothing; numbers, bytes and anything else as their text.

    What is no image reference then fails as a row. A missing column is the caller's mistake.
    """
    at = batch.schema.get_all_field_indices(col)
    if len(at) != 1:
        reason = f"there are {len(at)} columns named {col!r}; rename all but one"
        raise ConfigError(reason if at else _no_column(col, batch.schema.names))
    return text_array(batch.column(at[0]))


def _no_column(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    matches = [known for known in names if close and known.lower() == close[0]]
    hint = f"did you mean {matches[0]!r}? " if matches else ""
    listed = ", ".join(names[:_SHOWN_NAMES]) + (
        f" and {len(names) - _SHOWN_NAMES} more" if names[_SHOWN_NAMES:] else ""
    )
    return f"there is no column {name!r}; {hint}the columns are: {listed or 'none at all'}"


def _arrow(kind: str, schema: pa.Schema, rows: int | None, read: Reading, *, table: Any = None) -> Source:
    return Source(kind, tuple(schema.names), schema, rows, kind == "reader", read, table)


def _select(batches: Iterable[pa.RecordBatch], names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch.select(names)


def _scan(table: Any) -> Source:
    """A pyarrow Dataset or Scanner: larger than memory perhaps, so it is streamed and given back as a reader."""
    if hasattr(table, "scanner"):
        return _arrow("reader", table.schema, None, lambda names: iter(table.to_batches(columns=list(names))))
    schema = table.projected_schema
    return _arrow("reader", schema, None, lambda names: _select(table.to_batches(), names))


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

    def column(name: str, start: int) -> pa.StringArray:
        return text_values(frame.iloc[start : start + BATCH_ROWS, names.index(name)])

    return _frame("pandas", names, len(frame), column, frame)


def _polars(table: Any, kind: str) -> Source:
    if kind == "Series":
        table = table.to_frame(table.name or "url")
    frame = table.collect() if kind == "LazyFrame" else table
    names = tuple(frame.columns)

    def column(name: str, start: int) -> pa.StringArray:
        values = frame.get_column(name).slice(start, BATCH_ROWS)
        if str(values.dtype).startswith("Object"):
            return text_values(values.to_list())
        return text_array(values.to_arrow())

    return _frame("polars", names, frame.height, column, frame)


def _frame(
    kind: str, names: tuple[str, ...], rows: int, column: Callable[[str, int], pa.StringArray], frame: Any
) -> Source:
    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for start in range(0, rows, BATCH_ROWS):
            stop = min(start + BATCH_ROWS, rows)
            positions = pa.array(np.arange(start, stop, dtype=np.int64))
            arrays = [positions if name == ROW else column(name, start) for name in wanted]
            yield pa.RecordBatch.from_arrays(arrays, names=list(wanted))

    return Source(kind, names, None, rows, False, read, frame)
