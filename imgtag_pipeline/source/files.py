"""Parquet, CSV and JSON lines files as a stream of record batches: one file, a glob or a folder, any fsspec URL."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from itertools import takewhile
from typing import Any, Final

from imgtag_pipeline.core.filesystems import file_errors, is_there, kind_of, open_filesystem
from imgtag_pipeline.core.table import Origin, Source
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.source.csv_files import Layout, csv_source
from imgtag_pipeline.source.json_files import json_source
from imgtag_pipeline.source.parquet_files import parquet_source
from imgtag_pipeline.source.table_formats import refuse_table_formats

_GLOB: Final = "*?["
# The file that marks each identity's folder of a tag store, and a folder of results, with what stands in it.
_OURS: Final = {"manifest.json": {"format", "identity", "made_by"}, "_imgtag.json": {"run", "provider", "rows"}}
_WANTED: Final = "give Parquet, CSV or JSON lines: one file, a glob, or a folder of one kind of file"


def open_files(
    path: str | Sequence[str],
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
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        raise ConfigError(f"the list of files is empty; {_WANTED}")
    places: list[str] = []
    found: list[str] = []
    roots: list[str] = []
    filesystem: Any = None
    for one in paths:
        before = filesystem
        filesystem, place = open_filesystem(one, storage_options)
        if before is not None and type(before) is not type(filesystem):
            raise ConfigError(f"{paths[0]!r} and {one!r} lie in different file systems; give files of one")
        with file_errors(one, "looked at"):
            root, files = _found(filesystem, one, place)
            refuse_table_formats(filesystem, root, files)
        places.append(place.rstrip("/"))
        roots.append(root)
        found += [file for file in files if file not in found]
    shown = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    kind = _one_kind(shown, found)
    if kind == "parquet":
        root = roots[0] if len(paths) == 1 else _common(roots)
        source = parquet_source(filesystem, found, root)
    elif kind == "jsonl":
        source = json_source(filesystem, found)
    else:
        source = csv_source(filesystem, found, Layout(delimiter or ("\t" if kind == "tsv" else ","), header))
    return replace(source, origin=Origin(shown, tuple(places), tuple(found), filesystem))


def _common(folders: Sequence[str]) -> str:
    """The folder that holds them all."""
    parts = [folder.split("/") for folder in folders]
    return "/".join(column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))


def _found(filesystem: Any, path: str, place: str) -> tuple[str, list[str]]:
    """The folder to which the files belong, and the files in order."""
    if is_there(filesystem, place):
        if not filesystem.isdir(place):
            return place.rpartition("/")[0], [place]
        root, found = place.rstrip("/"), filesystem.find(place)
        ours = _our_folders(filesystem, found, root)
    elif any(mark in place for mark in _GLOB):
        first_glob = min(place.find(mark) for mark in _GLOB if mark in place)
        root, found = place[:first_glob].rpartition("/")[0], []
        for match in filesystem.glob(place):
            found += filesystem.find(match) if filesystem.isdir(match) else [match]
        ours = _our_folders(filesystem, _beside(filesystem, found, root), root)
    else:
        raise ConfigError(f"there is no file or folder {path!r}; {_WANTED}")
    found = [file for file in found if not any(file.startswith(f"{folder}/") for folder in ours)]
    files = sorted({file for file in found if not _is_hidden(file[len(root) :])})
    if not files:
        raise ConfigError(f"{path!r} holds no file; {_WANTED}")
    return root, files


def _our_folders(filesystem: Any, files: Sequence[str], root: str) -> set[str]:
    """The tag stores' folders, and folders that an earlier run has written, which lie below the given one."""
    found = set()
    for file in files:
        folder, _, name = file.rpartition("/")
        if name in _OURS and len(folder) > len(root) and _says(filesystem, file, _OURS[name]):
            found.add(folder)
    return found


def _says(filesystem: Any, file: str, names: Set[str]) -> bool:
    """Whether a JSON file has these names; one of a stranger has not."""
    try:
        facts = json.loads(filesystem.cat_file(file))
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and names <= facts.keys()


def _beside(filesystem: Any, files: Sequence[str], root: str) -> list[str]:
    """What lies in the folders of these files, and above them, below the root: a glob finds the markers not itself."""
    folders: set[str] = set()
    for file in files:
        folder = file.rpartition("/")[0]
        while len(folder) > len(root) and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    return [name for folder in sorted(folders) for name in filesystem.ls(folder, detail=False)]


def _is_hidden(relative: str) -> bool:
    """Markers and work in progress of other tools: `_SUCCESS`, `_metadata`, `.part.crc`."""
    return any(part.startswith((".", "_")) and "=" not in part for part in relative.split("/"))


def _one_kind(path: str, files: Sequence[str]) -> str:
    formats = {kind_of(file.rpartition("/")[2]).format: file for file in files}
    if len(formats) > 1:
        shown = " and ".join(repr(file.rpartition("/")[2]) for file in list(formats.values())[:2])
        raise ConfigError(f"{path!r} mixes kinds of files, such as {shown}; give a glob that picks one kind")
    return next(iter(formats))
