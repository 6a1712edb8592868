"""Claims of processes that are stopped, go on, die, or leave a forked child behind: nothing is asked twice.

A claim has no term that could run out under a stopped process: it ends with the process, and the kernel says when.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.core.clock import SystemClock

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.05)

IDENTITY = {"address": "viapi/TaggingImage"}


def wait_until(claim, seconds=30.0):
    """When it came true."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.002)
    return time.monotonic()


def test_a_process_that_is_stopped_and_goes_on_asks_nothing_twice(desk, figure):
    """However long the owner of claims is stopped, the other one waits for it, and each image is asked once."""
    urls = desk.write(120)
    calls = desk.emulator.ledger.calls_by_image
    first = desk.start(concurrency=2)
    wait_until(lambda: len(calls) >= 10)
    first.signal(signal.SIGSTOP)
    time.sleep(0.5)  # what it had sent has arrived
    asked = sum(calls.values())
    second = desk.start(concurrency=2, out=desk.folder / "b.parquet")
    time.sleep(3)
    assert sum(calls.values()) == asked < len(urls)
    assert second.is_running()
    first.signal(signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0), first.stderr + second.stderr
    assert dict(calls) == dict.fromkeys(urls, 1)
    figure("the owner of claims is stopped for 3 s, then goes on", f"{len(urls)} images", "0 asked twice")


def test_a_killed_owner_is_followed_at_once(desk, figure):
    """After a kill -9 the images that the dead process had claimed are asked about by the one that waited."""
    desk.write(120)
    ledger = desk.emulator.ledger
    first = desk.start(concurrency=2)
    wait_until(lambda: ledger.calls >= 10)
    second = desk.start(concurrency=2, out=desk.folder / "b.parquet")
    time.sleep(1.5)
    first.kill()
    dead_at, calls = time.monotonic(), ledger.calls
    seconds = wait_until(lambda: ledger.calls > calls + 2) - dead_at
    assert second.wait() == 0, second.stderr
    assert second.report["ok"] == 120
    assert sum(times > 1 for times in ledger.billed_by_image.values()) <= 2
    figure("the owner of claims is killed", "1 time", f"the other one asks about its images after {seconds:.1f} s")


OWNER = """
import asyncio, os, sys, time
from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.core.clock import SystemClock

async def main():
    store = open_store(sys.argv[1], identity={"address": "viapi/TaggingImage"}, run_id="r", clock=SystemClock())
    await store.claim(["a"])
    await store.mark_sent(["a"])
    child = os.fork()
    if not child:
        time.sleep(600)
    print(child, flush=True)
    time.sleep(600)

asyncio.run(main())
"""


def test_the_claims_of_the_dead_end_though_a_forked_child_lives(tmp_path):
    """A child that was forked in the middle of a run does not keep the dead parent's journal locked."""
    parent = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    try:
        asyncio.run(assert_claimed(tmp_path, {"a"}))
        parent.kill()
        parent.wait()
        asyncio.run(assert_claimed(tmp_path, set()))
    finally:
        os.kill(child, signal.SIGKILL)


async def assert_claimed(folder, claimed):
    """Of the images a and b, these are another one's; what a dead owner had sent is named."""
    store = open_store(str(folder), identity=IDENTITY, run_id="r2", clock=SystemClock())
    assert await store.claim(["a", "b"]) == {"a", "b"} - claimed
    assert store.possibly_billed == ([] if claimed else ["a"])
    await store.close()
