"""Quota shared through a real Redis that goes away, comes back empty, is slow, or changes its role."""

import asyncio
import contextlib
import importlib.util
import logging
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.limiter.queue import QuotaQueue
from imgtag_pipeline.limiter.redis import RedisRecord
from imgtag_pipeline.model import Quota

_SPEC = importlib.util.spec_from_file_location("quota_crowd", Path(__file__).with_name("quota_crowd.py"))
crowd = importlib.util.module_from_spec(_SPEC)
sys.modules["quota_crowd"] = crowd
_SPEC.loader.exec_module(crowd)

pytestmark = [pytest.mark.redis]
QPS = 20
ATTEMPTS = 3  # to use the quota, when others keep the machine busy; none may pass it


class Server:
    """A Redis of the test's own, on a port that stays."""

    def __init__(self, folder):
        if shutil.which("redis-server") is None:
            pytest.skip("no redis-server on the PATH")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = folder
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--dir", str(self.folder)],
            stdout=subprocess.DEVNULL,
        )
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def tell(self, *words):
        """One command, answered."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(" ".join(map(str, words)).encode() + b"\r\n")
            return connection.recv(4096)


@pytest.fixture
def redis(tmp_path):
    server = Server(tmp_path)
    yield server
    server.kill()


class Hosts:
    """Hosts that call as often as they may, and the moments at which the calls left."""

    def __init__(self, url, number, qps=QPS, **options):
        clock = SystemClock()
        self.qps, self.sent, self.problems = qps, [], []
        self.lanes = [QuotaQueue(qps, RedisRecord(url, "key", qps, clock, **options), clock) for _ in range(number)]

    async def __aenter__(self):
        self.workers = [asyncio.create_task(self.work(lane)) for lane in self.lanes for _ in range(8)]
        return self

    async def __aexit__(self, *error):
        for worker in self.workers:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        await asyncio.gather(*(lane.close() for lane in self.lanes))

    async def work(self, lane):
        while True:
            try:
                slot = await lane.acquire()
            except StoreError as error:
                self.problems.append(str(error))
                return
            if slot.sent():
                self.sent.append(time.monotonic())
                await asyncio.sleep(0.002)
                slot.replied()
                lane.note(lambda book, now, grant=slot.grant: book.accepted(grant, now))

    def since(self, moment):
        """Calls since then."""
        return sum(at >= moment for at in self.sent)

    @property
    def seen(self):
        return crowd.judged(sorted(self.sent), self.qps)


@pytest.mark.heavy
@pytest.mark.parametrize(("qps", "stall"), [(20, 0), (20, 0.3), (200, 0), (1000, 0)])
def test_hosts_share_the_quota_through_redis(tmp_path, redis, figure, qps, stall):
    """Two hosts with one Redis: no second above the quota, and 97 % of it used when no loop is blocked."""
    options = (
        "--seconds",
        6.6,
        "--redis",
        redis.url,
        "--stall",
        stall,
        "--qps",
        qps,
        "--workers",
        8 if qps < 50 else 32,
    )
    enough = 0.6 if stall else 0.97
    for attempt in range(1, ATTEMPTS + 1):
        with crowd.Recorder() as server:
            hosts = [*crowd.start_callers(server.port, 1, *options, share=tmp_path / f"a{attempt}")]
            hosts += crowd.start_callers(server.port, 1, *options, share=tmp_path / f"b{attempt}")
            assert [host.wait(60) for host in hosts] == [0, 0]
            seen = crowd.judged(server.arrivals(), qps)
        assert seen.worst <= qps
        if seen.used >= enough:
            break
    what = f"{qps}/s, 2 hosts through Redis" + (", loops stalled 300 ms" if stall else "")
    again = f", at attempt {attempt}" if attempt > 1 else ""
    figure(what, f"{seen.calls} calls", f"worst second {seen.worst}, use {seen.used:.1%}{again}")
    assert seen.used >= enough


def restart(redis):
    redis.kill()
    redis.start()


def flush(redis):
    redis.tell("FLUSHALL")


def cut(redis):
    redis.tell("CLIENT", "KILL", "TYPE", "normal")


def fail_over(redis):
    """The primary dies, and a replica that had seen nothing of late takes its place and its address."""
    old, spare = redis.process, Server(redis.folder)
    old.kill()
    old.wait()
    spare.tell("CONFIG", "SET", "port", redis.port)
    redis.process = spare.process


def demote(redis):
    """The server is a replica for a moment, and then the primary again."""
    redis.tell("REPLICAOF", "127.0.0.1", "1")
    time.sleep(0.3)
    redis.tell("REPLICAOF", "NO", "ONE")


@pytest.mark.parametrize("trouble", [restart, flush, cut, fail_over, demote])
async def test_whatever_happens_to_redis_no_second_is_above_the_quota(redis, figure, caplog, trouble):
    """Two hosts go on by themselves, with one warning each at most, and never send too much."""
    async with Hosts(redis.url, 2) as hosts:
        await asyncio.sleep(3.4)
        assert hosts.sent
        with caplog.at_level(logging.WARNING, "imgtag_pipeline"):
            await asyncio.to_thread(trouble, redis)
            await asyncio.sleep(3.6)
        again = time.monotonic()
        await asyncio.sleep(1.0)
        seen, went_on = hosts.seen, hosts.since(again)
    figure(f"{QPS}/s, 2 hosts, Redis: {trouble.__name__}", f"{seen.calls} calls", f"worst second {seen.worst}")
    assert seen.worst <= QPS
    assert went_on >= 0.9 * QPS
    assert hosts.problems == []
    assert len(caplog.messages) <= 2


async def test_a_slow_redis_slows_nobody_above_the_quota(redis, figure):
    """A Redis that answers late again and again: places are leased further ahead, and none is used too late."""
    async with Hosts(redis.url, 2) as hosts:
        await asyncio.sleep(3.0)
        for _ in range(4):
            await asyncio.to_thread(redis.tell, "CLIENT", "PAUSE", 600, "ALL")
            await asyncio.sleep(0.7)
        seen = hosts.seen
    figure(f"{QPS}/s, 2 hosts, Redis: answers after 600 ms", f"{seen.calls} calls", f"worst second {seen.worst}")
    assert seen.worst <= QPS
    assert hosts.problems == []


async def test_a_redis_that_hangs_is_given_up(redis, caplog):
    """A Redis that does not answer at all is tried again for a while; then one sentence, and nothing is sent."""
    async with Hosts(redis.url, 1, lost_after=0.5) as hosts:
        await asyncio.sleep(3.0)
        redis.tell("CLIENT", "PAUSE", 8000, "ALL")
        paused = time.monotonic()
        await asyncio.wait(hosts.workers, timeout=8)
    assert hosts.since(paused + 0.5) == 0
    assert len(hosts.problems) == 8
    assert "is lost" in hosts.problems[0]
    assert len(caplog.messages) == 1


async def test_a_redis_that_is_not_there_is_a_configuration_error():
    """No Redis at the start: one sentence that names the place and keeps the password."""
    limiter = Limiter(clock=SystemClock(), redis_url="redis://:s3cret@127.0.0.1:1/0")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1") as caught:
        await limiter.acquire(Quota("q", QPS))
    assert "s3cret" not in str(caught.value)
    await limiter.aclose()


async def test_a_wrong_password_is_a_configuration_error(redis):
    """A Redis that lets nobody in at the start is the caller's mistake."""
    redis.tell("CONFIG", "SET", "requirepass", "s3cret")
    limiter = Limiter(clock=SystemClock(), redis_url=redis.url.replace("//", "//:wr0ng@"))
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1") as caught:
        await limiter.acquire(Quota("q", QPS))
    assert "wr0ng" not in str(caught.value)
    await limiter.aclose()


async def test_nothing_is_sent_once_redis_is_lost(redis, caplog):
    """When Redis dies for good, every further call gets a store error, after one warning."""
    clock = SystemClock()
    lane = QuotaQueue(QPS, RedisRecord(redis.url, "key", QPS, clock, lost_after=0.5), clock)
    slot = await lane.acquire()
    slot.sent()
    slot.replied()
    redis.kill()
    for _ in range(3):
        with pytest.raises(StoreError, match="is lost"):
            await lane.acquire()
    await lane.close()
    assert len(caplog.messages) == 1


async def test_a_redis_without_room_is_said_so(redis):
    """A Redis that refuses to write ends the sending with the reason."""
    clock = SystemClock()
    lane = QuotaQueue(QPS, RedisRecord(redis.url, "key", QPS, clock), clock)
    (await lane.acquire()).sent()
    redis.tell("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreError, match="refuses"):
        await lane.acquire()
    await lane.close()


async def test_a_key_that_is_there_is_used_at_once(redis):
    """Who joins a quota that others use, on a Redis that has run for a while, does not wait for a lost memory."""
    async with Hosts(redis.url, 1) as hosts:
        await asyncio.sleep(3.0)
        joined = time.monotonic()
        async with Hosts(redis.url, 1) as others:
            await asyncio.sleep(0.5)
        assert others.since(joined) > 0
        assert crowd.judged(sorted(hosts.sent + others.sent), QPS).worst <= QPS
