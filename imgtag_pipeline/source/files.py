"""Parquet, CSV and JSON lines files as a stream of record batches: one file, a glob or a folder, any fsspec URL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.files import is_there, kind_of, open_filesystem
from imgtag_pipeline.source.csv_files import Layout, csv_source
from imgtag_pipeline.source.json_files import json_source
from imgtag_pipeline.source.parquet_files import parquet_source
from imgtag_pipeline.source.table_formats import refuse_table_formats
from imgtag_pipeline.table import Source

_GLOB: Final = "*?["
_WANTED: Final = "give Parquet, CSV or JSON lines: one file, a glob, or a folder of one kind of file"


def open_files(
    path: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    delimiter: str | None = None,
    header: bool = True,
) -> Source:
    """The rows of these files, in the order of their names. They may be larger than memory, and are reread on demand.

    What cannot be read is said now, as `ConfigError`, before any call is made: of Parquet every footer is looked at,
    text files are read through once. A CSV has no types, so its columns are text, exactly as written; a JSON
    field of several types is text too. Folders named `key=value` below the given one are columns of Parquet rows.

    `delimiter` separates the fields of a CSV (default: a comma, in .tsv a tab). With `header=False` its first line is a
    row, and its columns are `url` (a single one) or `1`, `2` and so on.
    """
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n' or not delimiter.isascii()):
        raise ConfigError(f"delimiter is {delimiter!r}; give one character, such as ';'")
    filesystem, place = open_filesystem(path, storage_options)
    try:
        root, files = _found(filesystem, path, place)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be looked at ({error}); {_WANTED}") from error
    refuse_table_formats(filesystem, root, files)
    kind = _one_kind(path, files)
    if kind == "parquet":
        return parquet_source(filesystem, files, root)
    if kind == "jsonl":
        return json_source(filesystem, files)
    return csv_source(filesystem, files, Layout(delimiter or ("\t" if kind == "tsv" else ","), header))


def _found(filesystem: Any, path: str, place: str) -> tuple[str, list[str]]:
    """The folder to which the files belong, and the files in order."""
    if is_there(filesystem, place):
        if not filesystem.isdir(place):
            return place.rpartition("/")[0], [place]
        root, found = place.rstrip("/"), filesystem.find(place)
    elif any(mark in place for mark in _GLOB):
        first_glob = min(place.find(mark) for mark in _GLOB if mark in place)
        root, found = place[:first_glob].rpartition("/")[0], []
        for match in filesystem.glob(place):
            found += filesystem.find(match) if filesystem.isdir(match) else [match]
    else:
        raise ConfigError(f"there is no file or folder {path!r}; {_WANTED}")
    files = sorted({file for file in found if not _is_hidden(file[len(root) :])})
    if not files:
        raise ConfigError(f"{path!r} holds no file; {_WANTED}")
    return root, files


def _is_hidden(relative: str) -> bool:
    """Markers and work in progress of other tools: `_SUCCESS`, `_metadata`, `.part.crc`."""
    return any(part.startswith((".", "_")) and "=" not in part for part in relative.split("/"))


def _one_kind(path: str, files: Sequence[str]) -> str:
    formats = {kind_of(file.rpartition("/")[2]).format: file for file in files}
    if len(formats) > 1:
        shown = " and ".join(repr(file.rpartition("/")[2]) for file in list(formats.values())[:2])
        raise ConfigError(f"{path!r} mixes kinds of files, such as {shown}; give a glob that picks one kind")
    return next(iter(formats))
