"""A conversation is carried out step by step, and every failure in it becomes a row."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from imgtag_pipeline.errors import FatalError, PermanentError, RefusedHereError, ThrottledError, TransientError
from imgtag_pipeline.model import Answer, Call, Compute, Image, Quota, ReadImage, Reply, Request, SaveJob, Tag, read_all
from imgtag_pipeline.run.conversation import ConversationRunner
from imgtag_pipeline.testing.clock import FakeClock

CALL = Call("ask", Request("GET", "http://127.0.0.1/"), Quota("q", None))
A, B = Image("a", "a.jpg"), Image("b", "b.jpg")


class Script:
    """A provider whose conversation is the given generator function."""

    def __init__(self, exchange):
        self.exchange = exchange


async def outcomes_of(exchange, images, *, call=None, read=None):
    saved = []

    async def reply(step, keys, spent):
        spent.calls += 1
        if call is not None:
            raise call
        spent.pay("yes", 2500)
        return Reply(200, {}, b"hello")

    async def bytes_of(url, spent, *, max_bytes, timeout):
        if read is not None:
            raise read
        return url.encode()

    async def save_job(key, job):
        saved.append((key, job.job_id))

    async def settle(billed, spent):
        while spent.unsettled:
            spent.unsettled.pop()
            spent.pay(billed, 7500)

    with ThreadPoolExecutor(1) as threads:
        talker = ConversationRunner(Script(exchange), reply, bytes_of, save_job, settle, threads, FakeClock())
        return await talker.outcomes(images, {}), saved


async def test_all_steps_are_answered_in_their_own_kind():
    """A call gives a reply, an image its bytes, a computation its value, a job is remembered."""

    def exchange(images, jobs):
        reply = yield CALL
        data = yield ReadImage(images[0], 100)
        length = yield Compute(lambda: len(data))
        yield SaveJob(images[0], "job-7")
        return [Answer((Tag(f"{reply.body.decode()} {data.decode()} {length}"),), "r1")]

    outcomes, saved = await outcomes_of(exchange, [A])
    assert [(o.status, o.tags[0].name, o.request_id, o.calls, o.cost_micro_yuan) for o in outcomes] == [
        ("ok", "hello a.jpg 5", "r1", 1, 2500)
    ]
    assert saved == [("a", "job-7")]


def nothing(images, jobs):
    yield CALL
    return [Answer(()) for _ in images]


async def test_no_tags_is_empty_and_not_failed():
    """Absence and failure never look alike."""
    outcomes, _ = await outcomes_of(nothing, [A])
    assert outcomes[0].status == "empty"


async def test_a_permanent_failure_is_one_row_with_the_vendors_code():
    """The row says what was wrong; the next run does not ask again."""
    outcomes, _ = await outcomes_of(nothing, [A], call=PermanentError("no picture", code="InvalidImage.URL"))
    assert (outcomes[0].status, outcomes[0].error_code, outcomes[0].is_final) == ("failed", "InvalidImage.URL", True)


@pytest.mark.parametrize("kind", [TransientError, ThrottledError])
async def test_a_failure_that_nobody_billed_is_asked_again_by_the_next_run(kind):
    """Time ran out while the vendor was down, or too busy for us: no answer for good."""
    outcomes, _ = await outcomes_of(nothing, [A], call=kind("down", code="ServiceUnavailable"))
    assert (outcomes[0].status, outcomes[0].is_final) == ("failed", False)


async def test_a_refused_batch_is_to_be_split():
    """One bad image must not cost the others their row."""
    outcomes, _ = await outcomes_of(nothing, [A, B], call=PermanentError("one is bad", code="InvalidImage.URL"))
    assert outcomes is None


async def test_a_refused_batch_that_was_billed_is_not_asked_again_in_parts():
    """What was paid for is never paid for again: each of its images has the refusal as its row."""

    def exchange(images, jobs):
        yield CALL
        raise PermanentError("one is bad", code="InvalidImage.URL", billing="yes")

    outcomes, _ = await outcomes_of(exchange, [A, B])
    assert [(o.error_code, o.billed) for o in outcomes] == [("InvalidImage.URL", "yes")] * 2


async def test_one_bad_image_inside_an_answered_batch_is_one_bad_row():
    """A provider may answer image by image."""

    def exchange(images, jobs):
        yield CALL
        return [Answer((Tag("cat"),)), PermanentError("not decodable", code="Decode")]

    outcomes, _ = await outcomes_of(exchange, [A, B])
    assert [o.status for o in outcomes] == ["ok", "failed"]


@pytest.mark.parametrize("kind", [TransientError, RefusedHereError])
async def test_an_image_of_a_paid_batch_that_failed_in_passing_waits_alone(kind):
    """Its neighbours were answered and paid for; the next run asks about this one, and owes nothing for it yet."""

    def exchange(images, jobs):
        yield CALL
        return [Answer((Tag("cat"),)), kind("not now", code="HTTP503")]

    outcomes, _ = await outcomes_of(exchange, [A, B])
    assert [(o.status, o.billed, o.is_final) for o in outcomes] == [("ok", "yes", True), ("failed", "no", False)]


@pytest.mark.parametrize("kind", [AssertionError, RuntimeError, RecursionError, OSError, KeyError])
async def test_whatever_a_provider_raises_is_the_row_of_its_image(kind):
    """A foreign package's fault ends no run behind a paid call, and is not paid for again by the next one."""

    def exchange(images, jobs):
        yield CALL
        raise kind("a fault of its own")

    (outcome,), _ = await outcomes_of(exchange, [A])
    assert (outcome.error_code, outcome.billed, outcome.is_final) == ("ProviderError", "yes", True)


async def test_an_exchange_may_catch_a_failure_and_go_on():
    """A provider resubmits what its vendor gave up on."""

    def exchange(images, jobs):
        try:
            yield ReadImage(images[0], 1)
        except PermanentError:
            yield CALL
        return [Answer((Tag("caught"),))]

    outcomes, _ = await outcomes_of(exchange, [A], read=PermanentError("too large", code="ImageTooLarge"))
    assert outcomes[0].tags[0].name == "caught"


async def test_a_fatal_answer_ends_the_run():
    """A bad key is no row."""
    with pytest.raises(FatalError):
        await outcomes_of(nothing, [A], call=FatalError("bad key", code="InvalidAccessKeyId.NotFound"))


@pytest.mark.parametrize("results", [[], [Answer(())] * 2])
async def test_a_faulty_provider_is_a_failed_row_not_a_dead_job(results):
    """A foreign provider's bug is named as such."""

    def exchange(images, jobs):
        yield CALL
        return results

    outcomes, _ = await outcomes_of(exchange, [A])
    assert (outcomes[0].status, outcomes[0].error_code) == ("failed", "ProviderError")
    assert "fault of the provider" in outcomes[0].error


def computing(function, timeout):
    def exchange(images, jobs):
        yield Compute(function, timeout)
        return [Answer((Tag("seen"),)) for _ in images]

    return exchange


async def test_the_wait_for_a_thread_is_no_part_of_a_computation():
    """64 images in flight on one thread: all are computed, though together they take longer than the limit."""
    with ThreadPoolExecutor(1) as threads:
        script = Script(computing(lambda: time.sleep(0.03), 1.0))
        talker = ConversationRunner(script, None, None, None, None, threads, FakeClock())
        asked = [talker.outcomes([Image(f"k{number}", "a.jpg")], {}) for number in range(64)]
        outcomes = [outcome for (outcome,) in await asyncio.gather(*asked)]
    assert {outcome.status for outcome in outcomes} == {"ok"}


async def test_a_computation_that_took_too_long_is_asked_again_and_has_one_thread():
    """The machine may have been busy. While the thread of a given-up image runs, no second one computes it."""
    is_over, begun = threading.Event(), []

    def work():
        begun.append(1)
        is_over.wait(30)

    with ThreadPoolExecutor(2) as threads:
        talker = ConversationRunner(Script(computing(work, 0.05)), None, None, None, None, threads, FakeClock())
        tries = [(await talker.outcomes([A], {}))[0] for _ in range(2)]
        is_over.set()
    assert [(one.error_code, one.is_final) for one in tries] == [("ComputeTimeout", False)] * 2
    assert len(begun) == 1


async def test_threads_that_hang_for_good_end_no_run_in_a_standstill():
    """Every thread is busy with a given-up picture: the others are told as too slow, to be asked again."""
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        work = computing(lambda: is_over.wait(30), 0.05)
        talker = ConversationRunner(Script(work), None, None, None, None, threads, FakeClock())
        asked = [talker.outcomes([Image(f"hung{number}", "a.jpg")], {}) for number in range(5)]
        outcomes = [outcome for (outcome,) in await asyncio.wait_for(asyncio.gather(*asked), 20)]
        is_over.set()
    assert {(one.error_code, one.is_final) for one in outcomes} == {("ComputeTimeout", False)}


async def test_several_images_are_read_at_once_and_a_bad_one_is_its_own_row():
    """The step is answered with bytes or an error for each, in order; the others go on."""
    reading, most = 0, 0

    async def bytes_of(url, spent, *, max_bytes, timeout):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        await asyncio.sleep(0.01)
        reading -= 1
        if url == "b.jpg":
            raise PermanentError("there is no file", code="NotFound")
        return url.encode()

    def exchange(images, jobs):
        found = yield from read_all(images, max_bytes=100)
        return [Answer((Tag(data.decode()),)) if isinstance(data, bytes) else data for data in found]

    with ThreadPoolExecutor(1) as threads:
        talker = ConversationRunner(Script(exchange), None, bytes_of, None, None, threads, FakeClock())
        outcomes = await talker.outcomes([A, B, Image("c", "c.jpg")], {})
    assert most == 3
    assert [(o.status, o.error_code) for o in outcomes] == [("ok", None), ("failed", "NotFound"), ("ok", None)]
    assert outcomes[2].tags[0].name == "c.jpg"


async def test_a_stop_while_images_are_read_stops_all_of_them():
    """Whatever ends the run ends the other reads too."""
    ended = []

    async def bytes_of(url, spent, *, max_bytes, timeout):
        if url == "a.jpg":
            raise FatalError("no", code="No")
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(url)

    def exchange(images, jobs):
        yield from read_all(images, max_bytes=100)

    with ThreadPoolExecutor(1) as threads:
        talker = ConversationRunner(Script(exchange), None, bytes_of, None, None, threads, FakeClock())
        with pytest.raises(FatalError):
            await talker.outcomes([A, B], {})
        await asyncio.sleep(0)
    assert ended in ([], ["b.jpg"])
