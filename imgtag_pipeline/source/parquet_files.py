"""Parquet files as a source: every footer is read before the first row, rows are streamed a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.core.filesystems import Reading, is_local
from imgtag_pipeline.core.table import BATCH_ROWS, Source
from imgtag_pipeline.errors import ConfigError

_FOOTERS_AT_ONCE: Final = 16


def parquet_source(filesystem: Any, files: Sequence[str], root: str) -> Source:
    """These files as one table; a column that a file lacks is null there, `key=value` folders are columns."""
    from pyarrow import dataset, fs

    arrow = fs.LocalFileSystem() if is_local(filesystem) else fs.PyFileSystem(fs.FSSpecHandler(filesystem))
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        footers = list(pool.map(lambda file: _footer(arrow, file), files))
    schema, unlike = _unified([schema for schema, _ in footers])
    partitions = dataset.HivePartitioning.discover()
    options = dataset.FileSystemFactoryOptions(partition_base_dir=root, partitioning=partitions)
    factory = dataset.FileSystemDatasetFactory(arrow, list(files), dataset.ParquetFileFormat(), options)
    for column in _first_schema(factory):
        if column.name not in schema.names and column.name not in unlike:
            schema = schema.append(column)
    table = factory.finish(schema)

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        columns = {name: dataset.field(name) for name in wanted}
        with Reading(files[0] if len(files) == 1 else f"{root}/..."):
            yield from table.to_batches(columns=columns, batch_size=BATCH_ROWS, batch_readahead=4, fragment_readahead=1)

    lacking = {
        name: tuple(file for file, (had, _) in zip(files, footers, strict=True) if name not in had.names)
        for name in schema.names
        if any(name in had.names for had, _ in footers)
    }
    rows = sum(rows for _, rows in footers)
    return Source("files", tuple(schema.names), schema, rows, False, read, lacking=lacking, unlike=unlike)


def _unified(schemas: Sequence[pa.Schema]) -> tuple[pa.Schema, dict[str, str]]:
    """One schema for all files, and the columns whose types do not fit, each with the reason."""
    try:
        return pa.unify_schemas(list(schemas), promote_options="permissive"), {}
    except pa.ArrowException:
        pass
    fields, unlike = [], {}
    for name in dict.fromkeys(name for schema in schemas for name in schema.names):
        alone = [pa.schema([schema.field(name)]) for schema in schemas if name in schema.names]
        try:
            fields.append(pa.unify_schemas(alone, promote_options="permissive").field(0))
        except pa.ArrowException as error:
            unlike[name] = str(error).partition("\n")[0]
    if not fields:
        name, reason = next(iter(unlike.items()))
        raise ConfigError(f"the files do not fit together in {name!r} ({reason}); give files of one kind")
    return pa.schema(fields), unlike


def _first_schema(factory: Any) -> pa.Schema:
    """The first file's columns and those of all the paths; older Arrow looks at one file without being told so."""
    try:
        return factory.inspect(fragments=1)
    except TypeError:
        return factory.inspect()


def _footer(arrow: Any, file: str) -> tuple[pa.Schema, int]:
    from pyarrow import parquet

    with Reading(file), arrow.open_input_file(file) as handle:
        metadata = parquet.read_metadata(handle)
        return metadata.schema.to_arrow_schema(), metadata.num_rows
