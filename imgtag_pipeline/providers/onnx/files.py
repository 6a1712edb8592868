"""A model's file and the files beside it, on this machine or behind any fsspec URL."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from imgtag_pipeline.core.filesystems import file_errors, open_filesystem
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.urls import redact

MAX_MODEL_BYTES: Final = (2 << 30) - 1  # a protobuf message is no larger
_MAX_SIDE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Reads the model at `url` and what lies beside it."""

    url: str

    @property
    def shown(self) -> str:
        """The model's name for messages, without a signature."""
        return redact(self.url)

    @property
    def path(self) -> str | None:
        """Its path where it lies on this machine."""
        filesystem, path = open_filesystem(self.url)
        return path if "file" in _protocols(filesystem) else None

    def model(self) -> bytes:
        """The model's bytes; raises `ConfigError` where there are none, or too many."""
        filesystem, path = open_filesystem(self.url)
        with file_errors(self.url, "read as a model"):
            if not filesystem.isfile(path):
                raise ConfigError(f"model is {self.shown!r}, and there is no such file")
            size = int(filesystem.info(path).get("size") or 0)
            if size > MAX_MODEL_BYTES:
                raise ConfigError(f"{self.shown} has {size:,} bytes; a model file has at most {MAX_MODEL_BYTES:,}")
            data: bytes = filesystem.cat_file(path)
        return data

    def beside(self, name: str) -> bytes | None:
        """A file of the model's folder, or of the one above where that is called `onnx`; None where there is none."""
        filesystem, path = open_filesystem(self.url)
        folder = path.rpartition("/")[0]
        folders = [folder, folder.rpartition("/")[0]] if folder.rpartition("/")[2] == "onnx" else [folder]
        with file_errors(self.url, "read as a model"):
            for each in folders:
                place = f"{each}/{name}"
                if filesystem.isfile(place):
                    return bytes(filesystem.cat_file(place))[:_MAX_SIDE_BYTES]
        return None

    def version(self) -> tuple[Any, ...]:
        """What changes when a file on this machine is written anew; of a URL, nothing."""
        path = self.path
        if path is None or not os.path.isfile(path):
            return ()
        facts = os.stat(path)
        return facts.st_size, facts.st_mtime_ns


def _protocols(filesystem: Any) -> tuple[str, ...]:
    named = filesystem.protocol
    return (named,) if isinstance(named, str) else tuple(named)
