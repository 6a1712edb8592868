"""Caps are kept before a call is sent, by all processes on one store, and over their deaths."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from imgtag_pipeline.errors import CapReached, ConfigError, StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.spend import FileRecord, MemoryRecord, SpendGuard, jobs, state
from imgtag_pipeline.spend.files import read_book
from imgtag_pipeline.spend.jobs import IDLE_SECONDS, MOST_JOBS
from imgtag_pipeline.spend.locks import locked
from imgtag_pipeline.spend.pricing import day_of
from imgtag_pipeline.testing import FakeClock

PRICE = Price(((10, 2500), (None, 2000)))
TENCENT = Price(((100, 1100), (None, 900)), scheme="whole-month", free_calls=3)


class Processes(FileRecord):
    """A book in which the test says who is alive."""

    dead = frozenset()

    def is_alive(self, token, seen):
        return token not in self.dead


def purse_of(folder, name="a", *, dead=(), **words):
    book = Processes(folder, "viapi", key="viapi:x:me", address="viapi/x")
    book.dead = frozenset(dead)
    return SpendGuard(PRICE, book=book, token=name, clock=FakeClock(), **words)


async def spend(spend_guard, most=1000, billed="yes"):
    """Calls until the cap is reached; how many."""
    for count in range(most):
        try:
            ticket = await spend_guard.reserve()
        except CapReached:
            return count
        await spend_guard.settle(ticket, billed)
    return most


async def test_processes_share_one_cap(tmp_path):
    """Two processes that overlap send as many calls as one may."""
    one, two = purse_of(tmp_path, "one", max_calls=10), purse_of(tmp_path, "two", max_calls=10)
    await two.open()
    assert await spend(one, 4) + await spend(two) == 10
    assert await spend(one) == 0


async def test_the_next_run_has_the_whole_cap_again(tmp_path):
    """An allotment is over when everybody has ended orderly."""
    for _ in range(2):
        spend_guard = purse_of(tmp_path, max_calls=10)
        assert await spend(spend_guard) == 10
        await spend_guard.close()


async def test_a_run_after_a_death_goes_on_with_what_is_left(tmp_path):
    """What the dead one had sent or set aside is gone; after the one that took its place the next begins anew."""
    dead = purse_of(tmp_path, "dead", max_calls=10)
    await spend(dead, 3)
    await dead.reserve()
    heir = purse_of(tmp_path, "heir", dead=["dead"], max_calls=10)
    assert await spend(heir) == 6
    await heir.close()
    assert await spend(purse_of(tmp_path, "next", max_calls=10)) == 10


async def test_a_refusal_says_who_used_the_cap_up(tmp_path):
    """A run that goes on for a dead one may have sent only a part itself."""
    await spend(purse_of(tmp_path, "dead", max_calls=10), 7)
    heir = purse_of(tmp_path, "heir", dead=["dead"], max_calls=10, budget_micro_yuan=10**9)
    assert await spend(heir) == 3
    with pytest.raises(CapReached, match=r"max_calls=10 is used up \(10 sent, 3 of them here\)"):
        await heir.reserve()
    dear = purse_of(tmp_path, "dear", budget_micro_yuan=2500)
    await heir.close()
    assert await spend(dear) == 1
    with pytest.raises(CapReached, match=r"budget=0.0025 yuan is used up \(0.0020 spent or set aside for 1 calls\)"):
        await dear.reserve()


async def test_an_interrupt_while_closing_gives_the_place_up(tmp_path):
    """A notebook's process lives on: its next run has the whole cap."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 4)
    await cut_short(spend_guard, spend_guard.close(), 1)
    assert os.listdir(tmp_path) == ["viapi.book"]
    assert await spend(purse_of(tmp_path, max_calls=10)) == 10


async def test_each_dead_process_keeps_a_place_for_its_own_heir(tmp_path):
    """When two of three died, the allotment lasts until both were run again."""
    for name in ("one", "two"):
        await spend(purse_of(tmp_path, name, max_calls=10), 4)
    third = purse_of(tmp_path, "three", dead=["one", "two"], max_calls=10)
    assert await spend(third) == 2
    await third.close()
    assert await spend(purse_of(tmp_path, "four", dead=["two"], max_calls=10)) == 0


async def test_a_place_that_nobody_takes_over_ends_after_a_day(tmp_path):
    """A run that died and was never run again does not bind those of later days."""
    await spend(purse_of(tmp_path, "dead", max_calls=10), 10)
    later = purse_of(tmp_path, "later", dead=["dead"], max_calls=10)
    await later.clock.advance(state.PLACE_SECONDS + 1)
    assert await spend(later) == 10


async def test_the_smaller_figure_binds_those_who_overlap(tmp_path):
    """The newcomer's smaller cap holds for all, a larger one does not loosen it."""
    one = purse_of(tmp_path, "one", max_calls=10)
    await spend(one, 2)
    await purse_of(tmp_path, "two", max_calls=50).open()
    await purse_of(tmp_path, "three", max_calls=5).open()
    assert await spend(one) == 3


async def test_a_rerun_may_name_a_larger_cap(tmp_path):
    """After a crash the new figure counts, and so do the calls sent before."""
    await spend(purse_of(tmp_path, "dead", max_calls=10), 10)
    assert await spend(purse_of(tmp_path, "heir", dead=["dead"], max_calls=15)) == 5


async def test_a_run_without_a_cap_is_not_bound_but_counts(tmp_path):
    """Its calls use up what the others may send."""
    capped = purse_of(tmp_path, "capped", max_calls=10)
    await capped.open()
    assert await spend(purse_of(tmp_path, "free"), 12) == 12
    assert await spend(capped) == 0


@pytest.mark.parametrize(("billed", "calls"), [("yes", 4), ("unknown", 4), ("no", 1000)])
async def test_a_budget_gives_back_what_was_not_billed(billed, calls):
    """Calls that may have been paid count as paid."""
    assert await spend(SpendGuard(PRICE, budget_micro_yuan=10_000), billed=billed) == calls


async def test_max_calls_counts_also_what_was_not_billed():
    """A throttled call was sent, too."""
    assert await spend(SpendGuard(PRICE, max_calls=7), billed="no") == 7


async def test_a_budget_that_is_exactly_enough_is_enough():
    """Tier by tier, to the micro-yuan, with several calls open at once."""
    spend_guard = SpendGuard(PRICE, budget_micro_yuan=10 * 2500 + 5 * 2000)

    async def call():
        ticket = await spend_guard.reserve()
        await asyncio.sleep(0)
        await spend_guard.settle(ticket, "yes")

    await asyncio.gather(*(call() for _ in range(15)))
    with pytest.raises(CapReached):
        await spend_guard.reserve()


async def test_free_calls_need_no_budget():
    """A vendor's free calls of a month are made with a budget of nothing."""
    assert await spend(SpendGuard(TENCENT, budget_micro_yuan=0)) == 3


async def test_a_month_that_becomes_cheaper_is_entered_as_the_vendor_bills_it():
    """The call that reaches the tier costs nothing, and the ledger has the whole month at the tier's price."""
    spend_guard = SpendGuard(TENCENT, budget_micro_yuan=10**9)
    for _ in range(101):
        ticket = await spend_guard.reserve()
        assert await spend_guard.settle(ticket, "yes") >= 0
    (month,) = spend_guard.book.state.months.values()
    assert (month.paid, month.held) == ((101 - 3) * 900, 0)


async def test_free_calls_are_not_given_out_twice():
    """A paid call that ends before free ones that are open takes one of their places; the budget holds all the same."""
    spend_guard = SpendGuard(TENCENT, budget_micro_yuan=1100)
    first = [await spend_guard.reserve() for _ in range(4)]
    assert await spend_guard.settle(first.pop(), "yes") == 0
    with pytest.raises(CapReached):
        await asyncio.gather(spend_guard.reserve(), *(spend_guard.settle(ticket, "yes") for ticket in first))
    (month,) = spend_guard.book.state.months.values()
    assert (month.sent, month.paid) == (4, 1100)


async def test_tiers_begin_anew_when_a_run_lasts_into_the_next_month(tmp_path):
    """What other hosts had billed before counts in its own month only."""
    spend_guard = purse_of(tmp_path, billed_before=10)
    assert await spend_guard.settle(await spend_guard.reserve(), "yes") == 2000
    await spend_guard.clock.advance(40 * 86_400)
    assert await spend_guard.settle(await spend_guard.reserve(), "yes") == 2500


async def test_a_call_that_was_not_sent_leaves_no_trace():
    """Neither in the cap nor in the ledger."""
    spend_guard = SpendGuard(PRICE, max_calls=1, book=MemoryRecord())
    await spend_guard.cancel(await spend_guard.reserve())
    assert await spend(spend_guard) == 1
    (month,) = spend_guard.book.state.months.values()
    assert (month.sent, month.held) == (1, 0)


async def test_waiting_calls_end_when_open_ones_take_the_rest():
    """A call waits while open ones might turn out free, and is refused when they did not."""
    spend_guard = SpendGuard(PRICE, budget_micro_yuan=2500)
    ticket = await spend_guard.reserve()
    waiting = asyncio.create_task(spend_guard.reserve())
    await asyncio.sleep(0)
    await spend_guard.settle(ticket, "unknown")
    with pytest.raises(CapReached, match="run again"):
        await waiting


@pytest.mark.parametrize("damage", ["first", "second"])
async def test_a_torn_write_leaves_what_stood_before(tmp_path, damage):
    """At most the last change is lost."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 3)
    data = bytearray(spend_guard.book.path.read_bytes())
    at = 30 if damage == "first" else 16_384 + 30
    data[at] ^= 1
    spend_guard.book.path.write_bytes(data)
    assert read_book(spend_guard.book.path).calls == 3


class Late(MemoryRecord):
    """A book whose visitors hear of their visits late, as from a thread: the n-th after so many turns of the loop."""

    turns = ()

    async def update(self, change):
        result = await super().update(change)
        for _ in range(next(self.turns, 1) if self.turns else 0):
            await asyncio.sleep(0)
        return result


@pytest.mark.parametrize("turns", [(5, 1, 1), (1, 5, 1), (1, 1, 5), (3, 2, 1), (1, 5, 5)])
async def test_a_call_is_refused_only_when_no_open_one_may_turn_out_free(turns):
    """However the visits of three workers fall together: the throttled call of one leaves its money to the others."""
    spend_guard = SpendGuard(PRICE, budget_micro_yuan=2500, book=Late())
    await spend_guard.open()
    spend_guard.book.turns = iter(turns)

    async def throttled():
        await spend_guard.settle(await spend_guard.reserve(), "no")

    await asyncio.gather(throttled(), throttled(), throttled())


async def test_refused_calls_do_not_wait_for_each_other():
    """When none of them is going to be sent, all are told at once."""
    spend_guard = SpendGuard(PRICE, budget_micro_yuan=0, book=Late())
    reserving = [spend_guard.reserve() for _ in range(5)]
    results = await asyncio.wait_for(asyncio.gather(*reserving, return_exceptions=True), 5)
    assert [type(result) for result in results] == [CapReached] * 5


@pytest.mark.parametrize("cuts", [1, 2])
async def test_an_interrupt_does_not_cut_the_accounting(tmp_path, cuts):
    """While another process holds the book: what a call came to is entered and told, the interrupt comes after that."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    ticket = await spend_guard.reserve()
    paid = []

    async def call():
        paid.append(await spend_guard.settle(ticket, "yes"))
        await asyncio.sleep(60)

    await cut_short(spend_guard, call(), cuts)
    assert paid == [2500]
    assert month_in(spend_guard).yes == 1


async def test_an_interrupt_leaves_no_call_set_aside_that_is_not_sent(tmp_path):
    """Whoever is cut while the call is being set aside gets it all the same, and gives it back."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 1)

    async def call():
        ticket = await spend_guard.reserve()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await spend_guard.cancel(ticket)
            raise

    await cut_short(spend_guard, call(), 1)
    assert month_in(spend_guard).sent == 1


async def cut_short(spend_guard, work, cuts):
    """Cancel it so often while it waits for the book."""
    handle = os.open(spend_guard.book.path, os.O_RDWR)
    with locked(handle):
        task = asyncio.create_task(work)
        await asyncio.sleep(0.02)
        for _ in range(cuts):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
    os.close(handle)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def month_in(spend_guard):
    (month,) = read_book(spend_guard.book.path).months.values()
    return month


async def test_a_book_that_was_removed_stops_everybody_who_used_it(tmp_path):
    """A run that began a new one does not get the whole cap beside those who go on."""
    old = purse_of(tmp_path, "old", max_calls=10)
    assert await spend(old, 4) == 4
    old.book.path.unlink()
    new = purse_of(tmp_path, "new", max_calls=10)
    assert await spend(new, 3) == 3
    for spend_guard in (old, new):
        with pytest.raises(StoreError, match="was lost"):
            await spend_guard.reserve()
        await spend_guard.close()
    assert await spend(purse_of(tmp_path, "next", max_calls=10)) == 10


async def test_what_the_dead_left_of_a_lost_book_binds_nobody(tmp_path):
    """Once all who noticed have ended, the next run begins anew instead of being refused for a day."""
    for name in ("dead", "too"):
        await spend(purse_of(tmp_path, name, max_calls=10), 2)
    living = purse_of(tmp_path, "living", max_calls=10)
    await spend(living, 2)
    await living.book.update(lambda found: setattr(found, "is_lost", True))
    with pytest.raises(StoreError, match="was lost"):
        await living.reserve()
    with pytest.raises(StoreError, match="was lost"):
        await purse_of(tmp_path, "joins", dead=["dead", "too"], max_calls=10).reserve()
    everybody = ["dead", "too", "living", "joins"]
    assert await spend(purse_of(tmp_path, "next", dead=everybody, max_calls=10)) == 10


async def test_a_book_that_was_put_back_is_noticed(tmp_path):
    """From a copy, or by a disk that forgot."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 2)
    copy = spend_guard.book.path.read_bytes()
    await spend(spend_guard, 3)
    spend_guard.book.path.write_bytes(copy)
    with pytest.raises(StoreError, match="older state"):
        await spend_guard.reserve()


async def test_a_disk_whose_locks_do_not_bind_is_noticed(tmp_path):
    """Somebody wrote over what this run wrote, without having read it."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 1)
    before = spend_guard.book.path.read_bytes()
    await spend(spend_guard, 1)
    other = FileRecord(tmp_path, "viapi")
    other.path.write_bytes(before)
    for _ in range(2):
        await other.update(lambda state: state.months.clear())
    with pytest.raises(StoreError, match="caps cannot be kept"):
        await spend_guard.reserve()


async def test_a_run_that_could_not_join_leaves_no_sign(tmp_path):
    """Neither of life nor of a place; the next one has the whole cap."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 1)
    await spend_guard.close()
    whole = spend_guard.book.path.read_bytes()
    spend_guard.book.path.write_bytes(b"\x01" * len(whole))
    with pytest.raises(StoreError, match="damaged"):
        await purse_of(tmp_path, "two", max_calls=10).open()
    assert os.listdir(tmp_path) == ["viapi.book"]
    spend_guard.book.path.write_bytes(whole)
    assert await spend(purse_of(tmp_path, "three", max_calls=10)) == 10


async def test_a_book_that_was_only_begun_is_finished(tmp_path):
    """A kill while its room was being taken leaves zeros, and nothing was counted yet; a cut one is refused."""
    path = tmp_path / "viapi.book"
    path.write_bytes(bytes(5000))
    assert await spend(purse_of(tmp_path, max_calls=10), 3) == 3
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(StoreError, match="cut short"):
        await purse_of(tmp_path, "two", max_calls=10).reserve()


async def test_a_damaged_book_is_refused(tmp_path):
    """A cap that cannot be read is not guessed."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    await spend(spend_guard, 3)
    spend_guard.book.path.write_bytes(b"\x01" * 32_768)
    with pytest.raises(StoreError, match="damaged"):
        await spend_guard.reserve()


async def test_a_folder_that_cannot_be_written_stops_before_the_call(tmp_path):
    """The error says what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="caps cannot be kept"):
        await purse_of(tmp_path / "file" / "folder", max_calls=10).reserve()


async def test_a_failure_to_settle_leaves_the_call_counted(tmp_path):
    """The answer is worth more than the book: it is not lost for it."""
    spend_guard = purse_of(tmp_path, max_calls=10)
    ticket = await spend_guard.reserve()
    spend_guard.book.path.write_bytes(b"\x01" * 32_768)
    assert await spend_guard.settle(ticket, "yes") == 2500


SENDER = """
import asyncio, sys
from pathlib import Path
from imgtag_pipeline.spend import FileRecord, SpendGuard
from imgtag_pipeline.errors import CapReached
from imgtag_pipeline.model import Price
from imgtag_pipeline.spend.pricing import day_of
async def main():
    book = FileRecord(Path(sys.argv[1]), "x")
    spend_guard = SpendGuard(Price(((None, 2500),)), max_calls=int(sys.argv[2]), book=book)
    count = 0
    try:
        while True:
            await spend_guard.settle(await spend_guard.reserve(), "yes")
            count += 1
    except CapReached:
        print(count)
    if len(sys.argv) > 3:
        os._exit(9)
    await spend_guard.close()
import os
asyncio.run(main())
"""


async def test_real_processes_send_exactly_the_cap(tmp_path):
    """Four at once, each as fast as it can, with a fifth that holds the allotment open."""
    holder = SpendGuard(PRICE, max_calls=2000, book=FileRecord(tmp_path, "x"))
    await holder.open()
    command = [sys.executable, "-c", SENDER, str(tmp_path), "2000"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    counts = [int((await asyncio.to_thread(each.communicate))[0]) for each in running]
    assert sum(counts) == 2000
    await holder.close()
    assert [path.name for path in Path(tmp_path).iterdir()] == ["x.book"]


async def test_a_real_death_is_noticed(tmp_path):
    """The lock of a process that was killed is free, so its re-run goes on with its allotment."""
    command = [sys.executable, "-c", SENDER, str(tmp_path), "30", "die"]
    assert (await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE)).returncode == 9
    heir = SpendGuard(PRICE, max_calls=40, book=FileRecord(tmp_path, "x"))
    assert await spend(heir) == 10
    await heir.close()
    assert sorted(os.listdir(tmp_path)) == ["x.book"]


async def test_runs_of_a_job_one_after_another_share_its_cap(tmp_path):
    """Twenty partitions, orderly ended or dead, however long apart; another name, and none, have their own."""
    sent = 0
    for number in range(20):
        spend_guard = purse_of(tmp_path, f"run{number}", job="2026-11-26", max_calls=50)
        await spend_guard.clock.advance(number * 86_400)
        sent += await spend(spend_guard, 4)
        if number % 2:
            await spend_guard.close()
    assert sent == 50
    assert await spend(purse_of(tmp_path, "other", job="2026-11-27", max_calls=7)) == 7
    assert await spend(purse_of(tmp_path, "none", max_calls=5)) == 5


async def test_the_newest_figure_of_a_job_applies(tmp_path):
    """What was spent stays; a run that names no figure is bound by the one before."""
    assert await spend(purse_of(tmp_path, "a", job="x", max_calls=10)) == 10
    assert await spend(purse_of(tmp_path, "b", job="x")) == 0
    assert await spend(purse_of(tmp_path, "c", job="x", max_calls=15)) == 5
    refused = purse_of(tmp_path, "d", job="x", max_calls=12)
    with pytest.raises(CapReached, match=r"max_calls=12 is used up \(15 sent, 0 of them here\); all runs of job 'x'"):
        await refused.reserve()


async def test_a_call_of_a_dead_run_stays_set_aside_in_its_job(tmp_path):
    """It may have been billed."""
    await purse_of(tmp_path, "dead", job="x", budget_micro_yuan=25_000).reserve()
    assert await spend(purse_of(tmp_path, "next", job="x", budget_micro_yuan=25_000)) == 9


async def test_a_budget_a_day_is_for_all_calls_of_the_day_in_china(tmp_path):
    """Calls of runs that name no cap count; at midnight in China the next day's budget begins."""
    assert await spend(purse_of(tmp_path, "free"), 2) == 2
    daily = purse_of(tmp_path, "a", budget_micro_yuan=10_000, budget_per="day")
    assert await spend(daily) == 2
    with pytest.raises(CapReached, match=r"budget=0\.01 yuan a day is used up"):
        await daily.reserve()
    today = day_of(daily.clock.now())
    later = purse_of(tmp_path, "b", budget_micro_yuan=10_000, budget_per="day")
    while day_of(later.clock.now()) == today:
        await later.clock.advance(600)
    assert await spend(later) == 4


async def test_a_budget_a_month_counts_what_the_ledger_knows(tmp_path):
    """Earlier runs of the month, whatever they named."""
    await spend(purse_of(tmp_path, "a"), 3)
    assert await spend(purse_of(tmp_path, "b", budget_micro_yuan=25_000, budget_per="month")) == 7


async def test_a_book_keeps_the_jobs_that_were_used_last(tmp_path):
    """Names that nobody used for days make room, the others never do."""
    book = MemoryRecord().state
    for number in range(MOST_JOBS):
        jobs.named(book.jobs, f"2026-11-26T{number}-{'x' * 40}", number)
    with pytest.raises(ConfigError, match="give one name to all partitions"):
        jobs.named(book.jobs, "one too many", MOST_JOBS)
    jobs.named(book.jobs, "one more", IDLE_SECONDS + 1)
    assert len(book.jobs) == MOST_JOBS
    assert len(msgspec.json.encode(book)) < 12_000
