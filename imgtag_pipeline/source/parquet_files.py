"""Parquet files as a source: every footer is read before the first row, rows are streamed a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.files import Reading, is_local
from imgtag_pipeline.table import BATCH_ROWS, Source

_FOOTERS_AT_ONCE: Final = 16


def parquet_source(filesystem: Any, files: Sequence[str], root: str) -> Source:
    """These files as one table; a column that a file lacks is null there, `key=value` folders are columns."""
    from pyarrow import dataset, fs

    arrow = fs.LocalFileSystem() if is_local(filesystem) else fs.PyFileSystem(fs.FSSpecHandler(filesystem))
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        footers = list(pool.map(lambda file: _footer(arrow, file), files))
    try:
        schema = pa.unify_schemas([schema for schema, _ in footers], promote_options="permissive")
    except pa.ArrowException as error:
        raise ConfigError(
            f"the files do not fit together ({error}); give a glob that picks files of one kind"
        ) from error
    partitions = dataset.HivePartitioning.discover()
    options = dataset.FileSystemFactoryOptions(partition_base_dir=root, partitioning=partitions)
    factory = dataset.FileSystemDatasetFactory(arrow, list(files), dataset.ParquetFileFormat(), options)
    for column in _first_schema(factory):
        if column.name not in schema.names:
            schema = schema.append(column)
    table = factory.finish(schema)

    def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
        columns = {name: dataset.field(name) for name in wanted}
        with Reading(files[0] if len(files) == 1 else f"{root}/..."):
            yield from table.to_batches(columns=columns, batch_size=BATCH_ROWS, batch_readahead=4, fragment_readahead=1)

    return Source("files", tuple(schema.names), schema, sum(rows for _, rows in footers), False, read)


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
