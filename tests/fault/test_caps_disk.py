"""The disk under the book of calls goes wrong: no call is sent that is not written down, and one sentence says why."""

import asyncio
import errno
import os
from functools import partial

import pyarrow as pa
import pytest

from imgtag_pipeline import api
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.errors import CapReached, StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.pipeline import records as money
from imgtag_pipeline.pipeline import stores
from imgtag_pipeline.providers import get
from imgtag_pipeline.spend import FileRecord, SpendGuard
from imgtag_pipeline.spend.files import read_book

PRICE = Price(((None, 2500),))
CALLS = 20
FAILURES = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken": errno.EIO}


class Faulty(Files):
    """From the `nth` write on, or only then, the disk does as `kind` says; with `syncs_fail` each sync fails."""

    def __init__(self, kind="", nth=0, *, lasts=False, syncs_fail=False, code=errno.ENOSPC):
        self.kind, self.nth, self.lasts, self.code = kind, nth, lasts, code
        self.syncs_fail = syncs_fail
        self.writes = self.syncs = 0

    def write(self, handle, data):
        self.writes += 1
        if not (self.writes == self.nth or (self.lasts and 0 < self.nth < self.writes)):
            return super().write(handle, data)
        if self.kind == "cut short":
            super().write(handle, data[: len(data) // 2])
        if self.kind == "lies":
            return super().write(handle, data[:40] + bytes([data[40] ^ 4]) + data[41:])
        if self.kind == "loses its reply":
            super().write(handle, data)
        raise OSError(self.code, os.strerror(self.code))

    def sync(self, handle):
        self.syncs += 1
        if self.syncs_fail:
            raise OSError(self.code, os.strerror(self.code))


async def calls_until_it_fails(spend_guard):
    """As a run does: set aside, send, settle; stop at the first call that cannot be set aside. (sent, the error)"""
    for sent in range(CALLS + 1):
        try:
            ticket = await spend_guard.reserve()
        except (StoreError, CapReached) as error:
            return sent, error
        await spend_guard.settle(ticket, "yes")
    return CALLS + 1, None


def written(book):
    """How many calls the book knows of; of one that is refused for its damage, as many as need be."""
    if not book.path.exists():
        return 0
    try:
        state = read_book(book.path)
    except StoreError:
        return CALLS
    return sum(month.sent for month in state.months.values()) if state else 0


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize("kind", ["fails", "cut short", "loses its reply", "lies"])
@pytest.mark.parametrize("nth", range(1, 44))
async def test_the_nth_write_goes_wrong(tmp_path, nth, kind, lasts):
    """Whatever was sent is in the book, all but the one change that the disk lied about; the next run keeps the cap."""
    disk = Faulty(kind, nth, lasts=lasts)
    spend_guard = SpendGuard(PRICE, max_calls=CALLS, book=FileRecord(tmp_path, "x", disk=disk))
    sent, error = await calls_until_it_fails(spend_guard)
    assert sent <= CALLS
    assert "caps cannot be kept" in str(error) or (isinstance(error, CapReached) and sent == CALLS)
    await spend_guard.close()
    assert written(spend_guard.book) >= sent - (kind == "lies")
    heir = SpendGuard(PRICE, max_calls=CALLS, book=FileRecord(tmp_path, "x"))
    assert (await calls_until_it_fails(heir))[0] <= CALLS
    await heir.close()


@pytest.mark.parametrize("how", FAILURES)
async def test_a_sync_that_fails_is_noticed_before_the_next_call(tmp_path, how):
    """Not at the end of the run: what was set aside since may be gone after a power cut, whatever later syncs say."""
    disk = Faulty(syncs_fail=True, code=FAILURES[how])
    spend_guard = SpendGuard(PRICE, max_calls=CALLS, book=FileRecord(tmp_path, "x", disk=disk))
    ticket = await spend_guard.reserve()
    while not disk.syncs:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    disk.syncs_fail = False
    for _ in range(2):
        with pytest.raises(StoreError, match="make room or give access") as caught:
            await spend_guard.reserve()
    assert os.strerror(FAILURES[how]) in str(caught.value)
    assert await spend_guard.settle(ticket, "yes") == 2500
    await spend_guard.close()


async def test_changes_are_synced_together_and_none_is_forgotten(tmp_path):
    """Many calls, few syncs; the last change is synced also when nothing follows it."""
    disk = Faulty()
    spend_guard = SpendGuard(PRICE, book=FileRecord(tmp_path, "x", disk=disk))
    for _ in range(100):
        await spend_guard.settle(await spend_guard.reserve(), "yes")
    during = disk.syncs
    while disk.syncs == during:
        await asyncio.sleep(0.01)
    assert disk.syncs < 20
    await spend_guard.close()


@pytest.mark.parametrize("how", FAILURES)
@pytest.mark.parametrize("words", [{"max_calls": 500}, {"budget": 9}, {}], ids=["calls", "budget", "no cap"])
@pytest.mark.emulator(is_synthetic=True, latency=0.005)
def test_a_disk_that_fails_in_the_middle_of_a_run(
    emulator, emulator_environment, tmp_path, monkeypatch, figure, how, words
):
    """No call without a written reservation, one sentence, every answer kept: the next run asks about the rest only."""
    disk = Faulty("cut short", 80, lasts=True, code=FAILURES[how])
    table = pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(200)]})
    settings = {
        "provider": get("viapi/TaggingImage", endpoint=emulator.url),
        "checkpoint": str(tmp_path / "store"),
        "qps": 5000,
        "progress": False,
    }
    with monkeypatch.context() as patched:
        patched.setattr(money, "FileRecord", partial(FileRecord, disk=disk))
        with pytest.raises(StoreError, match="caps cannot be kept") as caught:
            api.label(table, **settings, **words)
    assert str(caught.value).count(os.strerror(FAILURES[how])) == 1
    first = emulator.ledger.calls
    (row,) = stores.ledger(settings["checkpoint"])
    assert 0 < first <= row["yes"] + row["no"] + row["unknown"]
    api.label(table, **settings, **words)
    assert emulator.ledger.calls == 200
    figure(f"disk {how} in mid-run ({', '.join(words) or 'no cap'})", "80th write", f"{first} calls, 0 asked again")
