"""Whether OUT would take the place of its own input, or be read as input the next time."""

from __future__ import annotations

import os
from typing import Any, Final

from imgtag_pipeline.core.filesystems import glob_pattern, is_local, open_filesystem
from imgtag_pipeline.core.table import Origin
from imgtag_pipeline.errors import ConfigError

KEEPS_ROWS: Final = ("wide", "nested")
_GLOB: Final = "*?["


def refuse_overlap(origin: Origin, out: str, *, shape: str, overwrite: bool, storage_options: Any = None) -> None:
    """`ConfigError` where OUT is an input, holds one, or lies where inputs are looked for.

    A wide or nested OUT keeps the rows, so with `overwrite` it may replace all of its input.
    """
    filesystem, path = open_filesystem(out, storage_options)
    if type(filesystem) is not type(origin.filesystem):
        return
    place = _real(filesystem, path)
    inputs = [_real(filesystem, file) for file in origin.files]
    taken = [
        file for file in inputs if file == place or file.startswith(f"{place}/") or _same_file(filesystem, file, place)
    ]
    if len(taken) == len(inputs) and shape in KEEPS_ROWS and overwrite:
        return
    if taken:
        raise ConfigError(
            f"OUT {out!r} would take the place of its input {taken[0]!r}; give OUT another name"
            + ("" if shape in KEEPS_ROWS else ", or shape='wide' or 'nested', which keep the rows")
        )
    if _is_looked_at(filesystem, origin, path, place):
        raise ConfigError(
            f"OUT {out!r} lies where the input is read from ({origin.given!r}), so the next run would read it as "
            "input; give OUT another folder"
        )


def _is_looked_at(filesystem: Any, origin: Origin, path: str, place: str) -> bool:
    for given in origin.places:
        if any(mark in given for mark in _GLOB):
            plain = path.rstrip("/")
            patterns = [glob_pattern(given), glob_pattern(_real_glob(filesystem, given))]
            places = (plain, place, f"{plain}/part-00000.parquet", f"{place}/part-00000.parquet")
            if any(pattern.match(one) for pattern in patterns for one in places):
                return True
        elif given not in origin.files and f"{place}/".startswith(f"{_real(filesystem, given)}/"):
            return True
    return False


def _real(filesystem: Any, path: str) -> str:
    return os.path.realpath(path) if is_local(filesystem) else path.rstrip("/")


def _real_glob(filesystem: Any, glob: str) -> str:
    """The glob with the folder above its first pattern as it is without links."""
    folder, slash, _ = glob[: min(glob.find(mark) for mark in _GLOB if mark in glob)].rpartition("/")
    return _real(filesystem, folder) + glob[len(folder) :] if slash else glob


def _same_file(filesystem: Any, one: str, other: str) -> bool:
    try:
        return is_local(filesystem) and os.path.samefile(one, other)
    except OSError:
        return False
