"""One call is repeated by what a repetition may cost."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from imgtag_pipeline.errors import (
    BreakerOpen,
    CapReached,
    ClockSkewError,
    ConfigError,
    CredentialsExpiredError,
    FatalError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.model import Call, Price, Quota, Reply, Request
from imgtag_pipeline.run.call import Caller, Stopping
from imgtag_pipeline.run.report import Spent, Tally
from imgtag_pipeline.run.retry_policy import RetryPolicy
from imgtag_pipeline.spend import FileRecord, SpendGuard
from imgtag_pipeline.testing.clock import FakeClock

QUOTA = Quota("fake:label", 10.0)
CALL = Call("label", Request("POST", "http://127.0.0.1/"), QUOTA)
GOOD = Reply(200, {"date": format_datetime(datetime(2026, 1, 1, 1, tzinfo=UTC), usegmt=True)}, b"{}")


class Wire:
    """A vendor, its pacer and its journal in one: says what it is told to, and writes down what it saw."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.log = []
        self.moments = []
        self.paused = []

    async def send(self, request, *, timeout, max_bytes):
        self.log.append("send")
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception) and getattr(answer, "billing", "") == "unknown":
            raise answer
        await asyncio.sleep(0)
        self.answer = answer
        return GOOD

    def check(self, call, reply):
        if isinstance(self.answer, Exception):
            raise self.answer

    def sign(self, request, moment):
        self.moments.append(moment)
        self.log.append("sign")
        return request

    async def acquire(self, quota):
        self.log.append(f"acquire {quota.qps:g}")
        return self

    def sent(self):
        return True

    def unused(self):
        self.log.append("unused")

    def replied(self):
        pass

    def throttled(self, quota, retry_after=None, *, slot=None):
        self.paused.append(retry_after)

    def succeeded(self, quota, *, slot=None):
        self.log.append("succeeded")

    async def mark(self, keys):
        self.log.append(f"mark {','.join(keys)}")


def caller_of(wire, clock, *, policy=None, **more):
    more.setdefault("spend_guard", SpendGuard(Price(((None, 2500),))))
    return Caller(
        provider=wire,
        send=wire.send,
        fetch=None,
        pacer=wire,
        mark_sent=wire.mark,
        clock=clock,
        policy=policy or RetryPolicy(),
        tally=Tally(),
        is_stopping=more.pop("is_stopping", lambda: False),
        random=lambda: 1.0,
        **more,
    )


async def ask(wire, clock=None, spent=None, **more):
    clock = clock or FakeClock()
    return await clock.run(caller_of(wire, clock, **more).call(CALL, ["a.jpg"], spent or Spent()))


async def test_the_sent_mark_is_written_before_the_bytes_leave_and_the_signature_is_made_last():
    """A crash between two steps can never leave a paid call that nobody knows of."""
    wire = Wire(GOOD)
    assert await ask(wire) is GOOD
    assert wire.log == ["acquire 10", "mark a.jpg", "sign", "send", "succeeded"]


async def test_an_unbilled_failure_is_repeated_with_a_new_signature_and_nonce():
    """Each attempt is a new request for the vendor."""
    wire = Wire(TransientError("busy", code="ServiceUnavailable"), TransientError("busy", code="Timeout"), GOOD)
    spent = Spent()
    await ask(wire, spent=spent)
    assert len({moment.nonce for moment in wire.moments}) == 3
    assert (spent.calls, spent.billed, spent.cost_micro_yuan) == (3, "yes", 2500)
    assert wire.log.count("mark a.jpg") == 1


async def test_a_call_that_may_have_been_billed_is_made_twice_at_most_and_counts_as_paid():
    """A time-out after sending may have cost money: two attempts, both on the bill."""
    wire = Wire(TransientError("no answer", code="ReadTimeout", billing="unknown"))
    spent = Spent()
    with pytest.raises(TransientError):
        await ask(wire, spent=spent)
    assert (wire.log.count("send"), spent.billed, spent.cost_micro_yuan) == (2, "unknown", 5000)


async def test_a_billed_failure_is_never_repeated():
    """What was paid for and failed would only be paid for again."""
    wire = Wire(TransientError("bad body", code="Imm", billing="yes"))
    with pytest.raises(TransientError):
        await ask(wire)
    assert wire.log.count("send") == 1


async def test_unbilled_failures_end_with_the_time_limit():
    """A vendor that is down for an hour does not hold an image for an hour."""
    clock = FakeClock()
    wire = Wire(TransientError("down", code="ServiceUnavailable"))
    with pytest.raises(TransientError):
        await ask(wire, clock, policy=RetryPolicy(time_limit=60))
    assert 60 <= clock.monotonic() - 1000 <= 60 + 20


async def test_waiting_for_the_quota_uses_up_no_time_of_the_retries():
    """An image that queued for ten minutes is still tried again after its first unbilled failure."""
    clock = FakeClock()
    wire = Wire(TransientError("refused", code="ConnectionRefused"), GOOD)

    async def acquire(quota):
        await clock.sleep(600)
        return wire

    wire.acquire = acquire
    assert await ask(wire, clock) is GOOD


async def test_a_vendor_that_asks_for_more_time_than_there_is_ends_the_attempt_at_once():
    """A Retry-After of 15 minutes does not hold an image for 15 minutes when its limit is one."""
    clock = FakeClock()
    wire = Wire(TransientError("later", code="ServiceUnavailable", retry_after=900))
    with pytest.raises(TransientError):
        await ask(wire, clock)
    assert clock.monotonic() - 1000 < 60


async def test_a_code_can_allow_fewer_attempts_than_the_policy():
    """A download that failed twice is the image's fault."""
    wire = Wire(TransientError("not fetched", code="InvalidImage.Download", max_attempts=2))
    with pytest.raises(TransientError):
        await ask(wire)
    assert wire.log.count("send") == 2


async def test_throttling_uses_up_no_attempt_and_tells_the_pacer():
    """Twenty throttled answers in a row, and the image still gets its answer."""
    wire = Wire(*[ThrottledError("slow down", code="Throttling", retry_after=1.5)] * 20, GOOD)
    assert await ask(wire) is GOOD
    assert wire.paused == [1.5] * 20


async def test_a_throttled_answer_that_is_billed_is_a_paid_attempt():
    """IMM bills what ends in 4xx, also when it says slow down: two such calls, not nine hundred seconds of them."""
    wire = Wire(ThrottledError("slow down", code="TooManyRequests", billing="yes"))
    with pytest.raises(ThrottledError):
        await ask(wire)
    assert wire.log.count("send") == 2


async def test_the_deadline_counts_from_the_first_failure_of_the_image():
    """Throttled answers and other calls of the same conversation included: past it nothing is repeated."""
    clock = FakeClock()
    spent = Spent()
    wire = Wire(ThrottledError("slow down", code="Throttling"))

    async def acquire(quota):
        await clock.sleep(100)
        return wire

    wire.acquire = acquire
    with pytest.raises(ThrottledError):
        await ask(wire, clock, spent, policy=RetryPolicy(deadline=450))
    assert wire.log.count("send") == 5
    assert wire.log.count("unused") == 1
    wire.answers = [TransientError("busy", code="ServiceUnavailable")]
    with pytest.raises(TransientError):
        await ask(wire, clock, spent, policy=RetryPolicy(deadline=450))
    assert wire.log.count("send") == 6


async def test_a_pause_that_ends_behind_the_deadline_is_not_waited_for():
    """Two pauses of 800 s do not fit into 900: the second one ends the image's attempts at once."""
    clock = FakeClock()
    wire = Wire(ThrottledError("slow down", code="Throttling", retry_after=800))

    async def acquire(quota):
        await clock.sleep(800 if wire.paused else 0)
        return wire

    wire.acquire = acquire
    with pytest.raises(ThrottledError):
        await ask(wire, clock)
    assert wire.log.count("send") == 2
    assert clock.monotonic() - 1000 == 800


async def test_throttling_before_does_not_use_up_the_time_limit_of_other_failures():
    """Ten minutes of throttled answers, then a refused connection: that is tried again."""
    clock = FakeClock()
    throttled = [ThrottledError("slow down", code="Throttling")] * 6
    wire = Wire(*throttled, TransientError("refused", code="ConnectionRefused"), GOOD)

    async def acquire(quota):
        await clock.sleep(100)
        return wire

    wire.acquire = acquire
    assert await ask(wire, clock) is GOOD


async def test_a_vendor_that_asks_for_a_longer_pause_than_the_deadline_stops_the_run():
    """Nobody waits a day in front of a bar that stands still: the sentence says when to go on."""
    with pytest.raises(BreakerOpen, match="pause of 86,400 s"):
        await ask(Wire(ThrottledError("tomorrow", code="Throttling", retry_after=86_400)))


async def test_a_cut_call_is_settled_all_the_same(tmp_path):
    """Cancelled while the spend guard writes down what the call came to: the bill still has it."""

    class Watched(SpendGuard):
        async def settle(self, ticket, billed):
            settling.set()
            return await super().settle(ticket, billed)

    settling = asyncio.Event()
    spent = Spent()
    spend_guard = Watched(Price(((None, 2500),)), book=FileRecord(tmp_path, "book", key="k", address="fake/label"))
    caller = caller_of(Wire(GOOD), FakeClock(), spend_guard=spend_guard)
    task = asyncio.create_task(caller.call(CALL, ["a"], spent))
    await settling.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await spend_guard.close()
    assert (spent.billed, spent.cost_micro_yuan, caller.tally.billed["yes"]) == ("yes", 2500, 1)


async def test_a_retry_that_is_cut_while_money_is_set_aside_is_not_sent():
    """The guard holds the cancellation back until its record is whole; it comes before the bytes leave, not behind."""

    class Watched(SpendGuard):
        async def reserve(self):
            if wire.log.count("send"):
                task.cancel()
            return await super().reserve()

    wire = Wire(TransientError("busy", code="Busy"), GOOD)
    clock = FakeClock()
    caller = caller_of(wire, clock, spend_guard=Watched(Price(((None, 2500),))))
    task = asyncio.create_task(caller.call(CALL, ["a"], Spent()))
    with pytest.raises(asyncio.CancelledError):
        await clock.run(task)
    assert wire.log.count("send") == 1


@pytest.mark.parametrize("date", [None, "yesterday", "Fri, 31 Dec 9999 23:59:59 -2359"])
async def test_a_date_that_nobody_can_read_puts_no_clock_right(date):
    """The refusal stands, and no other error hides it."""
    error = ClockSkewError("clock", code="Expired")
    wire = Wire(error)
    caller = caller_of(wire, FakeClock())
    assert not await caller._is_mended(_dated(error, date), (None, 0))


def _dated(error, date):
    error.server_date = date
    return error


@pytest.mark.parametrize("error", [PermanentError("bad image", code="X"), FatalError("bad key", code="Y")])
async def test_permanent_and_fatal_answers_cost_one_call(error):
    """Neither gets better by asking again."""
    wire = Wire(error)
    with pytest.raises(type(error)):
        await ask(wire)
    assert wire.log.count("send") == 1


async def test_a_wrong_clock_is_put_right_once_from_the_date_header():
    """The second attempt is signed with the vendor's time; a second refusal ends the run."""
    wire = Wire(ClockSkewError("expired", code="InvalidTimeStamp.Expired"), GOOD)
    await ask(wire)
    assert wire.moments[1].now - wire.moments[0].now > timedelta(minutes=59)
    with pytest.raises(ClockSkewError):
        await ask(Wire(ClockSkewError("expired", code="InvalidTimeStamp.Expired")))


async def test_an_expired_credential_is_fetched_anew():
    """A token that ran out during the night does not end the run."""
    fetched = []

    async def refresh():
        fetched.append(1)
        return len(fetched) == 1

    wire = Wire(CredentialsExpiredError("old", code="SecurityTokenExpired"), GOOD)
    assert await ask(wire, refresh=refresh) is GOOD
    with pytest.raises(CredentialsExpiredError):
        await ask(Wire(CredentialsExpiredError("old", code="SecurityTokenExpired")), refresh=refresh)


async def test_nothing_is_sent_once_the_run_is_stopping():
    """A stop between pacing and sending holds the call back, and nothing is marked or paid."""
    wire = Wire(GOOD)
    answers = iter([False, True])
    with pytest.raises(Stopping):
        await ask(wire, is_stopping=lambda: next(answers))
    assert wire.log == ["acquire 10", "unused"]


async def test_my_share_of_the_quota_replaces_its_rate():
    """qps=3 paces this operation at 3; another quota keeps its own."""
    wire = Wire(GOOD)
    await ask(wire, qps=3, share_of=QUOTA.key)
    assert wire.log[0] == "acquire 3"


async def test_caps_are_reserved_before_the_call_and_not_passed():
    """Three calls are allowed, the fourth is not sent; unbilled ones give their money back but count as calls."""
    clock, wire = FakeClock(), Wire(GOOD)
    caller = caller_of(wire, clock, spend_guard=SpendGuard(Price(((None, 2500),)), max_calls=3))
    for _ in range(3):
        await caller.call(CALL, ["a.jpg"], Spent())
    with pytest.raises(CapReached, match="max_calls=3"):
        await caller.call(CALL, ["b.jpg"], Spent())
    assert wire.log.count("send") == 3


async def test_a_budget_is_kept_to_the_micro_yuan():
    """0.005 yuan buys two calls at 0.0025, not three."""
    clock, wire = FakeClock(), Wire(GOOD)
    caller = caller_of(wire, clock, spend_guard=SpendGuard(Price(((None, 2500),)), budget_micro_yuan=5000))
    await caller.call(CALL, ["a"], Spent())
    await caller.call(CALL, ["b"], Spent())
    with pytest.raises(CapReached, match=r"0\.0050 spent"):
        await caller.call(CALL, ["c"], Spent())


@pytest.mark.parametrize("words", [{"max_paid_attempts": 0}, {"time_limit": -1}, {"deadline": 1e6}, {"base": -1}])
def test_a_policy_out_of_range_is_refused(words):
    """A policy is checked when it is built."""
    with pytest.raises(ConfigError, match="allowed"):
        RetryPolicy(**words)


async def test_calls_in_flight_while_the_clock_is_put_right_are_made_again_too():
    """Four calls go out with the wrong clock, all four are refused; each is made once more, with the right one."""
    error = ClockSkewError("clock", code="Expired")
    wire = Wire(*[error] * 4, GOOD)
    caller = caller_of(wire, FakeClock())
    await asyncio.gather(*(caller.call(CALL, [f"k{number}"], Spent()) for number in range(4)))
    assert wire.log.count("send") == 8


async def test_calls_in_flight_while_a_credential_is_renewed_are_made_again_too():
    """Three calls are refused for an expired token: it is fetched once, and all three are made again with it."""
    error = CredentialsExpiredError("expired", code="Expired")
    renewals = []

    async def refresh():
        await asyncio.sleep(0)
        renewals.append("asked")
        return len(renewals) == 1

    wire = Wire(*[error] * 3, GOOD)
    caller = caller_of(wire, FakeClock(), refresh=refresh)
    await asyncio.gather(*(caller.call(CALL, [f"k{number}"], Spent()) for number in range(3)))
    assert (renewals, wire.log.count("send")) == (["asked"], 6)


async def test_a_source_that_gives_only_expired_credentials_ends_the_run():
    """However often there are other keys: a call is not made for ever."""

    async def refresh():
        return True

    wire = Wire(CredentialsExpiredError("expired", code="Expired"))
    with pytest.raises(CredentialsExpiredError):
        await ask(wire, refresh=refresh)
    assert wire.log.count("send") <= 3
