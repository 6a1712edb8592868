"""Caps under kills: four processes share one store and one cap, and are killed and started again at random."""

import asyncio
import random
import time

import pytest

from imgtag_pipeline.api import ledger
from imgtag_pipeline.caps import FileBook, Purse
from imgtag_pipeline.ledger import name_of
from imgtag_pipeline.money import books_folder
from imgtag_pipeline.providers import get
from imgtag_pipeline.providers.credentials import Keys

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.2)

PROCESSES = 4
CAP = 60
YUAN = 0.0025


async def trial(desk, seed, folder, *words):
    """Processes that are killed now and then until all have ended by themselves; (calls at the cloud, kills between the
    first and the last call, the store).

    A further process keeps the allotment open, so that one that is killed before its first call continues it, too.
    """
    chance = random.Random(seed)
    store = folder / f"store{seed}"
    provider = get("viapi/TaggingImage", endpoint=desk.emulator.url, credentials=Keys("emulator", "emulator"))
    folder_of_books = books_folder(str(store), None)
    name = name_of(provider.quota.key, provider.address)
    book = FileBook(folder_of_books, name, key=provider.quota.key, address=provider.address)
    limits = {"max_calls": CAP} if "--max-calls" in words else {"budget_micro_yuan": round(CAP * YUAN * 1e6)}
    holder = Purse(provider.price, book=book, **limits)
    await holder.open()
    desk.emulator.ledger.clear()

    def start(number):
        return desk.start(*words, store=store, out=folder / f"out{seed}-{number}.parquet", concurrency=3)

    running = {number: start(number) for number in range(PROCESSES)}
    kills = 0
    deadline = time.monotonic() + 60
    while running:
        await asyncio.sleep(chance.uniform(0.02, 0.15))
        assert time.monotonic() < deadline, "the processes do not end"
        for number in [number for number, each in running.items() if not each.is_running()]:
            process = running.pop(number)
            assert process.wait() in (0, 4), process.stderr
        if running and kills < 6 and 0 < desk.emulator.ledger.calls < CAP:
            number = chance.choice(list(running))
            kills += running[number].kill() == -9
            running[number] = start(number)
    await holder.close()
    return desk.emulator.ledger.calls, kills, store


async def trials(desk, folder, count, figure, *words):
    """Run them; no call above the cap in any, and the ledger knows of every call."""
    desk.write(400)
    most = least = kills = 0
    for seed in range(count):
        calls, killed, store = await trial(desk, seed, folder, *words)
        assert calls <= CAP, f"trial {seed}: {calls} calls"
        (row,) = ledger(str(store))
        sent = row["yes"] + row["no"] + row["unknown"]
        assert calls <= sent <= CAP, f"trial {seed}: {calls} calls, {row}"
        assert desk.emulator.ledger.billed <= row["yes"] + row["unknown"]
        most, least, kills = max(most, calls), min(least or calls, calls), kills + killed
    figure(
        f"{words[0][2:]} {CAP}, {PROCESSES} processes, kill -9",
        f"{count} trials, {kills} kills in between",
        f"0 calls above ({least} to {most} sent)",
    )


@pytest.mark.parametrize("words", [("--max-calls", CAP), ("--budget", CAP * YUAN)], ids=["calls", "budget"])
async def test_no_call_above_the_cap(desk, tmp_path, figure, words):
    """Four processes in one store, killed at random moments."""
    await trials(desk, tmp_path, 1, figure, *words)


@pytest.mark.heavy
@pytest.mark.parametrize("words", [("--max-calls", CAP), ("--budget", CAP * YUAN)], ids=["calls", "budget"])
async def test_no_call_above_the_cap_in_many_trials(desk, tmp_path, figure, words):
    """The same, often."""
    await trials(desk, tmp_path, 50, figure, *words)


@pytest.mark.emulator(is_synthetic=True, latency=0.01, faults=("throttle=0.1", "reset-after=0.1"))
async def test_a_budget_is_kept_when_answers_get_lost(desk, tmp_path, figure):
    """Throttled calls give back, lost answers count as paid: what the cloud bills is never above the budget."""
    desk.write(400)
    process = desk.start("--budget", CAP * YUAN, concurrency=8)
    assert process.wait() == 4
    (row,) = ledger(str(desk.store))
    billed = desk.emulator.ledger.billed
    assert billed == row["yes"] + row["unknown"] == CAP
    assert row["no"] > 0
    assert row["yuan"] == pytest.approx(CAP * YUAN)
    figure("budget, 10 % throttled, 10 % lost", "1 run", f"{billed} billed of {CAP}, {row['unknown']} unknown")
