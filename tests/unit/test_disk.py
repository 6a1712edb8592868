"""The disk's primitives in every room: a disk that cannot sync folders, a child that lives longer than its parent."""

import errno
import os
import signal
import stat
import subprocess
import sys

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.core.disk import sync_folder
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.spend import FileRecord


def refuse_folders(monkeypatch, number):
    """A disk that answers so to the sync of a folder."""
    sync = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.emulator(is_synthetic=True)
def test_a_disk_that_cannot_sync_folders_is_good_enough(emulator, monkeypatch, tmp_path):
    """Store, caps, ledger and OUT: such a file system keeps names in order by itself."""
    refuse_folders(monkeypatch, errno.EINVAL)
    pd.DataFrame({"url": ["https://a.example/1.jpg"]}).to_parquet(tmp_path / "in.parquet")
    provider = Viapi(action="TaggingImage", endpoint=emulator.url, credentials=Keys("emulator", "emulator"))
    words = {"provider": provider, "checkpoint": tmp_path / "tags", "max_calls": 5, "progress": False}
    report = imgtag.enrich(tmp_path / "in.parquet", tmp_path / "out.parquet", **words)
    assert (report.ok, emulator.ledger.billed) == (1, 1)


def test_a_disk_that_fails_is_told(monkeypatch, tmp_path):
    """Other answers are no such thing."""
    refuse_folders(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        sync_folder(tmp_path)


PARENT = """
import os, sys, time
from pathlib import Path
from imgtag_pipeline.spend import FileRecord
record = FileRecord(Path(sys.argv[1]), "x")
record.announce("me")
child = os.fork()
if not child:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_does_not_keep_its_dead_parent_alive(tmp_path):
    """A capped run that forked and was killed: the next run sees that it is dead, though the child lives."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        record = FileRecord(tmp_path, "x")
        assert record.is_alive("me", 0.0)
        parent.kill()
        parent.wait()
        os.kill(child, 0)
        assert not record.is_alive("me", 0.0)
    finally:
        os.kill(child, signal.SIGKILL)
