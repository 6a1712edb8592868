"""kill -9 at any moment, then the same command again: nothing that had arrived is asked again, nothing is missing."""

import asyncio
import os
import random
import shutil
import time
from dataclasses import dataclass
from itertools import accumulate, count

import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.checkpoint.frames import OVERHEAD, scan
from imgtag_pipeline.checkpoint.layout import Identity
from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.providers import Keys, Viapi

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.01)

IMAGES_PER_KILL = 25
ROUND = 100
AS_MANY_AS_TOLD = pytest.param(0, marks=[pytest.mark.heavy, pytest.mark.timeout(0)], id="--kills")


@dataclass(frozen=True)
class Seen:
    """What a run that opens a store sees: images by what it says of them, and the loss that it reports."""

    rows: dict
    listed: set
    bytes_dropped: int


class Audit:
    """What copies of the store say after each kill, held against the cloud's ledger."""

    def __init__(self, desk, urls):
        self.desk, self.urls, self.ledger = desk, urls, desk.emulator.ledger
        self.identity = Viapi(action="TaggingImage", endpoint=desk.emulator.url, credentials=Keys("a", "b")).identity()
        self.calls_when_known = {}
        self.listed, self.cut_off, self.twice = set(), set(), set()
        self.most_at_one_kill = 0

    def look(self, concurrency, seen=None):
        """After a kill: every billed image is known or listed, and the kill has left no more marks than calls."""
        seen = seen or self.see()
        new = seen.listed - self.listed
        self.most_at_one_kill = max(self.most_at_one_kill, len(new))
        assert len(new) <= concurrency, "more marks than calls in flight"
        self.listed |= seen.listed
        assert self.billed() <= seen.rows.keys() | seen.listed | self.cut_off
        assert self.calls_when_known.keys() - self.cut_off <= seen.rows.keys(), "an answer that was kept is gone"
        for url in seen.rows:
            self.calls_when_known.setdefault(url, self.ledger.calls_by_image[url])

    def billed(self):
        return {url for url in self.urls if self.ledger.billed_by_image[url]}

    def see(self, spoil=None):
        """What the next run would see; `spoil` works on the copy of a segment before it is opened."""
        if not self.desk.store.exists():
            return Seen({}, set(), 0)
        copy = self.desk.folder / "copy"
        shutil.copytree(self.desk.store, copy, copy_function=_copied)
        for path in copy.rglob("[!.]*.journal") if spoil else ():
            spoil(path)
        store = open_store(str(copy), identity=self.identity, run_id="audit", clock=SystemClock())
        known = [url for url, status in zip(self.urls, store.lookup(self.urls), strict=True) if status]
        rows = dict(zip(known, store.take(known).to_pylist(), strict=True))
        seen = Seen(rows, set(store.possibly_billed), store.recovered["bytes_dropped"])
        asyncio.run(store.close())
        shutil.rmtree(copy)
        return seen

    def asked_again(self):
        """Images that were asked about although a killed run had kept their answer."""
        calls = self.ledger.calls_by_image
        return [url for url, before in self.calls_when_known.items() if calls[url] > before and url not in self.cut_off]

    def end(self):
        """Nobody is killed any more: the run ends with the table of a calm one, and its report."""
        assert not self.desk.out.exists()
        last = self.desk.start("--quiet")
        assert last.wait() == 0, last.stderr
        assert self.asked_again() == []
        self.twice = {url for url in self.urls if self.ledger.billed_by_image[url] > 1}
        assert self.twice <= self.listed | self.cut_off
        assert last.report["known"] + last.report["calls"] == len(self.urls)
        calm = self.desk.start(out=self.desk.folder / "calm.parquet", store=self.desk.folder / "calm")
        assert calm.wait() == 0, calm.stderr
        assert self.desk.table().equals(self.desk.table(self.desk.folder / "calm.parquet"))
        return last.report


def _copied(source, target):
    (os.link if source.endswith(".parquet") else shutil.copy2)(source, target)  # parts never change


def kill_at_a_random_moment(process, ledger, chance):
    """After a while, or some calls later, or both; False when it had ended before."""
    calls = ledger.calls + chance.randrange(IMAGES_PER_KILL * 2)
    while process.is_running() and ledger.calls < calls:
        time.sleep(0.001)
    time.sleep(chance.random() * 0.03)
    if process.kill() == -9:
        return True
    assert process.wait() == 0, process.stderr
    return False


def killed_runs(desk, audit, kills, chance):
    """So many killed runs, each with its concurrency; one that was quicker than the killer gets further rows."""
    while kills:
        concurrency = chance.randint(1, 16)
        process = desk.start(concurrency=concurrency)
        if kill_at_a_random_moment(process, desk.emulator.ledger, chance):
            kills -= 1
            yield process, concurrency
        else:
            audit.urls = desk.write(len(audit.urls) + 10 * IMAGES_PER_KILL)
            desk.out.unlink(missing_ok=True)


def rounds(desk, request, kills):
    """A table and a store of its own for each hundred kills; as many kills as `--kills` says where none are given."""
    left = kills or request.config.getoption("--kills")
    for number in count():
        if left <= 0:
            return
        here, some = desk.beside(str(number)), min(left, ROUND)
        desk.emulator.ledger.clear()
        yield here, Audit(here, here.write(IMAGES_PER_KILL * some)), some
        left -= some
        shutil.rmtree(here.folder)


@pytest.mark.parametrize("kills", [12, AS_MANY_AS_TOLD])
def test_killed_again_and_again(desk, request, figure, kills):
    """No answer in a journal is paid again, whatever may have been is listed, and the table is that of a calm run."""
    chance = random.Random(kills)
    answers = images = twice = most = done = 0
    for here, audit, some in rounds(desk, request, kills):
        for _, concurrency in killed_runs(here, audit, some, chance):
            audit.look(concurrency)
        audit.end()
        done += some
        answers, images = answers + len(audit.calls_when_known), images + len(audit.urls)
        twice, most = twice + len(audit.twice), max(most, audit.most_at_one_kill)
    figure(
        "kill -9 at random moments, concurrency 1 to 16",
        f"{done:,} kills",
        f"0 of {answers:,} journaled answers asked again, 0 of {images:,} images missing, "
        f"{twice:,} billed again, all listed, at most {most} a kill",
    )


class PowerCut:
    """The power goes with a killed process: what it had not synced of its journal is cut off, zeroed or garbled."""

    def __init__(self, process, audit, kind, chance):
        synced, self._kind, self._chance = process.synced, kind, chance
        self._seed = Identity.of(audit.identity).seed
        self._segments = list(audit.desk.store.rglob("[!.]*.journal"))
        self._safe = {path.name: synced.get(path.stat().st_ino, path.stat().st_size) for path in self._segments}

    def keep_synced(self, path):
        """Only what had been synced is left."""
        os.truncate(path, self._safe[path.name])

    def spoil(self):
        """The store itself, which the next run opens; how many bytes there are no whole frames any more."""
        return sum(map(self._spoil, self._segments))

    def _spoil(self, path):
        data = path.read_bytes()
        at = self._chance.randint(self._safe[path.name], len(data))
        tails = {"cut": b"", "zeroed": bytes(len(data) - at), "garbled": self._chance.randbytes(len(data) - at)}
        new = data[:at] + tails[self._kind]
        path.write_bytes(new)
        sizes = [OVERHEAD + len(frame.payload) for frame in scan(data, seed=self._seed, after=0, is_final=True).frames]
        good = [end for end in accumulate(sizes, initial=0) if new[:end] == data[:end]]
        return len(new) - good[-1]


@pytest.mark.parametrize("kills", [9, AS_MANY_AS_TOLD])
def test_killed_and_the_power_cut(desk, request, figure, kills):
    """What was synced is kept, each billed image is known, listed or in the lost window, and the loss is reported."""
    chance = random.Random(kills)
    synced = lost = told = images = done = 0
    oldest = 0.0
    for here, audit, some in rounds(desk, request, kills):
        known = set()
        for number, (process, concurrency) in enumerate(killed_runs(here, audit, some, chance)):
            at = time.time()
            cut = PowerCut(process, audit, ("cut", "zeroed", "garbled")[number % 3], chance)
            whole, kept = audit.see(), audit.see(cut.keep_synced)
            no_frames = cut.spoil()
            left = audit.see()
            assert kept.rows.items() <= left.rows.items() <= whole.rows.items(), "lost what was synced, or a wrong row"
            assert kept.listed <= left.listed | left.rows.keys()
            assert left.bytes_dropped >= no_frames
            audit.cut_off |= (whole.rows.keys() | whole.listed) - (left.rows.keys() | left.listed)
            audit.look(concurrency, left)
            missing = whole.rows.keys() - left.rows.keys()
            synced += len(kept.rows.keys() - known)
            known = left.rows.keys()
            lost, told = lost + len(missing), told + (no_frames > 0)
            oldest = max([oldest, *(at - whole.rows[url]["at"].timestamp() for url in missing)])
        assert audit.end()["recovered"]["bytes_dropped"] >= no_frames
        done, images = done + some, images + len(audit.urls)
    assert synced
    assert oldest < 0.5, "answers are synced every 0.1 s, and later only where the machine is very busy"
    figure(
        "the same, and the unsynced tail of the journal cut, zeroed or garbled",
        f"{done:,} kills",
        f"0 of {synced:,} synced answers lost; {lost:,} unsynced ones, at most {oldest:.2f} s old; "
        f"{told} spoiled tails, all told; 0 wrong rows; 0 of {images:,} images missing",
    )


def test_what_a_killed_run_had_sent_is_in_the_next_report(desk):
    """The images in flight at a kill stand in the next run's report, and only they are asked again."""
    urls = desk.write(60)
    process = desk.start(concurrency=6)
    while desk.emulator.ledger.billed < 20:
        time.sleep(0.001)
    assert process.kill() == -9
    again = desk.start()
    assert again.wait() == 0
    report = again.report
    twice = {url for url in urls if desk.emulator.ledger.billed_by_image[url] > 1}
    assert twice <= set(report["possibly_billed"])
    assert report["possibly_billed_count"] == len(report["possibly_billed"]) <= 6
    assert report["recovered"]["outcomes"] == report["known"] >= 14


def test_two_processes_in_one_store(desk, figure):
    """Both finish with the whole table, and every image is asked about once, by one of them."""
    urls = desk.write(1300)
    backwards = desk.folder / "backwards.parquet"
    pq.write_table(pq.read_table(desk.source)[::-1], backwards)
    first = desk.start(out=desk.folder / "a.parquet", concurrency=4)
    second = desk.start(out=desk.folder / "b.parquet", concurrency=4, source=backwards)
    assert (first.wait(), second.wait()) == (0, 0), first.stderr + second.stderr
    tables = [
        desk.table(desk.folder / f"{name}.parquet").sort_by([("url", "ascending"), ("rank", "ascending")])
        for name in "ab"
    ]
    assert tables[0].equals(tables[1])
    assert dict(desk.emulator.ledger.calls_by_image) == dict.fromkeys(urls, 1)
    shares = [process.report["calls"] for process in (first, second)]
    assert sum(shares) == len(urls)
    for part in desk.store.rglob("*.parquet"):
        pq.read_table(part, page_checksum_verification=True)
    figure(
        "two processes in one store at once",
        f"{len(urls):,} images",
        f"{shares[0]} + {shares[1]} calls, 0 images asked twice",
    )


def test_the_other_process_takes_over_when_one_is_killed(desk):
    """Claims die with their owner: the survivor asks about what the killed one had claimed, and ends."""
    desk.write(300)
    first = desk.start(concurrency=4)
    second = desk.start(concurrency=4, out=desk.folder / "b.parquet")
    while desk.emulator.ledger.billed < 60:
        time.sleep(0.001)
    first.kill()
    assert second.wait() == 0, second.stderr
    assert second.report["ok"] == 300
    assert sum(times > 1 for times in desk.emulator.ledger.billed_by_image.values()) <= 4


def test_a_finished_run_repeated_makes_no_calls(desk, figure):
    """Again: 0 calls. Ten rows more: 10 calls. Shuffled, doubled and signed anew: 0 calls."""
    urls = desk.write(100)
    assert desk.start().wait() == 0
    costs = []
    signed = [f"{url}?OSSAccessKeyId=LTAI&Expires=1999999999&Signature={'abc%2B' * 6}abc%3D" for url in urls]
    more = [*urls, *(f"https://img.example/new{number}.jpg" for number in range(10))]
    for table in (urls, more, random.Random(1).sample(more, len(more)), signed + urls):
        desk.write(0, table)
        before = desk.emulator.ledger.calls
        process = desk.start()
        assert process.wait() == 0, process.stderr
        costs.append(desk.emulator.ledger.calls - before)
        assert len(desk.table().column("url").unique()) == len({url.split("?")[0] for url in table})
    assert costs == [0, 10, 0, 0]
    figure("repeated; 10 rows appended; shuffled; signed anew", "4 runs", f"calls: {costs}")
