"""A table as the bytes of a Parquet, CSV or JSON lines file. What these formats cannot nest becomes JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, Protocol

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.core import schema as schemas
from imgtag_pipeline.core.filesystems import FileKind

GROUP_ROWS: Final = 131_072
GROUP_BYTES: Final = 64 << 20


class Format(Protocol):
    """Writes batches of one schema into an open file."""

    def write(self, table: pa.Table) -> None:
        """Append these rows."""

    def close(self, report: Mapping[str, Any]) -> None:
        """Finish the file; the report goes where the format has a place for it. The file itself stays open."""


def open_format(kind: FileKind, file: BinaryIO, schema: pa.Schema) -> Format:
    """The writer for this kind of file."""
    if kind.format == "parquet":
        return ParquetFormat(file, schema)
    stream = pa.PythonFile(file, mode="w")
    if kind.codec:
        stream = pa.CompressedOutputStream(stream, kind.codec)
    if kind.format == "jsonl":
        return JsonLinesFormat(stream)
    return CsvFormat(stream, schema, "\t" if kind.format == "tsv" else ",")


class ParquetFormat:
    """zstd Parquet; the report is JSON under the metadata key `imgtag`, the schema's version beside it."""

    def __init__(self, file: BinaryIO, schema: pa.Schema) -> None:
        from pyarrow import parquet

        self._writer = parquet.ParquetWriter(file, schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=GROUP_ROWS)

    def close(self, report: Mapping[str, Any]) -> None:
        text = json.dumps(report, ensure_ascii=False, default=str)
        self._writer.add_key_value_metadata({"imgtag": text, "imgtag_schema": str(schemas.VERSION)})
        self._writer.close()


class CsvFormat:
    """UTF-8 with a header; text is quoted, null is nothing, lists and boxes are JSON text."""

    def __init__(self, stream: pa.NativeFile, schema: pa.Schema, delimiter: str) -> None:
        from pyarrow import csv

        self._stream = stream
        empty = _csv_table(schema.empty_table())
        self._writer = csv.CSVWriter(stream, empty.schema, write_options=csv.WriteOptions(delimiter=delimiter))

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(_csv_table(table))

    def close(self, report: Mapping[str, Any]) -> None:
        self._writer.close()
        self._stream.close()


class JsonLinesFormat:
    """One JSON object per row; null where there is nothing, numbers as short as they were given."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=_iso_text)

    def write(self, table: pa.Table) -> None:
        for batch in table.to_batches(max_chunksize=8192):
            columns = [_values(_short_floats(column)) for column in batch.columns]
            names = batch.schema.names
            rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
            self._stream.write(self._encoder.encode_lines(rows))

    def close(self, report: Mapping[str, Any]) -> None:
        self._stream.close()


def _csv_table(table: pa.Table) -> pa.Table:
    columns = [_csv_column(column) for column in table.columns]
    return pa.Table.from_arrays(columns, names=table.column_names)


def _csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_dictionary(column.type):
        kind = column.type.value_type
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind)
    if pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    if pa.types.is_float16(column.type):
        column = column.cast(pa.float32())
    kind = column.type
    if (pa.types.is_string(kind) or pa.types.is_large_string(kind)) and not _is_valid(column):
        return pa.chunked_array([pa.array(_values(column), pa.string())])
    if pa.types.is_interval(kind):
        return pa.chunked_array([_json_text(chunk) for chunk in column.chunks], pa.string())
    if pa.types.is_primitive(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return column.cast(pa.string()) if pa.types.is_temporal(kind) and not pa.types.is_duration(kind) else column
    if pa.types.is_string_view(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        return column.cast(pa.string())
    return pa.chunked_array([_json_text(chunk) for chunk in column.chunks], pa.string())


def _json_text(array: pa.Array) -> pa.StringArray:
    """Each value as JSON text, null as null; costs only what is there."""
    present = _short_floats(array.drop_null())
    texts = pa.array([_JSON.encode(value).decode() for value in _values(present)], pa.string())
    places = pc.subtract(pc.cumulative_sum(pc.is_valid(array).cast(pa.int64())), 1)
    return texts.take(pc.if_else(pc.is_valid(array), places, pa.scalar(None, pa.int64())))


def _iso_text(value: Any) -> str:
    """What msgspec does not know: times to the nanosecond, which come as pandas' own."""
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


_JSON: Final = msgspec.json.Encoder(enc_hook=_iso_text)


def _is_valid(column: pa.ChunkedArray) -> bool:
    """Whether text is UTF-8; Arrow itself does not look."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """The values as Python's; dates beyond Python's calendar and text that is no UTF-8 as text all the same."""
    try:
        values: list[Any] = array.to_pylist()
    except (OverflowError, ValueError):
        return [_value(scalar) for scalar in array]
    return values


def _value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        pass
    if isinstance(scalar, pa.StructScalar):
        return {name: _value(scalar[name]) for name in scalar}
    if isinstance(scalar, pa.ListScalar):
        return [_value(each) for each in scalar.values]
    if pa.types.is_temporal(scalar.type):
        return str(scalar.cast(pa.string())).replace(" ", "T", 1)
    return bytes(scalar.as_buffer()).decode("utf-8", "backslashreplace")


def _short_floats(array: pa.Array) -> pa.Array:
    """float32 as the shortest double that reads the same, so that 0.9 is written as 0.9; nested ones as well."""
    kind = array.type
    if pa.types.is_float16(kind):
        return array.cast(pa.float32())
    if pa.types.is_float32(kind):
        return array.cast(pa.string()).cast(pa.float64())
    if pa.types.is_struct(kind) and kind.num_fields:
        children = [_short_floats(child) for child in array.flatten()]
        return pa.StructArray.from_arrays(children, names=[field.name for field in kind], mask=array.is_null())
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0)
        ends = pc.cumulative_sum(lengths)
        offsets = pa.concat_arrays([pa.array([0], ends.type), ends]).cast(pa.int32())
        return pa.ListArray.from_arrays(offsets, _short_floats(array.flatten()), mask=array.is_null())
    return array
