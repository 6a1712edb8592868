"""A folder behind an fsspec URL: whole objects put and got, nothing else, so that any object store will do.

Only `pipe_file`, `cat_file`, `find` and `rm_file` are used; what a driver raises leaves here as a redacted `OSError`.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.checkpoint.files import TEMPORARY, Files
from imgtag_pipeline.checkpoint.layout import PART_SUFFIX
from imgtag_pipeline.core.filesystems import storage_words
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.urls import redact, unsigned_url

OBJECT_BYTES: Final = 8 << 20
_HELD_BYTES: Final = 64 << 20


class RemoteFolder:
    """Objects under one prefix. Blocking: for the store's own threads."""

    def __init__(self, filesystem: Any, path: str, files: Files) -> None:
        self.path = path.rstrip("/")
        self._filesystem = filesystem
        self._files = files

    def child(self, name: str) -> RemoteFolder:
        """A folder in this one."""
        return RemoteFolder(self._filesystem, f"{self.path}/{name}", self._files)

    def read(self, name: str) -> bytes:
        """A whole object; FileNotFoundError when there is none."""
        with _plain_errors(name):
            return bytes(self._filesystem.cat_file(f"{self.path}/{name}"))

    def put(self, name: str, data: bytes) -> None:
        """A whole object, at once."""
        path = f"{self.path}/{name}"
        with _plain_errors(name):
            try:
                self._files.pipe_file(self._filesystem, path, data)
            except FileNotFoundError:  # not an object store: folders have to be made
                self._filesystem.makedirs(self.path, exist_ok=True)
                self._files.pipe_file(self._filesystem, path, data)

    def remove(self, name: str) -> None:
        """An object that is gone already is fine."""
        with _plain_errors(name):
            try:
                self._filesystem.rm_file(f"{self.path}/{name}")
            except FileNotFoundError:
                return

    def sizes(self, suffix: str = "") -> dict[str, int]:
        """Names that end so, and their bytes; not those of folders below."""
        with _plain_errors(self.path):
            self._filesystem.invalidate_cache(self.path)
            try:
                found = self._filesystem.find(self.path, detail=True)
            except FileNotFoundError:
                return {}
        sizes = {}
        prefix = self.path.lstrip("/") + "/"
        for path, facts in found.items():
            name = path.lstrip("/").removeprefix(prefix)
            if name.endswith(suffix) and "/" not in name and not name.startswith(TEMPORARY):
                sizes[name] = int(facts.get("size") or 0)
        return sizes

    def folders(self) -> list[str]:
        """The names of the folders that hold something."""
        with _plain_errors(self.path):
            self._filesystem.invalidate_cache(self.path)
            try:
                found = self._filesystem.ls(self.path, detail=True)
            except FileNotFoundError:
                return []
        return sorted(entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == "directory")


class RemoteParts:
    """Parts as objects. The bytes read last are held, so that the pieces of one part cost one request."""

    def __init__(self, folder: RemoteFolder) -> None:
        self._folder = folder
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def sizes(self) -> dict[str, int]:
        """The parts' names and bytes."""
        return self._folder.sizes(PART_SUFFIX)

    def stamp(self) -> int | None:
        """Always the same: other hosts' parts are looked for when asked, not on the way."""
        return 0

    def opened(self, name: str) -> Any:
        """The part's bytes."""
        with self._lock:
            data = self._held.get(name)
            if data is not None:
                self._held.move_to_end(name)
        if data is None:
            data = self._folder.read(name)
            with self._lock:
                self._held[name] = data
                while len(self._held) > 1 and sum(map(len, self._held.values())) > _HELD_BYTES:
                    self._held.popitem(last=False)
        return pa.BufferReader(data)

    def put(self, name: str, data: bytes) -> None:
        """Add a part; putting it once more changes nothing."""
        self._folder.put(name, data)

    def remove(self, name: str) -> None:
        """Remove a part."""
        self._folder.remove(name)


@contextmanager
def _plain_errors(name: str) -> Iterator[None]:
    problem = None
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:  # drivers raise what they like: botocore's, aiohttp's, oss2's; some show signed URLs
        problem = f"{name}: {type(error).__name__}: {redact(str(error))[:300]}"
    if problem:
        raise OSError(problem)


def open_remote(url: str, storage_options: Mapping[str, Any] | None, files: Files) -> RemoteFolder:
    """The folder that an fsspec URL means; ConfigError when no driver answers to it."""
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(url, **storage_words(url, storage_options))
    except (ValueError, ImportError) as error:
        scheme = url.partition("://")[0]
        raise ConfigError(
            f"no driver for {scheme}:// ({redact(str(error))}); a checkpoint is a local folder or an fsspec URL "
            "whose driver is installed (oss:// needs the [oss] extra)"
        ) from None
    if re.match(r"https?$", url.partition("://")[0]):
        raise ConfigError(f"{unsigned_url(url)} cannot be written; a checkpoint is a local folder or an object store")
    return RemoteFolder(filesystem, path, files)
