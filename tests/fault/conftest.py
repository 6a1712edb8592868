"""Processes that can be killed, and a cloud that breaks on demand."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.testing import environment

HERE = Path(__file__).parent
ADDRESS = "viapi/TaggingImage"


class Process:
    """One `imgtag` process."""

    def __init__(self, forks, pid, folder):
        self._forks, self.pid, self._folder = forks, pid, folder

    def signal(self, number=signal.SIGINT):
        """Send it a signal, if it still runs."""
        self._forks.wish({"pid": self.pid, "signal": int(number)})

    def kill(self):
        """kill -9, and wait until it is gone; its exit code, -9 unless it had ended before."""
        self.signal(signal.SIGKILL)
        return self.wait()

    def wait(self):
        """Wait for its end; the exit code."""
        return self._forks.wait(self.pid)

    def is_running(self):
        """It has not ended yet."""
        return self._forks.is_running(self.pid)

    @property
    def stdout(self):
        return (self._folder / "stdout").read_text()

    @property
    def stderr(self):
        return (self._folder / "stderr").read_text()

    @property
    def synced(self):
        """How many bytes of each file, by inode, were synced: a power cut leaves them."""
        lines = (self._folder / "synced").read_text().split("\n")[:-1]
        return {int(inode): int(size) for inode, size in map(str.split, lines)}

    @property
    def report(self):
        """What `--json` printed."""
        return json.loads(self.stdout)


# Libraries that start threads when they are imported do not; a process with threads must not be forked.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


class Forks:
    """Starts `imgtag ARGV` processes that have their imports behind them."""

    def __init__(self, folder):
        self._folder = folder
        self._count = 0
        self.ended = {}
        command = [sys.executable, str(HERE / "forks.py")]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env={**os.environ, **ONE_THREAD}
        )
        assert self._process.stdout.readline() == b"ready\n"

    def start(self, *argv, env=None, max_file_bytes=0):
        """A running `imgtag ARGV`; with `max_file_bytes`, the disk takes no more than so much for each file."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        outputs = {name: str(folder / name) for name in ("stdout", "stderr", "synced")}
        (folder / "synced").touch()
        wish = {"argv": [str(word) for word in argv], **outputs, "env": env or {}, "max_file_bytes": max_file_bytes}
        self.wish(wish)
        while (words := self._read())[0] != b"pid":
            pass
        self.ended.pop(int(words[1]), None)  # a number that an earlier process had
        return Process(self, int(words[1]), folder)

    def wish(self, wish):
        self._process.stdin.write(json.dumps(wish).encode() + b"\n")

    def wait(self, pid):
        while pid not in self.ended:
            self._read()
        return self.ended[pid]

    def is_running(self, pid):
        while pid not in self.ended and select.select([self._process.stdout], [], [], 0)[0]:
            self._read()
        return pid not in self.ended

    def _read(self):
        words = self._process.stdout.readline().split()
        assert words, "the forking process died"
        if words[0] != b"pid":
            self.ended[int(words[0])] = int(words[1])
        return words

    def close(self):
        self._process.stdin.close()
        self._process.wait()


@pytest.fixture(scope="session")
def forks(tmp_path_factory):
    """Starts `imgtag` processes, quickly: `forks.start(*argv, env=...)`."""
    running = Forks(tmp_path_factory.mktemp("processes"))
    yield running
    running.close()


class Journal:
    """A table of image URLs on the disk, a store beside it, and a cloud: what a run needs."""

    def __init__(self, folder, forks, emulator):
        self.folder, self._forks, self.emulator = folder, forks, emulator
        self.source, self.out, self.store = folder / "in.parquet", folder / "out.parquet", folder / "store"

    def beside(self, name):
        """A desk with a folder of its own in this one's, and the same cloud."""
        (self.folder / name).mkdir()
        return Journal(self.folder / name, self._forks, self.emulator)

    def write(self, count, urls=None):
        """A table of so many images; the URLs."""
        urls = [f"https://img.example/{number}.jpg" for number in range(count)] if urls is None else urls
        pq.write_table(pa.table({"url": urls}), self.source)
        return urls

    def start(
        self,
        *words,
        concurrency=8,
        qps=5000,
        source=None,
        out=None,
        store=None,
        provider=ADDRESS,
        env=None,
        max_file_bytes=0,
    ):
        """`imgtag label` on the table, as a process."""
        argv = [
            "label",
            source or self.source,
            "--provider",
            provider,
            "--endpoint",
            self.emulator.url,
            "--overwrite",
            "--json",
        ]
        argv += ["--checkpoint", store or self.store, "--out", out or self.out, "--concurrency", concurrency]
        argv += ["--qps", qps, *words]
        env = {**environment(self.emulator), **(env or {})}
        return self._forks.start(*argv, env=env, max_file_bytes=max_file_bytes)

    def table(self, out=None):
        """What was written, without what differs from call to call."""
        return pq.read_table(out or self.out).replace_schema_metadata(None).drop_columns(["request_id"])


@pytest.fixture
def desk(tmp_path, forks, emulator):
    """A table, a store and a cloud in this process: `desk.write(100)`, `desk.start(...)`, `desk.emulator.ledger`."""
    return Journal(tmp_path, forks, emulator)
