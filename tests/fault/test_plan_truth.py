"""What `plan` says before, held against what the run and the cloud's ledger say after."""

import asyncio
import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from imgtag_pipeline import api
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.pipeline import stores
from imgtag_pipeline.pipeline.records import books_folder
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.spend import ledger
from imgtag_pipeline.spend.files import FileRecord
from imgtag_pipeline.spend.pricing import month_of
from imgtag_pipeline.spend.state import Month

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.002)

KEYS = Keys("timed", "timed", app_id="1000001")
ADDRESSES = [
    "viapi/TaggingImage",
    "viapi/RecognizeScene",
    "viapi/RecognizeFood",
    "viapi/RecognizeLogo",
    "viapi/RecognizeImageColor",
    "viapi/TaggingAdImage",
    "tencent_v1",
]


def urls_of(chance, count):
    """References as they come: most are good, some twice, some blank, some that no vendor takes."""
    urls = []
    for number in range(count):
        kind = chance.random()
        if kind < 0.15 and urls:
            urls.append(chance.choice(urls))
        elif kind < 0.25:
            urls.append(chance.choice([None, "", "  "]))
        elif kind < 0.35:
            urls.append(f"https://img.example/{number}.{chance.choice(['svg', 'heic', 'pdf'])}")
        else:
            urls.append(f"https://img.example/{number}.jpg?Expires=1&Signature={number}")
    return pa.table({"url": pa.array(urls, pa.string())})


def options_of(chance, emulator, store):
    """How a job is run: who answers, in which store, at whose price."""
    address = chance.choice(ADDRESSES)
    more = {"poll_every": 0.02} if address == "viapi/TaggingAdImage" else {}
    words = {
        "provider": get(address, endpoint=emulator.url, **more),
        "checkpoint": store,
        "qps": 2000,
        "progress": False,
    }
    if chance.random() < 0.2:
        words["price"] = 0.0123
    return address, words


BOUNDARIES = {
    "viapi/TaggingImage": (5_000_000, 30_000_000),
    "viapi/RecognizeScene": (5_000_000, 30_000_000),
    "viapi/RecognizeFood": (50_000, 100_000, 1_000_000),
    "viapi/TaggingAdImage": (5_000_000, 30_000_000),
    "tencent_v1": (10_000,),
}


def enter_earlier_calls(words, calls):
    """Let the store's ledger say that so many calls were billed this month."""
    provider = words["provider"]
    key, address = provider.quota.key, provider.address

    async def enter():
        folder, name = books_folder(words["checkpoint"], None), ledger.name_of(key, address)
        book = FileRecord(folder, name, key=key, address=address)
        month = month_of(SystemClock().now())
        await book.update(lambda state: state.months.update({month: Month(sent=calls, yes=calls)}))
        await book.close()

    asyncio.run(enter())


@pytest.mark.parametrize(
    ("address", "before", "yuan"),
    [
        ("tencent_v1", 9_980, 10 * 0.0011),  # 20 free ones are left
        ("tencent_v1", 9_970, 0),
        ("tencent_v1", 3_000_001, 30 * 0.0009),
        ("viapi/TaggingImage", 4_999_980, 20 * 0.0025 + 10 * 0.002),
        ("viapi/TaggingImage", 29_999_999, 0.002 + 29 * 0.0017),
        ("viapi/RecognizeFood", 49_975, 25 * 0.0007 + 5 * 0.0006),
        ("viapi/RecognizeScene", 5_000_000, 30 * 0.0012),
    ],
)
def test_a_job_that_crosses_a_tier_comes_to_what_was_planned(
    emulator, emulator_environment, tmp_path, figure, address, before, yuan
):
    """Beside the end of a tier or of the free calls, the plan and the run come to the sum that the price list gives."""
    table = pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(30)]})
    provider = get(address, endpoint=emulator.url)
    words = {"provider": provider, "checkpoint": str(tmp_path / "store"), "qps": 2000, "progress": False}
    enter_earlier_calls(words, before)
    plan = api.plan(table, **words)
    facts = json.loads(api.label(table, **words).schema.metadata[b"imgtag"])
    assert (plan.calls, emulator.ledger.billed) == (30, 30)
    assert plan.yuan == pytest.approx(yuan, abs=1e-9)
    assert facts["yuan"] == pytest.approx(yuan, abs=1e-9)
    (row,) = stores.ledger(words["checkpoint"])
    assert row["yes"] == before + 30
    figure("jobs across the end of a tier", "{count} jobs", "yuan of plan, run and price list equal", 0)


def test_twenty_jobs_come_to_what_was_planned(emulator, emulator_environment, tmp_path, figure):
    """Duplicates, blanks, known and impossible images, batches, jobs, tiers: calls and yuan are those of the plan."""
    chance, earlier = random.Random(20), random.Random(21)
    total = seeded = 0
    for job in range(20):
        address, words = options_of(chance, emulator, str(tmp_path / f"store{job % 6}"))
        table = urls_of(chance, chance.choice([1, 7, 60, 250]))
        if chance.random() < 0.5:
            api.label(table.slice(0, table.num_rows // 2), **words)
        if address in BOUNDARIES:
            end = earlier.choice(BOUNDARIES[address])
            enter_earlier_calls(words, end - earlier.randrange(table.num_rows // 2 + 1))
            seeded += 1
        plan = api.plan(table, **words)
        before = emulator.ledger.billed
        report = api.label(table, **words).schema.metadata[b"imgtag"]
        facts = json.loads(report)
        assert emulator.ledger.billed - before == plan.calls, (job, address)
        assert facts["billed"] == {"yes": plan.calls, "no": 0, "unknown": 0}, (job, address)
        assert facts["yuan"] == pytest.approx(plan.yuan, abs=1e-9), (job, address)
        assert (facts["images"], facts["known"], facts["skipped"]) == (plan.images, plan.known, plan.skipped)
        assert sum(facts["failed"].values()) >= plan.impossible
        again = api.plan(table, **words)
        assert (again.calls, again.yuan, again.known) == (0, 0.0, again.images)
        total += plan.calls
    assert seeded >= 10
    figure(
        "plan against what happened", f"20 mixed jobs, {seeded} at a tier's end", f"{total:,} calls, yuan equal in each"
    )


@pytest.mark.emulator(is_synthetic=True, job_polls=1000)
def test_jobs_that_did_not_end_are_not_planned_again(emulator, emulator_environment, tmp_path):
    """The next run fetches what was paid, so the plan says 0 calls."""
    table = pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(5)]})
    provider = get("viapi/TaggingAdImage", endpoint=emulator.url, poll_every=0.1, job_timeout=1)
    words = {"provider": provider, "checkpoint": str(tmp_path / "store"), "qps": 100, "progress": False}
    api.label(table, **words)
    plan = api.plan(table, **words)
    assert (plan.unfinished, plan.calls, plan.yuan) == (5, 0, 0.0)
    api.label(table, **words)
    assert emulator.ledger.billed == 5


ACCOUNTS = tuple(Account(f"timed{job}", "secret", app_id=str(2_000_000 + job)) for job in range(20))


def timed_job(emulator, job, store):
    """A quarter of a minute of calls by an account that nobody else uses; what was planned, and what came."""
    chance = random.Random(job)
    address, qps = chance.choice(ADDRESSES), chance.choice([2, 3, 5, 8])
    table = urls_of(chance, int(qps * (120 if address == "viapi/RecognizeLogo" else 26)))
    words = {"checkpoint": store, "qps": qps, "progress": False}
    more = {"poll_every": 0.1} if address == "viapi/TaggingAdImage" else {}
    if chance.random() < 0.5:
        others = get(address, endpoint=emulator.url, credentials=KEYS, **more)
        api.label(table.slice(0, qps), provider=others, **{**words, "qps": 1000})
    account = ACCOUNTS[job]
    keys = Keys(account.key_id, account.secret, app_id=account.app_id)
    words["provider"] = get(address, endpoint=emulator.url, credentials=keys, **more)
    plan = api.plan(table, **words)
    began = time.monotonic()
    facts = json.loads(api.label(table, **words).schema.metadata[b"imgtag"])
    return plan, facts, time.monotonic() - began


class Stalls(threading.Thread):
    """Counts the seconds by which this process is woken late on a busy machine: nobody can plan for these."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seconds, self._is_over = 0.0, threading.Event()

    def run(self):
        last = time.monotonic()
        while not self._is_over.wait(0.02):
            now = time.monotonic()
            self.seconds += max(0.0, now - last - 0.03)
            last = now

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self._is_over.set()
        self.join()


@pytest.mark.heavy
@pytest.mark.emulator(is_synthetic=True, latency=0.002, accounts=(Account("timed", "timed"), *ACCOUNTS))
def test_twenty_jobs_take_the_time_that_was_planned(emulator, tmp_path, figure):
    """Side by side, each with an account of its own: within 10 % where the quota is what limits a run."""
    with Stalls() as stalls, ThreadPoolExecutor(20) as threads:
        jobs = [threads.submit(timed_job, emulator, job, str(tmp_path / f"store{job}")) for job in range(20)]
        done = [job.result() for job in jobs]
    for plan, facts, _ in done:
        assert facts["billed"]["yes"] == plan.calls
        assert facts["yuan"] == pytest.approx(plan.yuan, abs=1e-9)
    ratios = [taken / plan.seconds for plan, _, taken in done]
    lengths = [plan.seconds for plan, *_ in done]
    figure(
        "finish time planned and taken",
        f"20 mixed jobs, {min(lengths):.0f} to {max(lengths):.0f} s",
        f"{min(ratios):.1%} to {max(ratios):.1%} of the plan (stalled {stalls.seconds:.1f} s)",
    )
    for plan, _, taken in done:
        assert 0.9 * plan.seconds <= taken <= 1.1 * plan.seconds + stalls.seconds
