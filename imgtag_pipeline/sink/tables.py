"""The finished table in the kind that the caller gave: index, order, dtypes and own columns are the caller's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from imgtag_pipeline.core.table import ROW, Source

REPORT: Final = "imgtag"


def give_back(
    source: Source, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, shape: str, keep: Sequence[str] = ()
) -> Any:
    """These batches as the kind of table that `source` was.

    pandas and Polars: a frame; a long pandas table repeats the caller's index once per tag, `keep` names the columns
    that stand first. Reader, Dataset, Scanner and files: a lazy reader that pulls as it is read. DuckDB: a relation on
    the same connection. Everything else: a pyarrow Table.
    """
    if source.is_lazy:
        return pa.RecordBatchReader.from_batches(schema, batches)
    table = pa.Table.from_batches(batches, schema=schema)
    if source.kind == "pandas":
        return _pandas(source, table, shape, keep)
    if source.kind == "polars":
        return _polars(source, table, shape, keep)
    if source.kind == "duckdb":
        return _duckdb(source.table, table)
    return table


def attach_report(table: Any, report: Mapping[str, Any]) -> Any:
    """The table with the report where its kind can carry one.

    pandas: `df.attrs["imgtag"]`; a pyarrow Table: JSON under the metadata key `imgtag`. Others come back as they are.
    """
    if isinstance(table, pd.DataFrame):
        table.attrs[REPORT] = dict(report)
    elif isinstance(table, pa.Table):
        return table.replace_schema_metadata(with_report(table.schema.metadata, report))
    return table


def with_report(metadata: Mapping[bytes, bytes] | None, report: Mapping[str, Any]) -> dict[bytes, bytes]:
    """Schema metadata with the report added as JSON text."""
    text = json.dumps(report, ensure_ascii=False, default=str)
    return {**(metadata or {}), REPORT.encode(): text.encode("utf-8")}


def _split(table: pa.Table) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """The caller's row of each result row, and the result's own columns."""
    positions = table.column(ROW).to_numpy()
    return positions, table.drop_columns([ROW])


def _is_all(positions: npt.NDArray[np.int64], rows: int) -> bool:
    return len(positions) == rows and bool((positions == np.arange(rows)).all())


def _pandas(source: Source, table: pa.Table, shape: str, keep: Sequence[str]) -> pd.DataFrame:
    frame: pd.DataFrame = source.table
    positions, ours = _split(table)
    result = _to_pandas(ours)
    own = list(range(frame.shape[1])) if shape != "long" else [source.names.index(name) for name in keep]
    callers = frame.iloc[:, own]
    if not _is_all(positions, len(frame)):
        callers = callers.take(positions)
    result.index = callers.index
    if frame.columns.nlevels > 1 and own:
        blank = ("",) * (frame.columns.nlevels - 1)
        result.columns = pd.MultiIndex.from_tuples([(name, *blank) for name in result.columns])
    joined = pd.concat([callers, result], axis=1) if own else result
    if own:
        joined.columns.names = frame.columns.names
    joined.attrs = dict(frame.attrs)
    return joined


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """Dtypes that depend on the schema alone: whole numbers are `Int32`, whether or not a null is among them."""
    nullable = {pa.int32(): pd.Int32Dtype(), pa.int64(): pd.Int64Dtype()}
    lists = [name for name in table.column_names if pa.types.is_list(table.schema.field(name).type)]
    frame: pd.DataFrame = table.drop_columns(lists).to_pandas(types_mapper=nullable.get)
    for name in lists:
        values = np.fromiter(table.column(name).to_pylist(), dtype=object, count=len(table))
        frame.insert(table.column_names.index(name), name, values)
    return frame


def _polars(source: Source, table: pa.Table, shape: str, keep: Sequence[str]) -> Any:
    import polars as pl  # the caller has it; nobody else needs it

    positions, ours = _split(table)
    frame = source.table.select(list(keep)) if shape == "long" else source.table
    if frame.width and not _is_all(positions, source.table.height):
        frame = frame[positions]
    result = pl.DataFrame(ours)
    return frame.hstack(result.get_columns()) if frame.width else result


def _duckdb(relation: Any, table: pa.Table) -> Any:
    """A relation on the caller's own connection: DuckDB finds `imgtag_result` among these locals and holds on to it."""
    imgtag_result = table  # noqa: F841
    return relation.query("imgtag_source", "SELECT * FROM imgtag_result")
