"""What `plan` says before, held against what the run and the cloud's ledger say after."""

import json
import random
import time

import pyarrow as pa
import pytest

from imgtag_pipeline import api
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.providers import Keys, get

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.002)

KEYS = Keys("timed", "timed")
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


def test_twenty_jobs_come_to_what_was_planned(emulator, emulator_environment, tmp_path, figure):
    """Duplicates, blanks, known and impossible images, batches, jobs, tiers: calls and yuan are those of the plan."""
    chance = random.Random(20)
    total = 0
    for job in range(20):
        address, words = options_of(chance, emulator, str(tmp_path / f"store{job % 6}"))
        table = urls_of(chance, chance.choice([1, 7, 60, 250]))
        if chance.random() < 0.5:
            api.label(table.slice(0, table.num_rows // 2), **words)
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
    figure("plan against what happened", "20 mixed jobs", f"{total:,} calls, yuan equal in each")


@pytest.mark.heavy
@pytest.mark.emulator(is_synthetic=True, latency=0.002, accounts=(Account("timed", "timed"),))
@pytest.mark.parametrize(("qps", "count"), [(5, 100), (20, 400), (50, 1000)])
def test_a_run_takes_the_time_that_was_planned(emulator, figure, qps, count):
    """Within 10 % of the plan where the quota is what limits it; with an account that no other test paces."""
    table = pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(count)]})
    words = {
        "provider": get("viapi/TaggingImage", endpoint=emulator.url, credentials=KEYS),
        "qps": qps,
        "progress": False,
    }
    plan = api.plan(table, **words)
    began = time.monotonic()
    api.label(table, **words)
    taken = time.monotonic() - began
    figure("time planned and taken", f"{count} calls at {qps}/s", f"{plan.seconds:.1f} s, {taken:.1f} s")
    assert taken == pytest.approx(plan.seconds, rel=0.1)
