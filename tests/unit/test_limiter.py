"""Pacing on a clock that obeys: what a server would count, what waits, what is learned."""

import asyncio
import random
import statistics
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import pytest

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.limiter.queue import QuotaQueue
from imgtag_pipeline.limiter.record import MemoryRecord
from imgtag_pipeline.limiter.round_trips import LONGEST
from imgtag_pipeline.model import Quota
from imgtag_pipeline.testing import FakeClock


class Server:
    """Answers after a round trip, counts arrivals, refuses what is above its quota in the last second."""

    def __init__(
        self,
        clock: FakeClock,
        quota: Callable[[float], float] = lambda seconds: 1e9,
        *,
        one_way: float = 0.01,
        jitter: float = 0.0,
        work: float = 0.0,
        refuses: float = 0.0,
        seed: int = 7,
    ) -> None:
        self.clock, self.quota, self.one_way, self.jitter, self.work = clock, quota, one_way, jitter, work
        self.refuses = refuses
        self.began = clock.monotonic()
        self.random = random.Random(seed)
        self.arrivals: list[float] = []
        self.window: deque[float] = deque()
        self.refused = 0

    async def call(self) -> bool:
        """True: answered; False: throttled."""
        under_way = self.one_way + self.random.random() * self.jitter
        now = self.clock.monotonic() + under_way  # a stall of the caller's loop does not concern the server
        await self.clock.sleep(under_way)
        self.arrivals.append(now)
        while self.window and self.window[0] <= now - 1:
            self.window.popleft()
        is_good = is_within = len(self.window) < self.quota(now - self.began)
        if is_within:
            self.window.append(now)
            is_good = not self.refuses or self.random.random() >= self.refuses
        self.refused += not is_good
        await self.clock.sleep(self.random.random() * self.work)
        await self.clock.sleep(self.one_way + self.random.random() * self.jitter)
        return is_good


def worst_window(arrivals: list[float], seconds: float = 1.0) -> int:
    """The most arrivals that any window of so many seconds holds, its end left out."""
    recent: deque[float] = deque()
    worst = 0
    for at in sorted(arrivals):
        recent.append(at)
        while recent[0] <= at - seconds + 1e-9:
            recent.popleft()
        worst = max(worst, len(recent))
    return worst


async def make_calls(limiter: Limiter, quota: Quota, server: Server, number: int, *, workers: int = 64) -> None:
    """So many answered calls, throttled ones repeated."""
    left = number

    async def work() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            while True:
                slot = await limiter.acquire(quota)
                if not slot.sent():
                    continue
                is_good = await server.call()
                slot.replied()
                if is_good:
                    limiter.succeeded(quota, slot=slot)
                    break
                limiter.throttled(quota, slot=slot)

    await asyncio.gather(*(work() for _ in range(workers)))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def limiter(clock):
    pacer = Limiter(clock=clock, share=None)
    yield pacer
    await pacer.aclose()


@pytest.mark.parametrize(("jitter", "work"), [(0.0, 0.0), (0.002, 0.0), (0.02, 0.0), (0.0, 0.5), (0.002, 0.5)])
@pytest.mark.parametrize("qps", [1, 7, 20, 200])
async def test_no_window_at_the_server_holds_more_than_the_quota(clock, limiter, qps, jitter, work):
    """With jitter on the way and answers that take their time, no sliding second holds more calls than the quota."""
    server = Server(clock, jitter=jitter, work=work)
    await clock.run(make_calls(limiter, Quota("q", qps), server, 12 * qps))
    assert worst_window(server.arrivals) <= qps


@pytest.mark.parametrize("qps", [10, 50, 500])
async def test_nearly_all_of_the_quota_is_used(clock, limiter, qps):
    """Over a steady way to the server, at least 99 % of the quota is used."""
    server = Server(clock, jitter=0.0005)
    await clock.run(make_calls(limiter, Quota("q", qps), server, 20 * qps))
    assert len(server.arrivals) >= 0.99 * qps * (server.arrivals[-1] - server.arrivals[0])


async def test_a_rate_below_one_call_a_second_works(clock, limiter):
    """At 0.5 a second, calls are two seconds apart."""
    server = Server(clock)
    await clock.run(make_calls(limiter, Quota("q", 0.5), server, 6))
    gaps = [later - sooner for sooner, later in pairwise(server.arrivals)]
    assert all(2.0 <= gap < 2.1 for gap in gaps)


@pytest.mark.parametrize("seconds", [0.3, 1.2, 5.0])
async def test_a_stalled_loop_sends_no_burst(clock, limiter, seconds):
    """After somebody has blocked the event loop, the windows hold no more than the quota either."""
    server = Server(clock, jitter=0.01)
    job = asyncio.ensure_future(make_calls(limiter, Quota("q", 20), server, 300))
    for _ in range(6):
        await clock.advance(1.37)
        clock.stall(seconds)
    await clock.run(asyncio.wait_for(job, None))
    assert worst_window(server.arrivals) <= 20


async def test_waiting_calls_go_first_in_first_out(clock, limiter):
    """Who has queued first is served first."""
    order = []

    async def call(number):
        slot = await limiter.acquire(Quota("q", 5))
        slot.sent()
        order.append(number)
        slot.replied()

    await clock.run(asyncio.wait_for(asyncio.gather(*(call(n) for n in range(40))), None))
    assert order == list(range(40))


async def test_a_pause_binds_calls_already_waiting(clock, limiter):
    """After the vendor says wait 5 s, nobody sends for 5 s, however long they have queued."""
    server = Server(clock)
    job = asyncio.ensure_future(make_calls(limiter, Quota("q", 10), server, 60))
    await clock.advance(2.0)
    limiter.pause(Quota("q", 10), 5.0)
    paused, sent = clock.monotonic(), len(server.arrivals)
    await clock.advance(4.99)
    under_way = [at for at in server.arrivals[sent:] if at > paused + server.one_way]
    assert under_way == []
    await clock.run(asyncio.wait_for(job, None))
    assert len(server.arrivals) == 60
    assert limiter.throttled_seconds == pytest.approx(5.0, abs=0.3)


async def test_retry_after_is_a_pause(clock, limiter):
    """A throttled answer that names a time holds everybody back for that long."""
    quota = Quota("q", 10)
    slot = await limiter.acquire(quota)
    slot.sent()
    slot.replied()
    limiter.throttled(quota, 3.0, slot=slot)
    waiting = asyncio.ensure_future(limiter.acquire(quota))
    await clock.advance(2.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()


async def test_a_burst_of_throttled_answers_is_one_decrease(clock, limiter):
    """Ten refusals of calls that were on their way together slow down as one does."""
    quota = Quota("q", 40)
    server = Server(clock, lambda seconds: 40 if seconds < 5 else 20, one_way=0.1)
    job = asyncio.ensure_future(make_calls(limiter, quota, server, 400))
    await clock.advance(5.7)
    sent = len(server.arrivals)
    await clock.advance(3.0)
    assert server.refused >= 3
    assert len(server.arrivals) - sent >= 3 * 20 * 0.5
    await clock.run(asyncio.wait_for(job, None))


async def test_a_cancelled_waiter_gives_its_turn_on(clock, limiter):
    """A slot handed to a call that is cancelled in the same moment goes to the next."""
    quota = Quota("q", 1)
    first = await limiter.acquire(quota)
    first.sent()
    first.replied()
    waiting = [asyncio.ensure_future(limiter.acquire(quota)) for _ in range(3)]
    await clock.advance(0.5)
    waiting[0].cancel()
    waiting[1].cancel()
    await clock.advance(0.7)
    assert waiting[2].done()


async def test_a_slot_that_was_not_used_is_free_at_once(clock, limiter):
    """A call that was not made after all costs nobody a second."""
    quota = Quota("q", 1)
    (await limiter.acquire(quota)).unused()
    waiting = asyncio.ensure_future(limiter.acquire(quota))
    await clock.advance(0.7)
    assert waiting.done()


async def test_a_slot_lapses_when_its_call_does_not_leave(clock, limiter):
    """A call that took too long to be prepared asks again; one in time goes, and what is over stays over."""
    quota = Quota("q", 5)
    slow = await limiter.acquire(quota)
    clock.stall(LONGEST + 0.1)
    assert not slow.sent()
    slow.unused()
    quick = asyncio.ensure_future(limiter.acquire(quota))
    await clock.advance(0.5)
    assert quick.result().sent()
    quick.result().unused()
    assert limiter.used(quota) > 0


class LeasedShelf(MemoryRecord):
    """A shelf that leases half a second in advance, and whose visits take their time."""

    horizon = 0.5
    visit_takes = 0.0

    async def update(self, change):
        result = await super().update(change)
        await self._clock.sleep(self.visit_takes)
        return result


async def test_a_grant_that_came_too_late_is_not_used(clock):
    """When the shelf answers seconds later, others may have the place already: the call asks again."""
    shelf = LeasedShelf(20, clock)
    shelf.visit_takes = 2.4
    lane = QuotaQueue(20, shelf, clock)
    waiting = asyncio.ensure_future(lane.acquire())
    await clock.advance(2.0)
    shelf.visit_takes = 0.0
    await clock.advance(0.5)
    (slot,) = [await waiting]
    assert slot.grant.at >= 1002.4
    await lane.close()


class SlowToOpen(MemoryRecord):
    """A shelf that somebody else holds for a while before each visit."""

    async def update(self, change):
        await self._clock.sleep(0.1)
        return await super().update(change)


async def test_a_note_that_comes_while_the_shelf_is_taken_is_written_once(clock):
    """Words about a call count once, also when they come between asking for the book and getting it."""
    lane, written = QuotaQueue(20, SlowToOpen(20, clock), clock), []
    waiting = asyncio.ensure_future(lane.acquire())
    await clock.advance(0.05)
    lane.note(lambda book, now: written.append(now))
    await clock.advance(2.0)
    assert waiting.done()
    assert len(written) == 1
    await clock.run(lane.close())


async def test_leases_of_a_lane_that_is_closed_go_back(clock):
    """What was leased and not used is there for the next run at once."""
    shelf = LeasedShelf(2, clock)
    lane = QuotaQueue(2, shelf, clock)
    (await lane.acquire()).sent()
    waiting = asyncio.ensure_future(lane.acquire())
    await clock.advance(0.1)
    await lane.close()
    assert waiting.cancelled()
    assert await shelf.update(lambda book, now: len(book)) == 1


async def test_a_call_that_leaves_late_keeps_its_place_for_longer(clock):
    """A call that leaves 0.4 s after its grant and is not answered holds its place until it has surely arrived."""
    shelf = MemoryRecord(1, clock)
    lane = QuotaQueue(1, shelf, clock)
    slot = await lane.acquire()
    await clock.advance(0.4)
    assert slot.sent()
    await clock.advance(0.01)
    (ends,) = [place.end for _, place in await shelf.update(lambda book, now: book.places())]
    assert ends == pytest.approx(1000.4 + 1 + LONGEST)
    await lane.close()


async def test_a_quota_without_a_figure_does_not_wait(clock, limiter):
    """Nobody knows it, so hardly anything holds the first calls back, and no share of it is told."""
    began = clock.monotonic()
    await clock.run(make_calls(limiter, Quota("free", None), Server(clock), 1000, workers=1000))
    assert clock.monotonic() - began < 0.5
    assert limiter.used(Quota("free", None)) is None


async def test_a_quota_without_a_figure_is_found_once_the_vendor_refuses(clock, limiter):
    """Really 10 a second, and nobody said so: few refusals, and nearly all of it used."""
    server = Server(clock, lambda seconds: 10)
    began = clock.monotonic()
    await clock.run(make_calls(limiter, Quota("free", None), server, 600, workers=16))
    assert clock.monotonic() - began <= 1.2 * 60
    assert server.refused <= 0.10 * len(server.arrivals)


@pytest.mark.parametrize("qps", [0, -1, float("nan")])
async def test_an_impossible_quota_is_refused(limiter, qps):
    """A quota must be above 0."""
    with pytest.raises(ConfigError, match="above 0"):
        await limiter.acquire(Quota("q", qps))


async def test_quotas_do_not_wait_for_each_other(clock, limiter):
    """A slow key holds no other key back."""
    slow, quick = Server(clock), Server(clock)
    job = asyncio.ensure_future(make_calls(limiter, Quota("slow", 0.1), slow, 5))
    began = clock.monotonic()
    await clock.run(make_calls(limiter, Quota("quick", 50), quick, 100))
    assert clock.monotonic() - began < 2.5
    job.cancel()


async def test_closing_sends_the_waiting_away(clock):
    """Who still waits when the limiter is closed is cancelled."""
    pacer = Limiter(clock=clock, share=None)
    await pacer.acquire(Quota("q", 0.1))
    waiting = asyncio.ensure_future(pacer.acquire(Quota("q", 0.1)))
    await clock.advance(0.1)
    await pacer.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("one_way", "jitter", "phase"),
    [(0.005, 0, 20), (0.005, 0.002, 60), (0.05, 0, 20), (0.05, 0.02, 60), (0.15, 0, 60), (0.15, 0.06, 60)],
)
async def test_a_quota_that_was_told_wrongly_and_changes_is_found(clock, limiter, one_way, jitter, phase):
    """Told 100, real 20, then 5, then 40: at most 1.10 times the ideal time, at most 3 % throttled."""
    server = Server(
        clock,
        lambda seconds: 20 if seconds < phase else 5 if seconds < 2 * phase else 40,
        one_way=one_way,
        jitter=jitter,
    )
    began = clock.monotonic()
    await clock.run(make_calls(limiter, Quota("q", 100), server, int(65 * phase)))
    assert clock.monotonic() - began <= 1.10 * 3 * phase
    assert server.refused <= 0.03 * len(server.arrivals)
    assert limiter.throttled_seconds > phase


@pytest.mark.parametrize("share", [0.05, 0.10, 0.20])
async def test_random_refusals_do_not_slow_the_rate_down(clock, caplog, share):
    """Told 60, really 60, and a share refused at random, over 6 seeds: the median reaches 0.85 of what is possible."""
    used, refused = [], []
    for seed in range(6):
        limiter = Limiter(clock=clock, share=None)
        server = Server(clock, lambda seconds: 60, one_way=0.01, jitter=0.005, refuses=share, seed=seed)
        began = clock.monotonic()
        good = int(60 * (1 - share) * 90)
        await clock.run(make_calls(limiter, Quota("q", 60), server, good))
        used.append(90 / (clock.monotonic() - began))
        refused.append(server.refused / len(server.arrivals))
        await limiter.aclose()
    assert statistics.median(used) >= 0.85
    assert min(used) >= 0.5
    assert statistics.median(refused) <= 1.2 * share


async def test_a_fallen_quota_is_found_behind_random_refusals(clock, limiter):
    """Told 60, 5 % refused at random, really 60, then 20, then 60: the rate follows, down and up."""
    server = Server(clock, lambda seconds: 20 if 40 <= seconds < 80 else 60, refuses=0.05)
    began = clock.monotonic()
    await clock.run(make_calls(limiter, Quota("q", 60), server, int(0.95 * 140 * 40)))
    assert clock.monotonic() - began <= 1.25 * 120
    assert server.refused <= 0.10 * len(server.arrivals)


async def test_random_refusals_are_told(clock, limiter, caplog):
    """Who reads the log learns that slowing down would not help."""
    caplog.set_level("INFO", "imgtag_pipeline")
    server = Server(clock, lambda seconds: 60, refuses=0.2)
    await clock.run(make_calls(limiter, Quota("q", 60), server, 2000))
    assert "event=random_refusals" in caplog.text
    assert "slowing down" in caplog.text
