"""Stores in trouble: bad moments of others, clocks put back, disks and remotes that fail, locks that stay held."""

import asyncio
import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import PosixPath
from typing import ClassVar

import fsspec
import pytest

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.claims import LOCK_NAME
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.layout import Identity
from imgtag_pipeline.checkpoint.other_writers import OtherWriters
from imgtag_pipeline.checkpoint.sealer import Worker
from imgtag_pipeline.checkpoint.store import Tuning, compact, describe, is_store, open_store, outcomes
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Job, Outcome, Tag
from imgtag_pipeline.testing import FakeClock

IDENTITY = {"address": "viapi/TaggingImage", "options": {"a": 1}}


def ok(key: str) -> Outcome:
    return Outcome(key, f"https://h/{key}", "ok", (Tag("cat", confidence=0.5),), calls=1, billed="yes")


def failed(key: str) -> Outcome:
    return Outcome(key, f"https://h/{key}", "failed", error_code="HTTP404", error="gone")


class Failing(Files):
    """Creating files fails from the n-th on, while it is told to."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.is_broken = True

    def create(self, path):
        self.left -= 1
        if self.is_broken and self.left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(path)


class Folder(PosixPath):
    """A folder in which something happens right after it was listed."""

    events: ClassVar[list[Callable[[], None]]] = []

    def glob(self, pattern):
        found = list(super().glob(pattern))
        while self.events:
            self.events.pop(0)()
        return iter(found)


async def test_claims_are_seen_of_one_who_changes_segments_meanwhile(disk):
    """A process that seals its segment between the listing of the folder and the reading loses no claim by it."""
    first = disk.open(seal_rows=3)
    await first.claim(["a"])
    (journal,) = disk.folder.rglob("journal")
    segments = sorted(path.name for path in journal.glob("*.journal"))

    def rows_that_fill_the_segment() -> None:
        asyncio.run(first.save([ok("x"), ok("y"), ok("z")]))
        while (journal / segments[0]).exists():
            continue

    Folder.events = [rows_that_fill_the_segment]
    seed = Identity.of(IDENTITY).seed
    peers = OtherWriters(Folder(journal), own="", seed=seed, shelf=Catalog([], cache_bytes=0), files=Files())
    await asyncio.to_thread(peers.look)
    assert len(peers.claims()) == 1
    peers.close()
    await first.close()


async def test_a_failed_opening_leaves_no_lock(disk):
    """When a store could not be opened, a second try in the same process finds what the dead had sent."""
    first = disk.open()
    await first.save([ok("a")])
    await first.mark_sent(["b"])
    crashed = disk.after_a_crash()
    await first.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="No space left"):
            crashed.open(files=Failing(0))
    again = crashed.open()
    assert (again.lookup(["a"]), again.possibly_billed) == (["ok"], ["b"])
    await again.close()


async def test_an_unreachable_remote_leaves_no_lock(remote, monkeypatch):
    """When the notes of other hosts cannot be read, a further try on this host still finds the journal."""
    first = remote.open()
    await first.mark_sent(["b"])
    crashed = remote.after_a_crash()
    await first.flush()
    memory = type(fsspec.filesystem("memory"))
    real = memory.find

    def find(self, path, **options):
        if "journal" in path:
            raise ConnectionRefusedError("no route")
        return real(self, path, **options)

    monkeypatch.setattr(memory, "find", find)
    with pytest.raises(StoreError, match="cannot be opened"):
        crashed.open()
    monkeypatch.undo()
    again = crashed.open()
    assert again.possibly_billed == ["b"]
    await again.close()
    await first.close()


async def test_closing_tells_when_the_journal_could_not_be_finished(place):
    """Answers that stay in the journal because no further segment can be begun are told, and known to the next run."""
    files = Failing(1000)
    store = place.open(files=files)
    await store.save([ok("a")])
    await store.mark_sent(["b"])
    files.left = 0
    with pytest.raises(StoreError, match=r"could not be finished \(.*No space left.*nothing is lost"):
        await store.close()
    again = place.open()
    assert (again.lookup(["a"]), again.possibly_billed) == (["ok"], ["b"])
    await again.close()


async def test_a_call_sent_after_the_clock_was_put_back_is_listed(place):
    """An earlier failure with a later time does not answer a sent mark, nor the job behind it."""
    first = place.open()
    await first.save([failed("a"), failed("j")])
    await first.close()
    place.clock.set_wall(place.clock.now() - timedelta(days=2))
    second = place.open()
    await second.mark_sent(["a", "j"])
    await second.save_job("j", Job("j1", place.clock.now()))
    third = place.after_a_crash().open()
    assert third.possibly_billed == ["a", "j"]
    assert list(third.jobs(["j"])) == ["j"]
    await second.save([failed("a")])
    await third.close()
    await second.close()
    last = place.open()
    assert last.possibly_billed == ["j"]
    await last.close()


async def test_claims_do_not_hang_on_clocks(disk):
    """However the wall clock jumps, what one process claimed the other is not granted while the first one lives."""
    first, second = disk.open(), disk.open()
    await first.claim(["a"])
    for days in (3, -6):
        disk.clock.set_wall(disk.clock.now() + timedelta(days=days))
        await disk.clock.advance(86_400)
        assert await second.claim(["a"]) == set()
    await first.close()
    assert await second.claim(["a"]) == {"a"}
    await second.close()


async def test_answers_are_saved_while_another_is_stopped_in_the_middle_of_claiming(disk):
    """Who holds the claims' lock keeps others from claiming, not from writing down what has arrived."""
    store = disk.open()
    await store.claim(["a"])
    (folder,) = disk.folder.rglob("journal")
    with (folder / LOCK_NAME).open("r+b") as other:
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        claiming = asyncio.ensure_future(store.claim(["b"]))
        await asyncio.wait_for(store.save([ok("a")]), 5)
        assert not claiming.done()
    assert await asyncio.wait_for(claiming, 5) == {"b"}
    await store.close()


async def test_a_segment_that_comes_back_shorter_takes_nothing_from_its_part(disk):
    """When a removed segment is there again after a crash, and damaged, the part that was sealed from it stays."""
    first = disk.open()
    await first.save([ok("a")])
    await first.save([ok("b")])
    crashed = disk.after_a_crash()
    await first.close()
    (part,) = disk.folder.rglob("*.parquet")
    shutil.copy(part, next(crashed.folder.rglob("parts")))
    (journal,) = crashed.folder.rglob("*.journal")
    os.truncate(journal, journal.stat().st_size - 5)
    second = crashed.open()
    await second.close()
    third = crashed.open()
    assert third.lookup(["a", "b"]) == ["ok", "ok"]
    await third.close()
    assert sum(rows.num_rows for _, rows in outcomes(crashed.url)) == 2


async def test_a_segment_that_comes_back_longer_adds_what_its_part_has_not(disk):
    """A part that was sealed from the beginning of a segment is completed by another one."""
    first = disk.open()
    await first.save([ok("a")])
    early = disk.after_a_crash()
    await first.save([ok("b")])
    second = early.open()
    await second.close()
    (part,) = early.folder.rglob("*.parquet")
    shutil.move(early.folder, early.folder.with_name("early"))
    crashed = disk.after_a_crash()
    await first.close()
    shutil.copy(early.folder.with_name("early") / part.relative_to(early.folder), next(crashed.folder.rglob("parts")))
    third = crashed.open()
    assert third.take(["b", "a"]).column("key").to_pylist() == ["b", "a"]
    await third.close()
    assert sorted(k for _, rows in outcomes(crashed.url) for k in rows.column("key").to_pylist()) == ["a", "b"]


class Unreachable(fsspec.AbstractFileSystem):
    """A bucket that nobody answers for."""

    protocol = "unreachable"
    cachable = False

    def ls(self, path, detail=True, **options):
        raise TimeoutError("https://b.oss.com/?Signature=CANARY timed out")

    find = cat_file = pipe_file = ls


def history(url: str, **where) -> list:
    return list(outcomes(url, **where))


def run(url: str, **where) -> None:
    open_store(url, identity=IDENTITY, run_id="r", clock=FakeClock(), **where)


@pytest.mark.parametrize("verb", [describe, compact, is_store, history, run])
def test_an_unreachable_store_is_told_in_one_sentence(tmp_path, verb):
    """Status, compaction, history and a run say of a store that does not answer what is the matter, as a StoreError."""
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(StoreError, match=r"the tag store unreachable://b/tags cannot be .*timed out") as caught:
        verb("unreachable://b/tags", spool=tmp_path)
    assert "CANARY" not in str(caught.value)


def test_a_disk_that_is_full_during_compaction_loses_nothing(disk):
    """Compaction that cannot write says so; all outcomes are still there, and a further try goes on."""
    for number in range(3):
        store = disk.open()
        asyncio.run(store.save([ok(f"k{number}")]))
        store.close_now()
    with pytest.raises(StoreError, match=r"cannot be compacted \(No space left.*further try"):
        compact(disk.url, tuning=Tuning(files=Failing(0)))
    assert (describe(disk.url)[0].images, describe(disk.url)[0].parts) == (3, 3)
    (done,) = compact(disk.url)
    assert (done.parts_before, done.parts_after) == (3, 1)


def test_work_that_raises_stops_no_other_work():
    """A surprise on the sealer's thread does not leave those waiting who come after it."""
    done = []
    worker = Worker("test")
    worker.submit(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    worker.submit(lambda: done.append(1))
    worker.stop()
    assert worker._thread is not None
    worker._thread.join(5)
    assert done == [1]


async def test_nobody_waits_for_a_store_that_was_closed_meanwhile(disk):
    """A save that comes at any moment of closing is either kept or refused."""
    for _ in range(20):
        store = disk.open()
        saves = [asyncio.ensure_future(store.save([ok("a")]))]
        closing = asyncio.ensure_future(store.close())
        while not closing.done():
            saves.append(asyncio.ensure_future(store.save([ok("b")])))
            await asyncio.sleep(0)
        results = await asyncio.wait_for(asyncio.gather(*saves, return_exceptions=True), 10)
        assert all(result is None or isinstance(result, StoreError) for result in results)


def test_a_disk_that_cannot_sync_folders_is_good_enough(tmp_path, monkeypatch):
    """File systems that keep names in order by themselves refuse to sync a folder; other errors are errors."""
    answers = [OSError(errno.EINVAL, "Invalid argument"), OSError(errno.EIO, "Input/output error")]

    def refused(handle):
        raise answers.pop(0)

    monkeypatch.setattr(os, "fsync", refused)
    Files().sync_folder(tmp_path)
    with pytest.raises(OSError, match="Input/output"):
        Files().sync_folder(tmp_path)
