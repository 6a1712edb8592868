"""Where the bytes of objects lie: in memory, or one file per object in a folder, facts first, bytes after them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol


class Bodies(Protocol):
    """Keeps the bytes of objects by bucket and key."""

    def found(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Bucket, key and facts of all that was there before."""
        ...

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object that exists."""
        ...

    def write(self, bucket: str, key: str, data: bytes, facts: Mapping[str, object]) -> None:
        """Keep the bytes in place of those before, whole or not at all."""
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Forget an object that exists."""
        ...


class MemoryBodies:
    """Bytes in memory, gone with the process."""

    def __init__(self) -> None:
        self._data: dict[tuple[str, str], bytes] = {}

    def found(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Nothing was there before."""
        return iter(())

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes."""
        return self._data[bucket, key]

    def write(self, bucket: str, key: str, data: bytes, facts: Mapping[str, object]) -> None:
        """Keep the bytes; the facts are kept by the store."""
        self._data[bucket, key] = data

    def delete(self, bucket: str, key: str) -> None:
        """Forget the bytes."""
        del self._data[bucket, key]


class FolderBodies:
    """One file per object, named by a hash of its key: a line of JSON, then the bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def found(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Everything that an earlier emulator kept here."""
        for path in sorted(self._folder.glob("*/*.object")):
            with path.open("rb") as file:
                facts = json.loads(file.readline())
            yield path.parent.name, facts.pop("key"), facts

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes."""
        with self._path(bucket, key).open("rb") as file:
            file.readline()
            return file.read()

    def write(self, bucket: str, key: str, data: bytes, facts: Mapping[str, object]) -> None:
        """Write aside, then rename."""
        path = self._path(bucket, key)
        path.parent.mkdir(exist_ok=True)
        aside = path.with_suffix(".aside")
        with aside.open("wb") as file:
            file.write(json.dumps({"key": key, **facts}).encode() + b"\n")
            file.write(data)
        os.replace(aside, path)

    def delete(self, bucket: str, key: str) -> None:
        """Remove the file."""
        self._path(bucket, key).unlink()

    def _path(self, bucket: str, key: str) -> Path:
        name = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self._folder / bucket / f"{name}.object"
