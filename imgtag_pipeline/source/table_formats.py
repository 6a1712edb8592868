"""Folders of table formats (Delta, Iceberg, Hudi): their Parquet files alone also hold rows that were deleted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError

_DELTA: Final = "deltalake.DeltaTable({table!r}).to_pyarrow_table()"
_ICEBERG: Final = "pyiceberg's load_table(...).scan().to_arrow()"
_HUDI: Final = "Spark, or hudi's own reader"
_MOST_FOLDERS: Final = 200
_LEVELS_UP: Final = 8


def refuse_table_formats(filesystem: Any, root: str, files: Sequence[str]) -> None:
    """`ConfigError` where the files lie in the folder of a table whose log says which of them count."""
    for folder in _folders(root, files):
        names = {str(name).rstrip("/").rpartition("/")[2] for name in _listed(filesystem, folder)}
        if "_delta_log" in names:
            raise _refusal("Delta", folder, _DELTA.format(table=folder))
        if ".hoodie" in names:
            raise _refusal("Hudi", folder, _HUDI)
        if "metadata" in names and any(
            str(name).endswith((".metadata.json", "version-hint.text", ".avro"))
            for name in _listed(filesystem, f"{folder}/metadata")
        ):
            raise _refusal("Iceberg", folder, _ICEBERG)


def _folders(root: str, files: Sequence[str]) -> Iterator[str]:
    """The folders of the files, the given one, and those around it."""
    seen: dict[str, None] = {}
    for file in files:
        folder = file.rpartition("/")[0]
        while len(folder) > len(root) and folder not in seen and len(seen) < _MOST_FOLDERS:
            seen[folder] = None
            folder = folder.rpartition("/")[0]
    folder = root
    for _ in range(_LEVELS_UP):
        if not folder:
            break
        seen[folder] = None
        folder = folder.rpartition("/")[0]
    yield from seen


def _listed(filesystem: Any, folder: str) -> list[Any]:
    try:
        return filesystem.ls(folder, detail=False)  # type: ignore[no-any-return]
    except (OSError, ValueError):  # not ours to look into
        return []


def _refusal(name: str, folder: str, way: str) -> ConfigError:
    return ConfigError(
        f"{folder!r} is a {name} table: its Parquet files also hold rows that were deleted or replaced; read it "
        f"through its log, with {way}, and label that table"
    )
