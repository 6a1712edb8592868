"""Places for tag stores: in memory, on a disk, behind a URL."""

import shutil
from itertools import count
from pathlib import Path

import fsspec
import pytest

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.store import Tuning, open_store
from imgtag_pipeline.checkpoint.writer import FlushPolicy
from imgtag_pipeline.testing import FakeClock

IDENTITY = {"address": "viapi/TaggingImage", "options": {"a": 1}}
BUCKETS = count()


class Place:
    """A place for a store, and the runs that open it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        self.clock = FakeClock()
        self.url = {"memory": None, "disk": str(folder / "store"), "remote": f"memory://bucket{next(BUCKETS)}/tags"}[
            kind
        ]
        self.spool = folder / "spool"
        self._runs = count(1)

    def open(self, *, identity=IDENTITY, files: Files | None = None, object_bytes: int = 8 << 20, **pace):
        """The store, as a new run sees it."""
        tuning = Tuning(
            pace=FlushPolicy(**{"sync_every": 60.0, "parts_every": 3600.0, "put_every": 3600.0, **pace}),
            files=files or Files(),
            object_bytes=object_bytes,
        )
        return open_store(
            self.url,
            identity=identity,
            run_id=f"run{next(self._runs)}",
            clock=self.clock,
            spool=self.spool,
            tuning=tuning,
        )

    def after_a_crash(self) -> "Place":
        """The same place as it would be if all processes that use it died at this moment."""
        other = Place(self.kind, self.folder.with_name(self.folder.name + "-crashed"))
        _copied(self.folder, other.folder)
        if self.kind == "remote":
            other.url = self.url
        return other

    def on_another_host(self) -> "Place":
        """The same remote store, with another host's disk."""
        other = Place(self.kind, self.folder.with_name("another-host"))
        other.url, other.clock = self.url, self.clock
        return other

    def texts(self) -> bytes:
        """All bytes of all files."""
        found = [path.read_bytes() for path in self.folder.rglob("*") if path.is_file()]
        if self.kind == "remote":
            filesystem = fsspec.filesystem("memory")
            found += [filesystem.cat_file(path) for path in filesystem.find(self.url)]
        return b"".join(found)


@pytest.fixture(params=["disk", "remote"])
def place(request, tmp_path) -> Place:
    """A place that outlives a run."""
    (tmp_path / "here").mkdir()
    return Place(request.param, tmp_path / "here")


@pytest.fixture(params=["memory", "disk", "remote"])
def any_place(request, tmp_path) -> Place:
    """Any place, that of a run without a checkpoint included."""
    (tmp_path / "here").mkdir()
    return Place(request.param, tmp_path / "here")


@pytest.fixture
def disk(tmp_path) -> Place:
    """A store in a folder."""
    (tmp_path / "here").mkdir()
    return Place("disk", tmp_path / "here")


@pytest.fixture
def remote(tmp_path) -> Place:
    """A store behind a URL."""
    (tmp_path / "here").mkdir()
    return Place("remote", tmp_path / "here")


def _copied(source, target):
    """A copy of a folder in use: what is renamed or taken away while it is copied makes us start again."""
    while True:
        try:
            return shutil.copytree(source, target, ignore=shutil.ignore_patterns(".tmp-*"))
        except shutil.Error:
            shutil.rmtree(target)
