"""File operations that fail, are cut short, lie or lose their reply, the n-th one of a run: nothing saved is lost."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.checkpoint.store import Tuning, compact, describe, open_store
from imgtag_pipeline.checkpoint.writer import FlushPolicy
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.model import Outcome, Tag

IDENTITY = {"address": "viapi/TaggingImage"}
KINDS = ["fails", "is cut short", "lies", "loses its reply", "fails for good"]
OPENING = 24  # more operations than it takes to open a store and to save one answer


class Faulty(Files):
    """The `nth` operation goes wrong in the way that `kind` says."""

    def __init__(self, kind: str = "", nth: int = 0) -> None:
        self.kind, self.nth, self.count = kind, nth, 0

    def _goes_wrong(self) -> bool:
        self.count += 1
        return self.count == self.nth or (self.kind == "fails for good" and 0 < self.nth <= self.count)

    def _do(self, operation, *arguments):
        if not self._goes_wrong() or self.kind == "lies":
            return operation(*arguments)
        if self.kind == "loses its reply":
            operation(*arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    def create(self, path):
        if not self._goes_wrong() or self.kind in ("lies", "loses its reply"):
            return super().create(path)
        raise OSError(errno.EACCES, "Permission denied")

    def write(self, handle, data):
        if not self._goes_wrong():
            return super().write(handle, data)
        data = bytes(data)
        if self.kind == "lies":
            middle = len(data) // 2
            return super().write(handle, data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :])
        if self.kind == "is cut short":
            super().write(handle, data[: len(data) // 2])
        if self.kind == "loses its reply":
            super().write(handle, data)
        raise OSError(errno.ENOSPC, "No space left on device")

    def sync(self, handle):
        self._do(lambda: None)  # nobody pulls the plug here: what matters is whether it says so

    def rename(self, source, target):
        self._do(super().rename, source, target)

    def unlink(self, path):
        self._do(super().unlink, path)

    def sync_folder(self, path):
        self._do(lambda: None)

    def pipe_file(self, filesystem, path, data):
        if self.kind == "is cut short" and self._goes_wrong():
            raise ConnectionResetError("cut")
        self._do(super().pipe_file, filesystem, path, data)


SOUND = Tuning(files=Faulty())


def outcome(number: int) -> Outcome:
    return Outcome(f"k{number}", f"https://h/{number}", "ok", (Tag(f"tag{number}", confidence=0.5),))


class Ledger:
    """What the store has confirmed."""

    def __init__(self) -> None:
        self.saved: set[str] = set()
        self.sent: set[str] = set()
        self.tried: set[str] = set()
        self.failed_at: int | None = None


async def use(store, ledger: Ledger, images: int) -> None:
    """A run: each image is marked, and its outcome saved; it must never confirm anything after a failure."""
    for number in range(images):
        key = f"k{number}"
        try:
            await store.mark_sent([key])
            assert ledger.failed_at is None, "a call would have been sent after the failure was known"
            ledger.sent.add(key)
            if number % 7 == 6:
                continue  # this one never gets an answer
            ledger.tried.add(key)
            await store.save([outcome(number)])
            assert ledger.failed_at is None
            ledger.saved.add(key)
        except StoreError:
            if ledger.failed_at is None:
                ledger.failed_at = number
    try:
        await store.close()
    except StoreError:
        return


async def scenario(url: str, spool: Path, files: Files, images: int, run: str) -> Ledger:
    """One run on files that may fail."""
    ledger = Ledger()
    pace = FlushPolicy(sync_every=0, seal_rows=max(5, images // 5), parts_every=3600, put_every=3600)
    tuning = Tuning(pace=pace, files=files)
    try:
        store = open_store(url, identity=IDENTITY, run_id=run, clock=SystemClock(), spool=spool, tuning=tuning)
    except StoreError:
        return ledger
    await use(store, ledger, images)
    return ledger


async def assert_kept(url: str, spool: Path, ledger: Ledger, images: int) -> None:
    """A later run on a sound disk knows all that was confirmed, nothing wrong, and the marks without an answer."""
    store = open_store(url, identity=IDENTITY, run_id="after", clock=SystemClock(), spool=spool, tuning=SOUND)
    keys = [f"k{number}" for number in range(images)]
    known = {key for key, status in zip(keys, store.lookup(keys), strict=True) if status}
    assert ledger.saved <= known <= ledger.tried
    assert_rows_as_saved(store, known)
    assert ledger.sent - known <= set(store.possibly_billed)
    await store.close()


def assert_rows_as_saved(store, keys: set[str]) -> None:
    """Of each of these images the store has the row that was saved, in every field."""
    rows = store.take(sorted(keys)).to_pylist()
    saved = [outcome(int(key[1:])) for key in sorted(keys)]
    times = [row["at"] for row in rows]
    assert None not in times
    expected = outcomes_to_batch(saved, run="run", at=[0] * len(saved)).to_pylist()
    assert rows == [{**row, "at": at} for row, at in zip(expected, times, strict=True)]


def assert_whole_parts(folder: Path) -> None:
    """Whatever goes by the name of a part is one."""
    for part in folder.rglob("*.parquet"):
        if not part.name.startswith(".tmp-"):
            pq.read_table(part, page_checksum_verification=True)


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
async def test_the_nth_file_operation_goes_wrong(tmp_path, request, figure, kind):
    """No save counts that is lost, no mark is forgotten, no call goes out after a failure, no half part is seen."""
    most = request.config.getoption("--faults")
    saved = []
    for nth in range(1, most + 1):
        with noted(nth):
            saved.append(await one_goes_wrong(tmp_path / str(nth), kind, nth))
        shutil.rmtree(tmp_path / str(nth))
    assert_much_was_saved(kind, saved)
    figure("the n-th file operation " + kind, f"n = 1..{most}", "0 saved answers or marks lost, no call after it")


def assert_much_was_saved(kind: str, saved: list[int]) -> None:
    """Something was at stake: only while a store opens, or where the manifest is a lie, may nothing be saved."""
    if kind == "lies":
        assert sorted(saved)[1] >= 18
    assert len(saved) > OPENING
    assert all(saved[OPENING:]) or kind == "lies"
    assert sum(saved) >= len(saved), "nearly all of them ended at once"


@contextmanager
def noted(nth: int):
    """Say at which operation something failed."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"at operation {nth}")
        raise


async def one_goes_wrong(folder: Path, kind: str, nth: int) -> int:
    """How many answers had been saved."""
    images = max(21, nth // 4)
    url = str(folder / "store")
    ledger = await scenario(url, folder, Faulty(kind, nth), images, "run")
    assert_whole_parts(folder)
    if kind == "lies" and ledger.saved:
        await assert_nothing_wrong(url, folder, ledger, images)
    else:
        await assert_kept(url, folder, ledger, images)
    return len(ledger.saved)


async def assert_nothing_wrong(url: str, spool: Path, ledger: Ledger, images: int) -> None:
    """A disk that wrote something else than it was told may lose that frame, but yields nothing wrong."""
    try:
        store = open_store(url, identity=IDENTITY, run_id="after", clock=SystemClock(), spool=spool, tuning=SOUND)
    except ConfigError:  # the lie was in the manifest: refused by name
        return
    keys = [f"k{number}" for number in range(images)]
    known = {key for key, status in zip(keys, store.lookup(keys), strict=True) if status}
    assert known <= ledger.tried
    assert ledger.saved <= known, "rows were in memory, and sealing checks what it wrote"
    assert_rows_as_saved(store, known)
    await store.close()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", ["fails", "loses its reply", "fails for good"])
async def test_the_nth_operation_of_a_remote_store_goes_wrong(tmp_path, request, kind):
    """With an object store behind it: the same, and a later run on this host puts what was left in the spool."""
    filesystem, saved = fsspec.filesystem("memory"), []
    for nth in range(1, request.config.getoption("--faults") * 2 // 5 + 1):
        url = f"memory://faults-{os.getpid()}-{kind.replace(' ', '')}-{nth}/tags"
        with noted(nth):
            ledger = await scenario(url, tmp_path, Faulty(kind, nth), 21, "run")
            await assert_kept(url, tmp_path, ledger, 21)
            saved.append(len(ledger.saved))
            assert not list(tmp_path.rglob("*.parquet")), "the later run has put everything"
            for path in filesystem.find(url):
                if path.endswith(".parquet"):
                    pq.read_table(filesystem.open(path), page_checksum_verification=True)
        filesystem.rm(url, recursive=True)
    assert_much_was_saved(kind, saved)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_nth_operation_of_a_compaction_goes_wrong(tmp_path, kind):
    """Compaction says that it failed, or did it; all answers are there, no part is half, and a further one succeeds."""
    url, count = str(tmp_path / "store"), Faulty()
    await scenario(url, tmp_path, Faulty(), 21, "run")
    shutil.copytree(tmp_path / "store", tmp_path / "before")
    compact(url, tuning=Tuning(files=count))
    for nth in range(1, count.count + 1):
        shutil.rmtree(tmp_path / "store")
        shutil.copytree(tmp_path / "before", tmp_path / "store")
        with noted(nth):
            with suppress(StoreError):
                compact(url, tuning=Tuning(files=Faulty(kind, nth)))
            assert_whole_parts(tmp_path / "store")
            (done,), (held,) = compact(url), describe(url)
            assert (done.parts_after, held.images) == (1, 18)
            assert len(held.possibly_billed) == 3 or kind == "lies", "a disk may lie about that frame"


async def test_a_run_without_faults_does_enough_operations(tmp_path):
    """The n of the tests above reach into opening, writing, syncing, sealing, removing and closing."""
    files = Faulty()
    ledger = await scenario(str(tmp_path / "s"), tmp_path, files, 21, "run")
    assert len(ledger.saved) == 18
    assert files.count >= 100


async def test_a_read_only_store_says_so_before_any_call(tmp_path):
    """Where nothing can be written, the first mark is refused, and what is known can still be read."""
    url = str(tmp_path / "store")
    await scenario(url, tmp_path, Files(), 4, "first")
    ledger = await scenario(url, tmp_path, Faulty("fails for good", 1), 8, "second")
    assert (ledger.sent, ledger.failed_at) == (set(), 0)


WRITER = """
import asyncio, sys
from imgtag_pipeline.checkpoint.store import Tuning, compact, describe, open_store
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.model import Outcome, Tag
from imgtag_pipeline.checkpoint.writer import FlushPolicy

async def main(url, keys, wants_claims):
    store = open_store(url, identity={"address": "viapi/TaggingImage"}, run_id="w", clock=SystemClock(),
                       tuning=Tuning(pace=FlushPolicy(seal_rows=40)))
    print("start", *store.possibly_billed, flush=True)
    print("known", *(key for key, status in zip(keys, store.lookup(keys)) if status), flush=True)
    async def ask(key):
        await store.mark_sent([key])
        print("sent", key, flush=True)
        await asyncio.sleep(0.002)
        await store.save([Outcome(key, "u", "ok", (Tag("tag" + key[1:], confidence=0.5),))])
        print("saved", key, flush=True)
    todo = [key for key, status in zip(keys, store.lookup(keys)) if status is None]
    while todo:
        mine = await store.claim(todo[:20]) if wants_claims else set(todo[:20])
        await asyncio.gather(*(ask(key) for key in sorted(mine)))
        if not mine:
            await store.wait_for(todo[:20])
        todo = [key for key, status in zip(todo, store.lookup(todo)) if status is None]
    await store.close()
    print("end", flush=True)

asyncio.run(main(sys.argv[1], [f"k{i}" for i in range(int(sys.argv[2]))], sys.argv[3] == "claims"))
"""


def writer(url: Path, images: int, how: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(url), str(images), how], stdout=subprocess.PIPE, text=True
    )


def test_killed_processes_lose_nothing_that_was_saved(tmp_path):
    """Killed again and again, a writer repeats no image whose save had returned, and names those it had sent."""
    saved: set[str] = set()
    unanswered: set[str] = set()
    asked: list[str] = []
    for trial in range(4):
        process = writer(tmp_path / "s", 4000, "kill")
        lines = []
        for line in process.stdout:
            lines.append(line.split())
            if len(lines) == 150 + 37 * (trial % 11):
                process.send_signal(signal.SIGKILL)
        process.wait()
        start, known = (set(line[1:]) for line in lines[:2])
        assert saved <= known, "a save had returned"
        assert unanswered - known <= start, "sent, not answered, and not named"
        sent = {line[1] for line in lines if line[0] == "sent" and len(line) == 2}
        assert not sent & known
        asked += sent
        saved |= {line[1] for line in lines if line[0] == "saved" and len(line) == 2}
        unanswered = (unanswered | sent) - saved
    assert len(set(asked)) > 100


def test_two_processes_share_the_work(tmp_path):
    """Two processes over the same images: every image is asked once, by one of them, and both end."""
    first, second = (writer(tmp_path / "s", 300, "claims") for _ in range(2))
    lines = [line.split() for process in (first, second) for line in process.communicate()[0].splitlines()]
    assert (first.returncode, second.returncode) == (0, 0)
    sent = [line[1] for line in lines if line[0] == "sent"]
    assert sorted(sent) == sorted(f"k{i}" for i in range(300))
    assert_whole_parts(tmp_path)


def test_the_other_goes_on_when_one_is_killed(tmp_path):
    """When a process that holds claims is killed, the other one asks about its images in the end."""
    first = writer(tmp_path / "s", 200, "claims")
    for line in first.stdout:
        if line.startswith("saved"):
            break
    second = writer(tmp_path / "s", 200, "claims")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert second.communicate(timeout=60)[0].splitlines()[-1] == "end"
    shutil.rmtree(tmp_path / "s")
