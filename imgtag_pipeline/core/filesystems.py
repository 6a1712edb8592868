"""Where a file is and what kind its name says: the same answers for reading and for writing."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from imgtag_pipeline.core.environment import oss_storage
from imgtag_pipeline.errors import ConfigError, ImgtagError
from imgtag_pipeline.urls import redact

_FORMATS: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_CODECS: Final = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
KNOWN: Final = ".parquet, .csv, .tsv, .jsonl, .ndjson or .json, the text ones also with .gz, .bz2 or .zst"


@dataclass(frozen=True, slots=True)
class FileKind:
    """The format (`parquet`, `csv`, `tsv`, `jsonl`) and the compression around it."""

    format: str
    codec: str | None = None


def kind_of(name: str) -> FileKind:
    """What the suffix says; `ConfigError` where it says nothing known."""
    suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes]
    codec = _CODECS.get(suffixes[-1]) if suffixes else None
    inner = suffixes[:-1] if codec else suffixes
    known = _FORMATS.get(inner[-1]) if inner else None
    if known is None or (codec and known == "parquet"):
        raise ConfigError(f"the name {name!r} does not say what kind of file it is; let it end in {KNOWN}")
    return FileKind(known, codec)


def open_filesystem(url: str, storage_options: Mapping[str, Any] | None = None) -> tuple[Any, str]:
    """The fsspec filesystem and the path on it; `ConfigError` for a scheme that is unknown or not installed."""
    from fsspec.core import url_to_fs

    if not url.strip():
        raise ConfigError("the file name is empty; give a file, a glob, a folder or a URL of one")
    if "\0" in url:
        raise ConfigError(f"{url!r} has a NUL character, which no file's name may have; give another name")
    with file_errors(url, "opened"):
        filesystem, path = url_to_fs(
            str(Path(url).expanduser()) if url.startswith("~") else url, **storage_words(url, storage_options)
        )
    return filesystem, path


def storage_words(url: str, storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of the URL's file system; for `oss://` without keys, those of the environment (README, Providers).

    s3fs and the others read their vendors' variables themselves.
    """
    quieten_libraries()
    words = dict(storage_options or {})
    if url.partition("://")[0].lower() != "oss" or {"key", "secret", "token"} & words.keys():
        return words
    return {**oss_storage(), **words}


def path_text(path: Any) -> str:
    """A path as text: `str`, `os.PathLike`, UPath, Airflow's ObjectStoragePath. `ConfigError` for anything else."""
    if isinstance(path, str):
        return path
    if hasattr(path, "protocol") and hasattr(path, "path"):  # a URL of fsspec, which is no path of this machine
        return str(path)
    try:
        text = os.fspath(path)
    except TypeError:
        raise ConfigError(
            f"a {type(path).__name__} is not the name of a file; give a path, a URL, a glob or a list of these "
            "(tables are for imgtag.label)"
        ) from None
    return text if isinstance(text, str) else os.fsdecode(text)


class file_errors:  # noqa: N801 (used as a statement)
    """Says as the caller's mistake whatever a file system raises, each library errors of its own."""

    def __init__(self, name: str, doing: str) -> None:
        self._name, self._doing = name, doing

    def __enter__(self) -> None:
        """Nothing is held."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failure = None
        if isinstance(error, Exception) and not isinstance(error, ImgtagError):
            failure = ConfigError(
                f"{redact(self._name)!r} cannot be {self._doing} ({reason_of(error)}); check the name, the rights, and "
                "the storage options (endpoint, keys) of its file system"
            )
        del error, trace  # the library's words, which may show what it signed, stay out of our traceback
        if failure is not None:
            raise failure from None


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, without secrets."""
    said = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return redact(str(said).strip()).partition("\n")[0][:300] or type(error).__name__


def glob_pattern(glob: str) -> re.Pattern[str]:
    """What the paths look like that a glob finds."""
    from fsspec.utils import glob_translate

    return re.compile(glob_translate(glob))


def quieten_libraries() -> None:
    """Keep libraries from writing to the terminal by themselves; who configures logging sees them as before."""
    for name in ("ossfs", "oss2", "s3fs", "aiobotocore", "botocore", "fsspec"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


def is_local(filesystem: Any) -> bool:
    """Whether the files lie on this machine's own disk."""
    from fsspec.implementations.local import LocalFileSystem

    return isinstance(filesystem, LocalFileSystem)


def is_there(filesystem: Any, path: str) -> bool:
    """Whether a file or folder stands there now. (`exists` of ossfs says no to who may not ask about the bucket.)"""
    filesystem.invalidate_cache()
    try:
        filesystem.info(path)
    except FileNotFoundError:
        return False
    return True


def not_utf8(file: str, line: int, error: UnicodeDecodeError) -> ConfigError:
    """What to say about a text file in another encoding; the error is that of decoding the line."""
    found = f"byte {error.start + 1} of line {line} of {file!r} is 0x{error.object[error.start]:02X}"
    return ConfigError(
        f"{found}, which is not UTF-8; save the file as UTF-8, or convert it from what it was saved in, for example "
        "with: iconv -f GB18030 -t UTF-8 OLD > NEW"
    )


class Reading:
    """Says as the caller's mistake, with the file's name, what the disk, the store or the format's reader says."""

    def __init__(self, file: str) -> None:
        self._file = file

    def __enter__(self) -> None:
        """Nothing is held."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        failure = self._failure(error)
        del error, trace  # the library's words, which may show what it signed, stay out of our traceback
        if failure is not None:
            raise failure

    def _failure(self, error: BaseException | None) -> ConfigError | None:
        import pyarrow as pa

        if not isinstance(error, Exception) or isinstance(error, ImgtagError):
            return None
        is_ours = not isinstance(error, (OSError, EOFError, UnicodeDecodeError, pa.ArrowException))
        if is_ours and type(error).__module__ in ("builtins", "pyarrow.lib"):
            return None
        reason = redact(str(error).strip()).partition("\n")[0] or type(error).__name__
        return ConfigError(
            f"{self._file!r} cannot be read ({reason}); give a whole file of the kind that its name says"
        )


@contextlib.contextmanager
def open_stream(filesystem: Any, file: str) -> Iterator[Any]:
    """The bytes of a file as an Arrow stream, decompressed as its name says."""
    import pyarrow as pa

    codec = kind_of(file.rpartition("/")[2]).codec
    if is_local(filesystem):  # without Python, which Arrow's own threads must not call when the process ends
        with pa.OSFile(file, "rb") as plain:
            yield pa.CompressedInputStream(plain, codec) if codec else plain
        return
    with filesystem.open(file, "rb") as handle:
        stream = pa.PythonFile(handle, mode="r")
        yield pa.CompressedInputStream(stream, codec) if codec else stream
