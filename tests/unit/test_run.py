"""The moving part of a run, with a store and a talker that do as they are told."""

import asyncio
import threading

import pyarrow as pa
import pytest

from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import Interrupted, StoreError
from imgtag_pipeline.model import Outcome
from imgtag_pipeline.run import Run
from imgtag_pipeline.run.answered import NOT_ASKED
from imgtag_pipeline.run.report import Tally
from imgtag_pipeline.testing import FakeClock


class Store:
    """Knows nothing, grants every claim, and writes down whose marks were taken back."""

    def __init__(self):
        self.at_claim = lambda: None
        self.cleared = []

    def lookup(self, keys, *, retry_failed=False):
        return [None] * len(keys)

    def jobs(self, keys):
        return {}

    def take(self, keys):
        assert not keys
        return pa.RecordBatch.from_pylist([], schema=schema.OUTCOME)

    async def claim(self, keys, *, retry_failed=False):
        self.at_claim()
        await asyncio.sleep(0)
        return set(keys)

    async def clear_sent(self, keys):
        self.cleared += keys


class ConversationRunner:
    """Every conversation uses up what it is told to, and then waits to be cut."""

    def __init__(self, spend):
        self.spend = spend
        self.began = asyncio.Event()

    async def outcomes(self, images, jobs, spent):
        self.spend(spent)
        self.began.set()
        await asyncio.Event().wait()


def run_of(store, talker=None, **words):
    return Run(
        store=store,
        talker=talker,
        tally=Tally(),
        clock=FakeClock(),
        key_of=str,
        references=lambda rows: (rows.column(0), None),
        strip=lambda rows: rows,
        concurrency=1,
        **words,
    )


async def read(run, count=3):
    rows = pa.record_batch({"url": [f"k{number}" for number in range(count)]})
    return [window async for window in run.answered(iter([rows]))]


async def test_a_stop_while_images_are_claimed_leaves_nobody_waiting():
    """The claim is granted when nothing may be sent any more: the rows say that they were not asked."""
    store = Store()
    run = run_of(store)
    store.at_claim = lambda: run._stop_now(Interrupted("stop"))
    (window,) = await asyncio.wait_for(read(run), 5)
    assert window.outcomes.column("error").to_pylist() == [NOT_ASKED] * 3
    assert run.tally.unanswered == 3


async def cut_with(spend):
    store, talker = Store(), ConversationRunner(spend)
    run = run_of(store, talker)
    reading = asyncio.create_task(read(run, 1))
    await talker.began.wait()
    run.stop()
    run.stop()
    await asyncio.wait_for(reading, 5)
    return run.tally.unknown_keys, store.cleared


async def test_a_call_that_was_cut_is_listed_as_possibly_billed():
    """Sent, and no answer waited for: the report names the image, and its mark stays."""
    assert await cut_with(lambda spent: spent.pay("unknown", None)) == (["k0"], [])


async def test_an_image_that_cost_nothing_takes_its_mark_back():
    """Marked, refused as throttled, and then stopped: neither this report nor the next one calls it billed."""

    def spend(spent):
        spent.is_marked = True

    assert await cut_with(spend) == ([], ["k0"])


async def test_a_job_that_is_under_way_is_not_in_doubt():
    """It was paid for and is known by its id: the next run polls it."""

    def spend(spent):
        spent.pay("yes", 1)
        spent.has_job = True

    assert await cut_with(spend) == ([], [])


class Answering:
    """Answers each image with one paid call."""

    async def outcomes(self, images, jobs, spent):
        spent.calls += 1
        spent.pay("yes", 2500)
        return [Outcome(image.key, image.url, "empty", (), calls=1, billed="yes") for image in images]


async def test_a_paid_answer_that_cannot_be_written_down_is_listed():
    """The disk is full: the run stops with the store's error, and the image that was paid for is named."""
    store = Store()

    async def save(outcomes):
        raise StoreError("the journal cannot be written: no space left on device")

    store.save = save
    run = run_of(store, Answering())
    await read(run, 3)
    assert isinstance(run.stopped, StoreError)
    assert run.tally.unknown_keys == ["k0"]
    assert run.tally.unanswered == 3


async def test_a_stop_before_a_follower_began_leaves_nobody_waiting():
    """Another process is asking about the image, and the stop comes in the same turn of the loop."""
    store = Store()

    async def claim(keys, *, retry_failed=False):
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(run._stop_now, Interrupted("stop"))
        return set()

    store.claim = claim
    run = run_of(store)
    (window,) = await asyncio.wait_for(read(run), 5)
    assert window.outcomes.column("error").to_pylist() == [NOT_ASKED] * 3


async def test_an_input_that_breaks_ends_also_who_waits_for_another_process():
    """The error of the input is raised; nobody waits for an image that no worker will take any more."""
    store = Store()
    granted = iter([set(), {"k0"}])
    is_broken = asyncio.Event()

    async def claim(keys, *, retry_failed=False):
        return next(granted)

    async def wait_for(keys, *, retry_failed=False):
        await is_broken.wait()
        return set()

    def rows():
        yield pa.record_batch({"url": ["k0"]})
        loop.call_soon_threadsafe(is_broken.set)
        raise OSError("a row group is damaged")

    store.claim, store.wait_for = claim, wait_for
    loop = asyncio.get_running_loop()
    run = run_of(store, Answering())
    with pytest.raises(OSError, match="row group"):
        async with asyncio.timeout(5):
            assert [window async for window in run.answered(rows())]


async def test_a_split_batch_takes_its_marks_back():
    """Refused as a whole and unbilled: a stop before the halves are asked leaves nothing in doubt."""

    class Refusing:
        async def outcomes(self, images, jobs, spent):
            spent.is_marked = True
            if len(images) > 1:
                return
            raise Interrupted("stop")

    store = Store()
    run = run_of(store, Refusing(), batch_size=4)
    await read(run, 4)
    assert store.cleared[:4] == ["k0", "k1", "k2", "k3"]


class Released(Store):
    async def release(self, keys):
        pass


class Held(FakeClock):
    """Long sleeps last until they are let go."""

    def __init__(self):
        super().__init__()
        self.let_go = asyncio.Event()

    async def sleep(self, seconds):
        await (self.let_go.wait() if seconds >= 60 else asyncio.sleep(0))


async def test_an_image_that_waits_to_try_again_holds_up_nobody():
    """16 images rest between two attempts; 400 others go on meanwhile, four exchanges at once."""
    clock, active, worst, order = Held(), 0, 0, []

    class Resting:
        async def outcomes(self, images, jobs, spent):
            nonlocal active, worst
            (image,) = images
            if image.key.startswith("bad"):
                await spent.rest(60.0)
            active += 1
            worst = max(worst, active)
            await clock.sleep(0.1)
            active -= 1
            order.append(image.key)
            if len(order) == 400:
                clock.let_go.set()
            return [Outcome(image.key, image.url, "failed", error_code="X", error="x", is_final=False)]

    urls = [f"bad{number}" for number in range(16)] + [f"good{number}" for number in range(400)]
    run = run_of(Released(), Resting())
    run.clock, run.concurrency = clock, 4

    async def read_all():
        async for _ in run.answered(iter([pa.record_batch({"url": urls})])):
            pass

    await asyncio.wait_for(read_all(), 60)
    assert sorted(order[:400]) == sorted(urls[16:])
    assert sorted(order[400:]) == sorted(urls[:16])
    assert worst == 4


async def test_a_reference_that_comes_while_a_refusal_is_written_down_is_tried():
    """The rows with the fresh signature join just then: they wait for the image, and it is asked about once more."""
    stale, fresh = (
        f"https://h.example.com/a.png?Expires={e}&OSSAccessKeyId=LTAI5tExampleKeyId0001&Signature={'s' * 27}%3D"
        for e in (1_600_000_000, 1_900_000_000)
    )
    is_writing, asked = threading.Event(), []

    class Slow(Store):
        async def release(self, keys):
            is_writing.set()
            while len(asked) == 1 and run._flights.another(keys[0], {stale}) is None:
                await asyncio.sleep(0)

    class Refused:
        async def outcomes(self, images, jobs, spent):
            (image,) = images
            asked.append(image.url)
            code = "HTTP403" if image.url == stale else "X"
            return [Outcome(image.key, image.url, "failed", error_code=code, error="x", is_final=False, billed="no")]

    def batches():
        yield pa.RecordBatch.from_pydict({"url": [stale]})
        is_writing.wait(60)
        yield pa.RecordBatch.from_pydict({"url": [fresh]})

    run = run_of(Slow(), Refused())
    run.key_of = lambda url: url.partition("?")[0]
    rows = [answered async for answered in run.answered(batches())]
    assert asked == [stale, fresh]
    assert [answered.outcomes.column("error_code").to_pylist() for answered in rows] == [["X"], ["X"]]
    assert run.tally.failed == {"X": 1}
