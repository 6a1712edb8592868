"""JSON lines files as a source: one object per line, columns and their types learned by reading all of it once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.core.filesystems import Reading, not_utf8, open_stream
from imgtag_pipeline.core.table import Source, plain_text
from imgtag_pipeline.errors import ConfigError

_BLOCK_BYTES: Final = 4 << 20
_EXACT: Final = 2.0**53
_MOST_LEVELS: Final = 200
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
# Stands for a field that is of several types: it is read as text.
_MIXED: Final = "mixed"

Types = dict[str, "pa.DataType | str"]


def json_source(filesystem: Any, files: Sequence[str]) -> Source:
    """These files as one table; a field that a line lacks is null there, dates stay the text that they are."""
    types: Types = {}
    rows = 0
    had: dict[str, set[str]] = {file: set() for file in files}
    for file in files:
        for line, block in _blocks(filesystem, file):
            _refuse_deep_lines(file, line, block)
            count, found = _learned(file, line, block)
            rows += count
            had[file].update(found)
            for name, kind in found.items():
                types[name] = _merged(types.get(name, pa.null()), kind)
    mixed = {name for name, kind in types.items() if kind == _MIXED}
    schema = pa.schema([(name, pa.string() if name in mixed else kind) for name, kind in types.items()])

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        part = pa.schema([schema.field(name) for name in wanted])
        for file in files:
            for line, block in _blocks(filesystem, file):
                table = None if mixed.intersection(wanted) else _parsed(block, part)
                if table is None:
                    table = _decoded(_objects(file, line, block), part)
                yield from table.to_batches()

    lacking = {name: tuple(file for file in files if name not in had[file]) for name in schema.names}
    return Source("files", tuple(schema.names), schema, rows, False, read, lacking=lacking)


def _blocks(filesystem: Any, file: str) -> Iterator[tuple[int, bytes]]:
    """Pieces of a few megabytes that end with a line, each with the number of its first line."""
    line, rest = 1, b""
    with Reading(file), open_stream(filesystem, file) as stream:
        while piece := stream.read(_BLOCK_BYTES):
            head, newline, tail = piece.rpartition(b"\n")
            if not newline:
                rest += piece
                continue
            block = rest + head + newline
            rest = tail
            yield line, block.removeprefix(b"\xef\xbb\xbf") if line == 1 else block
            line += block.count(b"\n")
        if line == 1 and not rest.strip():
            raise ConfigError(f"{file!r} is empty; give a file with one JSON object per line")
        if rest.strip():
            yield line, rest.removeprefix(b"\xef\xbb\xbf") if line == 1 else rest


def _parsed(block: bytes, schema: pa.Schema | None) -> pa.Table | None:
    """The block through Arrow's own reader; None where only line by line can tell what is in it."""
    from pyarrow import json as arrow_json

    if not block.strip():
        return (schema or pa.schema([])).empty_table()
    options = arrow_json.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
    )
    whole = arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        table = arrow_json.read_json(pa.BufferReader(block), read_options=whole, parse_options=options)
        table.validate(full=True)
        _ = table.column_names  # raises where a name is no UTF-8
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None
    return table


def _learned(file: str, line: int, block: bytes) -> tuple[int, Types]:
    """The number of rows in the block, and its fields with their types."""
    table = _parsed(block, None)
    if table is not None:
        return table.num_rows, {
            name: _type_of(column) for name, column in zip(table.column_names, table.columns, strict=True)
        }
    rows = _objects(file, line, block)
    names = dict.fromkeys(name for row in rows for name in row)
    return len(rows), {name: _type_of_values([row.get(name) for row in rows]) for name in names}


def _type_of(column: pa.ChunkedArray) -> pa.DataType | str:
    """Dates stay text; numbers that a double cannot hold exactly are text, because they may be keys."""
    if pa.types.is_float64(column.type):
        largest = pc.max(pc.abs(column)).as_py()
        if largest is not None and largest >= _EXACT:
            return _MIXED
    return _undated(column.type)


def _type_of_values(values: list[Any]) -> pa.DataType | str:
    try:
        return _type_of(pa.chunked_array([pa.array(values)]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return _MIXED


def _undated(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_undated(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _undated(field.type)) for field in kind])
    return kind


def _merged(one: pa.DataType | str, other: pa.DataType | str) -> pa.DataType | str:
    if _MIXED in (one, other):
        return _MIXED
    try:
        return (
            pa.unify_schemas([pa.schema([("", one)]), pa.schema([("", other)])], promote_options="permissive")
            .field(0)
            .type
        )
    except pa.ArrowException:
        return _MIXED


def _objects(file: str, line: int, block: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number, text in enumerate(block.split(b"\n"), line):
        if not text.strip():
            continue
        try:
            row = json.loads(text.decode("utf-8", "surrogatepass"))
            reason = "is no JSON object"
        except UnicodeDecodeError as error:
            raise not_utf8(file, number, error) from None
        except ValueError as error:
            row, reason = None, f"is no JSON ({error})"
        if not isinstance(row, dict):
            reason = "begins a JSON array" if number == 1 and text.lstrip().startswith(b"[") else reason
            raise ConfigError(f"line {number} of {file!r} {reason}; give one JSON object per line")
        for name in row:
            if plain_text(name) != name:
                raise ConfigError(f"line {number} of {file!r} names a field {name!r}, which is no text; rename it")
        rows.append(row)
    return rows


def _refuse_deep_lines(file: str, first: int, block: bytes) -> None:
    """Arrow's reader takes a level of its stack for each level of nesting, and ends the process when there is none."""
    for number, line in enumerate(block.split(b"\n"), first):
        if len(line) <= _MOST_LEVELS or line.count(b"[") + line.count(b"{") <= _MOST_LEVELS:
            continue
        if _is_deep(_TEXT.sub(b"", line).translate(None, _NO_BRACKETS)):
            raise ConfigError(f"line {number} of {file!r} is nested deeper than {_MOST_LEVELS} levels; flatten it")


def _is_deep(brackets: bytes) -> bool:
    for _ in range(_MOST_LEVELS):
        outer = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if outer == brackets:  # nothing is left, or what is left is no JSON
            return len(outer) > _MOST_LEVELS
        brackets = outer
    return brackets != b""


def _decoded(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    columns = [_column([row.get(field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        values = [v if isinstance(v, str) or v is None else json.dumps(v, ensure_ascii=False) for v in values]
        values = [None if v is None else plain_text(v) for v in values]
    return pa.array(values, kind)
