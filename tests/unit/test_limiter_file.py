"""The file that processes share, on a clock that obeys: what they see of each other, and what a hurt file does."""

import fcntl
import logging
import os
import shutil
from collections import deque

import pytest

from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.limiter import file as file_module
from imgtag_pipeline.limiter.file import FileRecord, host_folder, sweep
from imgtag_pipeline.model import Quota
from imgtag_pipeline.testing import FakeClock

QPS = 20
STEP = 0.005


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "quota"


class Callers:
    """Processes that call as often as they may, each with a shelf of its own, and the moments of all calls."""

    def __init__(self, clock, folder, number, qps=QPS):
        self.clock, self.folder, self.qps = clock, folder, qps
        self.shelves = [self.opened() for _ in range(number)]
        self.sent = []

    def opened(self):
        return FileRecord(self.folder, "key", self.qps, self.clock)

    @property
    def path(self):
        (path,) = self.folder.glob("*.quota")
        return path

    async def run(self, seconds):
        """All call for so long; how many calls went out."""
        before, end = len(self.sent), self.clock.monotonic() + seconds
        while self.clock.monotonic() < end:
            await self.clock.advance(STEP)
            for shelf in self.shelves:
                await self.update(shelf)
        return len(self.sent) - before

    async def update(self, shelf):
        now = self.clock.monotonic()
        for grant in await shelf.update(lambda book, now: book.take(now, 5)):
            self.sent.append(now)
            await shelf.update(lambda book, now, grant=grant: book.settle(grant, now, 0.0002))
            await shelf.update(lambda book, now, grant=grant: book.accepted(grant, now))

    @property
    def worst(self):
        """The most calls in any second."""
        recent, worst = deque(), 0
        for at in self.sent:
            recent.append(at)
            while recent[0] <= at - 1:
                recent.popleft()
            worst = max(worst, len(recent))
        return worst

    async def close(self):
        for shelf in self.shelves:
            await shelf.close()


@pytest.fixture
async def callers(clock, folder):
    started = []

    def start(number, **options):
        started.append(Callers(clock, folder, number, **options))
        return started[-1]

    yield start
    for each in started:
        await each.close()


@pytest.mark.parametrize("number", [1, 2, 4])
async def test_processes_share_the_quota(callers, number):
    """However many share the file, their calls together use the quota, and no second holds more."""
    crowd = callers(number)
    sent = await crowd.run(10)
    assert crowd.worst <= QPS
    assert sent >= 0.97 * 10 * QPS


async def test_the_file_stays_small(callers):
    """Thousands of visits later, the file is still some kilobytes, and a newcomer understands it."""
    crowd = callers(2, qps=200)
    await crowd.run(10)
    assert crowd.path.stat().st_size < 200_000
    crowd.shelves.append(crowd.opened())
    await crowd.run(3)
    assert crowd.worst <= 200


async def test_the_last_second_of_a_process_that_ended_counts(callers):
    """A process that starts right after another has ended gets what is left of the quota."""
    first = callers(1)
    await first.run(3)
    await first.close()
    second = callers(1)
    second.sent = first.sent
    sent = await second.run(3)
    assert second.worst <= QPS
    assert sent >= 0.95 * 3 * QPS


async def test_a_process_that_dies_with_grants_keeps_their_places_for_a_while(callers, clock):
    """Calls that were granted and never heard of again are taken for sent."""
    crowd = callers(1)
    await crowd.run(2)
    dead = crowd.opened()
    await clock.advance(0.03)
    assert len(await dead.update(lambda book, now: book.take(now, 1))) == 1
    await dead.close()
    assert await crowd.run(2) <= 2 * QPS - 1
    assert await crowd.run(2) >= 2 * QPS - 1


def garbled(path, offset, count=64):
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(os.urandom(count))


HURTS = {
    "head garbled": lambda path: garbled(path, 20),
    "log garbled": lambda path: garbled(path, 4096, 2000),
    "head gone": lambda path: garbled(path, 0, 4096),
    "cut in the log": lambda path: os.truncate(path, 4200),
    "cut in the head": lambda path: os.truncate(path, 100),
    "empty": lambda path: os.truncate(path, 0),
    "older version": lambda path: path.write_bytes(b"itq1" + path.read_bytes()[4:]),
    "something else": lambda path: path.write_text("not a quota file\n" * 1000),
    "deleted": lambda path: path.unlink(),
    "replaced": lambda path: (path.with_suffix(".x").write_text("x"), path.with_suffix(".x").rename(path)),
    "folder deleted": lambda path: shutil.rmtree(path.parent),
}


@pytest.mark.parametrize("hurt", [each for each in HURTS if "log" not in each])
async def test_a_hurt_file_is_begun_anew_without_a_call_too_many(callers, caplog, hurt):
    """Whatever somebody does to the file: no second above the quota, one warning for each process, and on it goes."""
    crowd = callers(2)
    await crowd.run(3)
    with caplog.at_level(logging.WARNING, "imgtag_pipeline"):
        HURTS[hurt](crowd.path)
        assert await crowd.run(1) == 0
        await crowd.run(3)
    assert await crowd.run(2) >= 0.95 * 2 * QPS
    assert crowd.worst <= QPS
    assert 1 <= len(caplog.messages) <= 2
    assert all(str(crowd.path) in message for message in caplog.messages)


@pytest.mark.parametrize("hurt", [each for each in HURTS if "log" in each])
async def test_who_has_read_the_log_does_not_need_it_again(callers, caplog, hurt):
    """A hurt in what all have read holds nobody back before a newcomer finds it."""
    crowd = callers(2)
    await crowd.run(3)
    HURTS[hurt](crowd.path)
    assert await crowd.run(1) >= 0.95 * QPS
    assert caplog.messages == []
    crowd.shelves.append(crowd.opened())
    assert await crowd.run(1) == 0
    await crowd.run(4)
    assert crowd.worst <= QPS
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("hurt", [each for each in HURTS if "deleted" not in each])
async def test_a_newcomer_is_careful_with_a_hurt_file(callers, hurt):
    """A process that finds a hurt file at its start waits as well: what others sent just now is not known."""
    first = callers(1)
    await first.run(2)
    await first.close()
    HURTS[hurt](first.path)
    second = callers(1)
    second.sent = first.sent
    assert await second.run(1) == 0
    await second.run(4)
    assert second.worst <= QPS


async def test_times_from_before_the_last_start_of_the_machine_are_not_believed(callers, clock, folder):
    """Where the boot has no name, a book from a clock that ran further does not hold anybody back for days."""
    late = Callers(FakeClock(5e6), folder, 1)
    await late.run(2)
    await late.close()
    crowd = callers(1)
    await crowd.run(3)
    assert await crowd.run(2) >= 0.95 * 2 * QPS


async def test_another_machine_in_the_file_stops_the_sending(callers):
    """Two machines that meet in one file, on a network drive, are told so: their clocks do not compare."""
    crowd = callers(2)
    crowd.shelves[1]._epoch = "the boot of another machine"
    with pytest.raises(StoreError, match="another machine"):
        await crowd.run(4)
    assert crowd.worst <= QPS


async def test_a_visit_that_dies_half_way_has_changed_nothing(callers):
    """Until the head is replaced, what was written does not count."""
    crowd = callers(1)
    await crowd.run(1)
    before = crowd.path.read_bytes()[:4096]
    (shelf,) = crowd.shelves

    def die(book, now):
        book.take(now + 1, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await shelf.update(die)
    assert crowd.path.read_bytes()[:4096] == before
    await crowd.run(3)
    assert crowd.worst <= QPS


async def test_a_full_disk_stops_the_sending(callers, monkeypatch):
    """When a change cannot be written, nobody is told to send."""
    crowd = callers(1)
    await crowd.run(1)
    monkeypatch.setattr(file_module.os, "pwrite", lambda *_: 0)
    with pytest.raises(StoreError, match="no room left"):
        await crowd.run(1)


def unusable(folder):
    """A folder that cannot be made, whoever runs the test."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("in the way")


async def test_a_folder_that_the_caller_named_must_be_usable(clock, folder):
    """A share= that cannot be used is the caller's mistake."""
    unusable(folder)
    limiter = Limiter(clock=clock, share=folder)
    with pytest.raises(ConfigError, match="writable"):
        await limiter.acquire(Quota("key", QPS))
    await limiter.aclose()


def without_locks(monkeypatch, tmp_path):
    monkeypatch.setattr("imgtag_pipeline.limiter.limiter.CAN_SHARE", False)


def without_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    unusable(host_folder())


def without_any_temporary_folder(monkeypatch, tmp_path):
    def none():
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.gettempdir", none)


def of_somebody_else(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 4711)


@pytest.mark.parametrize("trouble", [without_locks, without_folder, without_any_temporary_folder, of_somebody_else])
async def test_where_nothing_can_be_shared_the_process_keeps_to_the_quota_by_itself(
    monkeypatch, tmp_path, caplog, trouble
):
    """No locks (Windows), no folder, somebody else's folder: one warning, and the pace is kept in this process."""
    trouble(monkeypatch, tmp_path)
    limiter = Limiter(clock=SystemClock(), share="host")
    for key in ("one", "two"):
        assert (await limiter.acquire(Quota(key, QPS))).sent()
    await limiter.aclose()
    (message,) = caplog.messages
    assert "by itself" in message


def test_files_of_quotas_that_nobody_uses_are_swept(tmp_path):
    """Old ones go, also the leftovers of a killed process; young ones and one that is locked stay."""
    old, young, locked, torn = (tmp_path / name for name in ("a.quota", "b.quota", "c.quota", "a.0123"))
    for path in (old, young, locked, torn):
        path.write_bytes(b"x")
        os.utime(path, (0, 0) if path != young else None)
    descriptor = os.open(locked, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert sweep(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.quota", "c.quota"]
    os.close(descriptor)


async def test_a_file_that_is_swept_while_somebody_has_it_open_is_begun_anew(tmp_path):
    """Its next visit makes a new one, which the others find."""
    clock = SystemClock()
    shelf = FileRecord(tmp_path, "q", 5, clock)
    await shelf.update(lambda book, now: book.take(now, 1))
    assert sweep(tmp_path, older_than=-10.0) == 1
    await shelf.update(lambda book, now: book.take(now, 1))
    assert [path.suffix for path in tmp_path.iterdir()] == [".quota"]
    await shelf.close()
