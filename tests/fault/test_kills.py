"""kill -9 at any moment, then the same command again: nothing that had arrived is asked again, nothing is missing."""

import asyncio
import random
import shutil
import time

import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.clock import SystemClock
from imgtag_pipeline.providers import Keys, Viapi

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.01)

IMAGES_PER_KILL = 25


class Audit:
    """What a copy of the store says after each kill, held against the cloud's ledger."""

    def __init__(self, desk, urls):
        self.desk, self.urls, self.ledger = desk, urls, desk.emulator.ledger
        self.identity = Viapi(action="TaggingImage", endpoint=desk.emulator.url, credentials=Keys("a", "b")).identity()
        self.calls_when_known = {}
        self.listed = set()
        self.most_at_one_kill = 0
        self.kills = 0

    def look(self, concurrency):
        """After a kill: every billed image is known or listed, and the kill has left no more marks than calls."""
        self.kills += 1
        known, listed = self._read()
        self.most_at_one_kill = max(self.most_at_one_kill, len(listed - self.listed))
        assert len(listed - self.listed) <= concurrency, "more marks than calls in flight"
        self.listed |= listed
        assert {url for url, times in dict(self.ledger.billed_by_image).items() if times} <= known | listed
        assert set(self.calls_when_known) <= known, "an answer that was in the journal is gone"
        for url in known:
            self.calls_when_known.setdefault(url, self.ledger.calls_by_image[url])

    def _read(self):
        if not self.desk.store.exists():
            return set(), set()
        copy = self.desk.folder / "copy"
        shutil.copytree(self.desk.store, copy)
        store = open_store(str(copy), identity=self.identity, run_id="audit", clock=SystemClock())
        known = {url for url, status in zip(self.urls, store.lookup(self.urls), strict=True) if status}
        listed = set(store.possibly_billed)
        asyncio.run(store.close())
        shutil.rmtree(copy)
        return known, listed

    def asked_again(self):
        """Images that were asked about although a killed run had their answer in the journal."""
        return [url for url, calls in self.calls_when_known.items() if self.ledger.calls_by_image[url] > calls]

    def billed_twice(self):
        return {url for url, times in self.ledger.billed_by_image.items() if times > 1}


def kill_at_a_random_moment(process, ledger, chance):
    """After a while, or some calls later, or both; False when it had ended before."""
    calls = ledger.calls + chance.randrange(IMAGES_PER_KILL * 2)
    while process.is_running() and ledger.calls < calls:
        time.sleep(0.001)
    time.sleep(chance.random() * 0.03)
    return process.kill() == -9


@pytest.mark.parametrize(
    "kills", [25, 26, pytest.param(0, marks=pytest.mark.heavy)], ids=["first", "second", "as many as --kills says"]
)
def test_killed_again_and_again(desk, request, figure, kills):
    """No answer in a journal is paid again, whatever may have been is listed, and the table is that of a calm run."""
    is_long = not kills
    kills = kills or request.config.getoption("--kills") or 100
    chance = random.Random(kills)
    urls = desk.write(IMAGES_PER_KILL * kills)
    audit = Audit(desk, urls)
    while audit.kills < kills:
        concurrency = chance.randint(1, 16)
        process = desk.start(concurrency=concurrency)
        if not kill_at_a_random_moment(process, desk.emulator.ledger, chance):
            urls = more_images(desk, audit)
            continue
        audit.look(concurrency)
    assert not desk.out.exists()
    last = desk.start("--quiet")
    assert last.wait() == 0, last.stderr
    twice = audit.billed_twice()
    assert audit.asked_again() == []
    assert twice <= audit.listed
    assert last.report["known"] + last.report["calls"] == len(audit.urls)
    calm = desk.start(out=desk.folder / "calm.parquet", store=desk.folder / "calm")
    assert calm.wait() == 0
    assert desk.table().equals(desk.table(desk.folder / "calm.parquet"))
    figure(
        "kill -9 at random moments, concurrency 1 to 16",
        f"{kills} kills",
        f"0 of {len(audit.calls_when_known):,} journaled answers asked again, 0 of {len(audit.urls):,} images missing, "
        f"{len(twice)} billed again, all listed, at most {audit.most_at_one_kill} a kill"
        + (" (long)" if is_long else ""),
    )


def more_images(desk, audit):
    """A run was quicker than the killer: it gets further rows to work on."""
    audit.urls = desk.write(len(audit.urls) + 10 * IMAGES_PER_KILL)
    desk.out.unlink(missing_ok=True)
    return audit.urls


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
    signed = [f"{url}?OSSAccessKeyId=LTAI&Expires=1999999999&Signature=abc%2B" for url in urls]
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
