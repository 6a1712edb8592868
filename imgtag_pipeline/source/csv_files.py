"""CSV files as a source: UTF-8 with a header, every column text as written, an unquoted empty field is null."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.core.filesystems import Reading, not_utf8, open_stream
from imgtag_pipeline.core.references import looks_like_one
from imgtag_pipeline.core.table import Source
from imgtag_pipeline.errors import ConfigError

# The longest row that can be read: a data: URL of a few megabytes still fits.
_BLOCK_BYTES: Final = 8 << 20
_DELIMITERS: Final = (";", "\t", "|", ",")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is laid out: what separates its fields, and whether its first line names the columns.

    Without a header the columns are `1`, `2` and so on, and the only one is `url`.
    """

    delimiter: str
    has_header: bool = True


def csv_source(filesystem: Any, files: Sequence[str], layout: Layout) -> Source:
    """These files as one table, read through once to check them; a column that a file lacks is null there."""
    headers: dict[str, list[str]] = {}
    rows = 0
    for file in files:
        with Reading(file), open_stream(filesystem, file) as stream:
            _refuse_other_encodings(file, stream)
        header = headers[file] = _header(filesystem, file, layout)
        rows += sum(batch.num_rows for batch in _batches(filesystem, file, layout, header, header))
    names = list(headers[files[0]])
    for header in headers.values():
        names += [name for name in header if name not in names]
    lacking = {name: tuple(file for file, header in headers.items() if name not in header) for name in names}

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from _batches(filesystem, file, layout, _header(filesystem, file, layout), wanted)

    schema = pa.schema([(name, pa.string()) for name in names])
    return Source("files", tuple(names), schema, rows, False, read, lacking=lacking)


def _header(filesystem: Any, file: str, layout: Layout) -> list[str]:
    names = _first_line(filesystem, file, layout.delimiter)
    if not layout.has_header:
        return ["url"] if len(names) == 1 else [str(place) for place in range(1, len(names) + 1)]
    if reference := next((name for name in names if looks_like_one(name)), None):
        raise ConfigError(
            f"the first line of {file!r} holds {reference[:80]!r}, which looks like an image and not like a column's "
            "name; give header=False (--no-header) where the file names no columns"
        )
    other = next((mark for mark in _DELIMITERS if len(names) == 1 and mark in names[0]), None)
    if other is not None:
        word = {"\t": "a tab"}.get(other, repr(other))
        raise ConfigError(
            f"{file!r} has one column, {names[0]!r}; its fields seem to be separated by {word}: give "
            f"delimiter={other!r} (--delimiter {other!r})"
        )
    return names


def _first_line(filesystem: Any, file: str, delimiter: str) -> list[str]:
    from pyarrow import csv

    with Reading(file), open_stream(filesystem, file) as stream:
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        first = csv.ReadOptions(block_size=_BLOCK_BYTES)
        with csv.open_csv(stream, read_options=first, parse_options=parse) as reader:
            names: list[str] = reader.schema.names
            return names


def _batches(
    filesystem: Any, file: str, layout: Layout, header: Sequence[str], wanted: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv

    with Reading(file), open_stream(filesystem, file) as stream:
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(
                block_size=_BLOCK_BYTES, column_names=None if layout.has_header else list(header)
            ),
            # In a file of one column an empty line is a row whose only field is empty.
            parse_options=csv.ParseOptions(
                delimiter=layout.delimiter, newlines_in_values=True, ignore_empty_lines=len(header) > 1
            ),
            convert_options=csv.ConvertOptions(
                column_types=dict.fromkeys([*header, *wanted], pa.string()),
                include_columns=list(dict.fromkeys(wanted)),
                include_missing_columns=True,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
        with reader:
            yield from reader


def _refuse_other_encodings(file: str, stream: Any) -> None:
    """`ConfigError` for a file that is not UTF-8, told before Arrow's reader has threads at work on it."""
    line, rest = 1, b""
    while piece := stream.read(_BLOCK_BYTES):
        head, newline, tail = (rest + piece).rpartition(b"\n")
        _decode(file, line, head + newline)
        line, rest = line + head.count(b"\n") + len(newline), tail
    _decode(file, line, rest)


def _decode(file: str, first: int, block: bytes) -> None:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first + block.count(b"\n", 0, error.start)
        begin = block.rfind(b"\n", 0, error.start) + 1
        text = block[begin:].partition(b"\n")[0]
        raise not_utf8(file, line, UnicodeDecodeError("utf-8", text, error.start - begin, len(text), "")) from None
