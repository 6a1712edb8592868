"""OUT on a disk or in a bucket: written whole or not at all, as Parquet, CSV or JSON lines."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

import pyarrow as pa

from imgtag_pipeline.core.filesystems import FileKind, file_errors, is_local, kind_of, open_filesystem, reason_of
from imgtag_pipeline.errors import ConfigError, ImgtagError, OutputError
from imgtag_pipeline.sink.formats import GROUP_BYTES, GROUP_ROWS, Format, open_format
from imgtag_pipeline.sink.places import REPORT_FILE, LocalPlace, Place, RemotePlace
from imgtag_pipeline.urls import redact

PART_BYTES: Final = 256 << 20


class FileSink:
    """One OUT: a file by its suffix, or a folder of Parquet parts (a name that ends in "/", has no suffix, or is one).

    Building it checks that OUT may be written, changes nothing, and raises `ConfigError` where it may not. It is a
    context manager: `write` batches, then `finish`; without that, nothing is left anywhere. `group_rows` are gathered
    before they are written; a part of a folder is complete when it has `part_bytes`.
    """

    def __init__(
        self,
        out: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        group_rows: int = GROUP_ROWS,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self.rows = 0
        self._out = out
        self._group_rows = group_rows
        self._part_bytes = part_bytes
        if out == "-":
            raise ConfigError("OUT is '-', and the table is not written to standard output; give a file or a folder")
        filesystem, path = open_filesystem(out, storage_options)
        with file_errors(out, "written"):
            self._is_folder = out.endswith("/") or not PurePosixPath(path).suffix or filesystem.isdir(path)
            self._kind = FileKind("parquet") if self._is_folder else kind_of(path)
            place = LocalPlace if is_local(filesystem) else RemotePlace
            self._place: Place = place(filesystem, path, is_folder=self._is_folder, overwrite=overwrite)
        self._staging: Path | None = None
        self._file: BinaryIO | None = None
        self._format: Format | None = None
        self._parts = 0
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._waiting_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._abandon()

    def check(self, schema: pa.Schema) -> None:
        """Raise `ConfigError` for columns that this kind of file cannot hold, before anything is paid for."""
        try:
            trial = open_format(self._kind, io.BytesIO(), schema)
            trial.write(schema.empty_table())
            trial.close({})
        except (NotImplementedError, pa.ArrowException) as error:
            raise ConfigError(
                f"{self._out!r} cannot hold a column of these types ({reason_of(error)}); leave it out, or choose "
                "another kind of file"
            ) from error

    def prepare(self) -> None:
        """Begin OUT before anything is paid for; `ConfigError` where it cannot be written. Behind a URL, an object is
        put beside it and removed."""
        with file_errors(self._out, "written"):
            self._staging = self._place.stage()
            self._place.probe()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add these rows. Small batches are gathered, so that a file has row groups of a good size."""
        self.rows += batch.num_rows
        self._waiting.append(batch)
        self._waiting_rows += batch.num_rows
        self._waiting_bytes += batch.nbytes
        if self._waiting_rows >= self._group_rows or self._waiting_bytes >= GROUP_BYTES:
            self._do(self._flush)

    def finish(self, schema: pa.Schema, report: Mapping[str, Any]) -> None:
        """Complete the output with its report and publish it; `schema` serves where no batch was written."""
        self._do(partial(self._complete, schema, report))

    def _complete(self, schema: pa.Schema, report: Mapping[str, Any]) -> None:
        self._flush()
        if self._format is None:
            self._open_part(schema)
        self._close_part(report)
        if self._is_folder and self._staging is not None:
            text = json.dumps(report, ensure_ascii=False, indent=1, default=str)
            (self._staging / REPORT_FILE).write_text(text + "\n", encoding="utf-8")
        self._place.publish()

    def _flush(self) -> None:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting)
        self._waiting, self._waiting_rows, self._waiting_bytes = [], 0, 0
        if self._is_folder and self._file is not None and self._file.tell() >= self._part_bytes:
            self._close_part({})
        if self._format is None:
            self._open_part(table.schema)
        assert self._format is not None
        self._format.write(table)

    def _open_part(self, schema: pa.Schema) -> None:
        if self._staging is None:
            self._staging = self._place.stage()
        path = self._staging / f"part-{self._parts:05d}.parquet" if self._is_folder else self._staging
        self._parts += 1
        self._file = path.open("wb")
        self._format = open_format(self._kind, self._file, schema)

    def _close_part(self, report: Mapping[str, Any]) -> None:
        assert self._format is not None
        assert self._file is not None
        self._format.close(report)
        self._file.close()
        self._format = self._file = None

    def _abandon(self) -> None:
        if self._format is not None:
            with contextlib.suppress(OSError, ValueError, pa.ArrowException):
                self._format.close({})
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        self._format = self._file = None
        with contextlib.suppress(Exception):
            self._place.discard()

    def _do(self, step: Callable[[], None]) -> None:
        failure = self._failure_of(step)
        if failure is not None:  # raised out here, where the library's own exception is in no frame any more
            raise failure

    def _failure_of(self, step: Callable[[], None]) -> OutputError | None:
        """Say in one sentence what the disk or the store said."""
        try:
            step()
        except ImgtagError:
            self._abandon()
            raise
        except Exception as error:  # each storage library has errors of its own
            kept = self._place.keep() if self._format is None else None
            self._abandon()
            where = "" if kept is None else f"; the finished table is kept at {str(kept)!r}"
            reason = reason_of(error)
            return OutputError(f"{redact(self._out)!r} cannot be written ({reason}); nothing is left there{where}")
        return None
