"""CSV files as a source: UTF-8 with a header, every column text as written, an unquoted empty field is null."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.files import Reading, not_utf8, open_stream
from imgtag_pipeline.table import Source

# The longest row that can be read: a data: URL of a few megabytes still fits.
_BLOCK_BYTES: Final = 8 << 20


def csv_source(filesystem: Any, files: Sequence[str], delimiter: str) -> Source:
    """These files as one table, read through once to check them; a column that a file lacks is null there."""
    names: list[str] = []
    rows = 0
    for file in files:
        header = _header(filesystem, file, delimiter)
        names += [name for name in header if name not in names] if names else header
        rows += sum(batch.num_rows for batch in _batches(filesystem, file, delimiter, header, header))

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for file in files:
            yield from _batches(filesystem, file, delimiter, _header(filesystem, file, delimiter), wanted)

    schema = pa.schema([(name, pa.string()) for name in names])
    return Source("files", tuple(names), schema, rows, False, read)


def _header(filesystem: Any, file: str, delimiter: str) -> list[str]:
    from pyarrow import csv

    with Reading(file), _as_utf8(filesystem, file), open_stream(filesystem, file) as stream:
        parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
        first = csv.ReadOptions(block_size=_BLOCK_BYTES)
        with csv.open_csv(stream, read_options=first, parse_options=parse) as reader:
            names: list[str] = reader.schema.names
            return names


def _batches(
    filesystem: Any, file: str, delimiter: str, header: Sequence[str], wanted: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv

    with Reading(file), _as_utf8(filesystem, file), open_stream(filesystem, file) as stream:
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
            # In a file of one column an empty line is a row whose only field is empty.
            parse_options=csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, ignore_empty_lines=len(header) > 1
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


@contextlib.contextmanager
def _as_utf8(filesystem: Any, file: str) -> Iterator[None]:
    """When the reader fails, look whether the file is in another encoding, and where."""
    try:
        yield
    except (pa.ArrowInvalid, UnicodeDecodeError):
        with open_stream(filesystem, file) as stream:
            _refuse_other_encodings(file, stream)
        raise


def _refuse_other_encodings(file: str, stream: Any) -> None:
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
