"""Caps under kills: four processes share one store and one cap, and are killed and started again at random."""

import asyncio
import random
import time
from dataclasses import dataclass

import pytest

from imgtag_pipeline.pipeline.records import books_folder
from imgtag_pipeline.pipeline.stores import ledger
from imgtag_pipeline.providers import get
from imgtag_pipeline.providers.toolkit.credentials import Keys
from imgtag_pipeline.spend import FileRecord, SpendGuard
from imgtag_pipeline.spend.ledger import name_of

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.02)

PROCESSES = 4
CAP = 1000
YUAN = 0.0025
LATE = 60  # calls before the cap that count as its end
BOTH = pytest.mark.parametrize("kind", ["--max-calls", "--budget"])


@dataclass
class Trial:
    """One store with one cap, and the processes that work in it until all have ended by themselves."""

    desk: object
    kind: str
    cap: int
    moments: list
    store: str
    chance: random.Random
    kills: int = 0
    late_kills: int = 0
    in_flight: int = 0
    job: str | None = None

    async def run(self):
        """Kill processes at random numbers of calls, some of them shortly before the cap.

        A further run keeps the allotment open, so that a process that was killed before it joined continues it, too.
        """
        holder = await self._holder() if self.job is None else None
        running = [self._start() for _ in range(PROCESSES)]
        deadline = time.monotonic() + 120
        while running:
            assert time.monotonic() < deadline, "the processes do not end"
            await asyncio.sleep(self.chance.uniform(0, 0.005))
            calls = self.desk.emulator.ledger.calls
            if self.moments and calls >= self.moments[0] and (self._in_flight() or calls == self.cap):
                self.moments.pop(0)
                self._kill(running)
            for process in [process for process in running if not process.is_running()]:
                assert process.wait() == 4, process.stderr
                running.remove(process)
        if holder is not None:
            await holder.close()

    def _kill(self, running):
        number = self.chance.randrange(len(running))
        calls, in_flight = self.desk.emulator.ledger.calls, self._in_flight()
        if running[number].kill() == -9:
            self.kills += 1
            self.late_kills += calls >= self.cap - LATE
            self.in_flight += in_flight > 0
            running[number] = self._start()

    def _in_flight(self):
        """Calls that have arrived at the cloud and are not answered yet."""
        return self.desk.emulator.ledger.calls - sum(list(self.desk.emulator.ledger.by_code.values()))

    def _start(self):
        cap = self.cap if self.kind == "--max-calls" else self.cap * YUAN
        out = f"{self.store}-{self.chance.getrandbits(32):x}.parquet"
        words = [self.kind, cap, *([] if self.job is None else ["--job", self.job])]
        return self.desk.start(*words, store=self.store, out=out, concurrency=self.chance.randint(2, 12))

    async def _holder(self):
        provider = get("viapi/TaggingImage", endpoint=self.desk.emulator.url, credentials=Keys("emulator", "emulator"))
        name = name_of(provider.quota.key, provider.address)
        book = FileRecord(books_folder(self.store, None), name, key=provider.quota.key, address=provider.address)
        micro_yuan = round(self.cap * YUAN * 1e6)
        limit = {"max_calls": self.cap} if self.kind == "--max-calls" else {"budget_micro_yuan": micro_yuan}
        holder = SpendGuard(provider.price, book=book, **limit)
        await holder.open()
        return holder


def moments(chance, cap, kills):
    """After how many calls to kill: a third of them shortly before the cap."""
    late = kills // 3
    spread = [chance.randrange(1, cap) for _ in range(kills - late)]
    return sorted(spread + [chance.randrange(cap - LATE, cap) for _ in range(late)])


async def trials(desk, folder, figure, kind, *, count, cap, kills):
    """Run them; no call above the cap in any, none of the cap left, and the ledger knows of every call."""
    desk.write(cap + cap // 2)
    done, sent = [], []
    began = time.monotonic()
    for seed in range(count):
        desk.emulator.ledger.clear()
        chance = random.Random(seed)
        trial = Trial(desk, kind, cap, moments(chance, cap, kills), str(folder / f"store{seed}"), chance)
        await trial.run()
        calls, billed = desk.emulator.ledger.calls, desk.emulator.ledger.billed
        assert calls <= cap, f"trial {seed}: {calls} calls"
        (row,) = ledger(trial.store)
        assert row["yes"] + row["no"] + row["unknown"] == cap, f"trial {seed}: {calls} calls, {row}"
        assert billed <= row["yes"] + row["unknown"]
        sent.append(calls)
        done.append(trial)
    all_kills = sum(trial.kills for trial in done)
    figure(
        f"cap of {cap:,} calls{' as a budget' if kind == '--budget' else ''}, {PROCESSES} processes, kill -9",
        f"{count} trials, {all_kills} kills",
        f"0 calls above {cap:,} ({min(sent):,} to {max(sent):,} sent); {sum(trial.late_kills for trial in done)} kills "
        f"in the last {LATE} calls, {sum(trial.in_flight for trial in done)} with calls in flight; "
        f"{time.monotonic() - began:.0f} s",
    )
    assert sum(trial.in_flight for trial in done) > all_kills / 4, "most kills came while nothing was in flight"


@BOTH
async def test_no_call_above_the_cap(desk, tmp_path, figure, kind):
    """Four processes in one store, killed at random moments."""
    await trials(desk, tmp_path, figure, kind, count=1, cap=200, kills=4)


@pytest.mark.heavy
@pytest.mark.timeout(7200)
@BOTH
async def test_no_call_above_the_cap_in_many_trials(desk, tmp_path, request, figure, kind):
    """The same with a larger cap, as often as `--trials` says."""
    count = request.config.getoption("--trials") or 50
    await trials(desk, tmp_path, figure, kind, count=count, cap=CAP, kills=8)


@BOTH
async def test_no_call_above_the_cap_of_a_job(desk, tmp_path, kind):
    """Four processes, killed at random moments; then 20 runs one after another find nothing left, in no order."""
    desk.write(300)
    chance = random.Random(7)
    trial = Trial(desk, kind, 200, moments(chance, 200, 6), str(tmp_path / "store"), chance, job="2026-11-26")
    await trial.run()
    (row,) = ledger(trial.store)
    assert trial.kills
    assert desk.emulator.ledger.calls <= 200
    assert row["yes"] + row["no"] + row["unknown"] == 200
    for _ in range(2):
        assert trial._start().wait() == 4
    assert desk.emulator.ledger.calls <= 200


@pytest.mark.parametrize("words", [("--job", "tonight"), ("--budget-per", "day"), ("--budget-per", "month")])
async def test_partitions_one_after_another_share_the_cap(desk, words):
    """Each partition is a run of its own, with images of its own."""
    codes = []
    desk.write(40)
    for number in range(20):
        codes.append(
            desk.start(
                "--budget", 7 * YUAN, *words, "--limit", 2 * number + 2, out=desk.folder / f"{number}.parquet"
            ).wait()
        )
    assert codes[:3] == [0, 0, 0]
    assert set(codes[3:]) == {4}
    assert desk.emulator.ledger.calls == desk.emulator.ledger.billed == 7


@pytest.mark.emulator(is_synthetic=True, latency=0.01, faults=("throttle=0.1", "reset-after=0.1"))
async def test_a_budget_is_kept_when_answers_get_lost(desk, tmp_path, figure):
    """Throttled calls give back, lost answers count as paid: what the cloud bills is never above the budget."""
    desk.write(400)
    process = desk.start("--budget", 60 * YUAN, concurrency=8)
    assert process.wait() == 4
    (row,) = ledger(str(desk.store))
    billed = desk.emulator.ledger.billed
    assert billed == row["yes"] + row["unknown"] == 60
    assert row["no"] > 0
    assert row["yuan"] == pytest.approx(60 * YUAN)
    figure("budget, 10 % throttled, 10 % lost", "1 run", f"{billed} billed of 60, {row['unknown']} unknown")
