"""Caps that several hosts share through Redis."""

import asyncio
import random
import shutil
import socket
import subprocess
import time
from datetime import timedelta

import pytest

from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.errors import CapReached, StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.pipeline.stores import ledger
from imgtag_pipeline.spend import FileRecord, SpendGuard
from imgtag_pipeline.spend.ledger import read
from imgtag_pipeline.spend.redis import RedisRecord

pytestmark = pytest.mark.redis

PRICE = Price(((None, 2500),))


class Server:
    """A Redis of our own, that can die and come back."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self):
        """With what the snapshot says, if there is one."""
        command = ["redis-server", "--port", str(self.port), "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if "eady to accept" in line:
                break

    def save(self):
        """Write a snapshot."""
        subprocess.run(["redis-cli", "-p", str(self.port), "save"], stdout=subprocess.DEVNULL, check=True)

    def kill(self):
        """At once; what it knew since the last snapshot is gone."""
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture
def server(tmp_path):
    """A running Redis."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on the PATH")
    running = Server(tmp_path)
    yield running
    running.kill()


@pytest.fixture
def redis_url(server):
    """Its address."""
    return server.url


async def spend(spend_guard):
    """Calls until the cap is reached; how many."""
    count = 0
    while True:
        try:
            ticket = await spend_guard.reserve()
        except CapReached:
            return count
        await asyncio.sleep(0)
        await spend_guard.settle(ticket, "yes")
        count += 1


@pytest.mark.parametrize("words", [{"max_calls": 200}, {"budget_micro_yuan": 200 * 2500}], ids=["calls", "budget"])
async def test_hosts_share_one_cap(redis_url, tmp_path, words):
    """Four hosts with four workers each send exactly the cap, and each host's ledger has its own calls."""
    purses = [
        SpendGuard(PRICE, book=RedisRecord(redis_url, "x"), record=FileRecord(tmp_path / str(host), "x"), **words)
        for host in range(4)
    ]
    for spend_guard in purses:
        await spend_guard.open()
    counts = await asyncio.gather(*(spend(spend_guard) for spend_guard in purses for _ in range(4)))
    assert sum(counts) == 200
    assert sum(read(tmp_path / str(host))[0].yes for host in range(4)) == 200
    for spend_guard in purses:
        await spend_guard.close()
    again = SpendGuard(PRICE, book=RedisRecord(redis_url, "x"), **words)
    assert await spend(again) == 200
    await again.close()


async def test_hosts_share_a_jobs_cap(redis_url):
    """Hosts at once, one that dies, and hosts later: 200 calls in all, and a larger figure lets them go on."""
    words = {"max_calls": 200, "job": "2026-11-26"}
    dead = SpendGuard(PRICE, book=RedisRecord(redis_url, "x"), **words)
    for _ in range(20):
        await dead.reserve()
    purses = [SpendGuard(PRICE, book=RedisRecord(redis_url, "x"), **words) for _ in range(4)]
    assert sum(await asyncio.gather(*(spend(spend_guard) for spend_guard in purses for _ in range(4)))) == 180
    for spend_guard in purses:
        await spend_guard.close()
    for most, left in ((200, 0), (210, 10), (100, 0)):
        later = SpendGuard(PRICE, book=RedisRecord(redis_url, "x"), max_calls=most, job="2026-11-26")
        assert await spend(later) == left
        await later.close()
    await dead.close()


async def test_a_dead_hosts_calls_stay_counted(redis_url):
    """Whoever is run in its place goes on with what is left."""
    dead = SpendGuard(PRICE, max_calls=10, book=RedisRecord(redis_url, "x"))
    for _ in range(4):
        await dead.reserve()
    heir = SpendGuard(PRICE, max_calls=10, book=RedisRecord(redis_url, "x"))
    assert await spend(heir) == 6
    await heir.close()
    await dead.close()


async def test_no_redis_no_call():
    """A cap that cannot be kept is an error before the first call."""
    spend_guard = SpendGuard(PRICE, max_calls=10, book=RedisRecord("redis://127.0.0.1:1/0", "x"))
    with pytest.raises(StoreError, match="caps cannot be kept"):
        await spend_guard.open()
    await spend_guard.close()


async def test_a_redis_password_is_not_told():
    """Not in the sentence about where the book lies."""
    spend_guard = SpendGuard(PRICE, max_calls=10, book=RedisRecord("redis://user:canary@127.0.0.1:1/0", "x"))
    with pytest.raises(StoreError) as caught:
        await spend_guard.open()
    assert "canary" not in str(caught.value)
    assert "127.0.0.1:1" in str(caught.value)


def hosts(server, tmp_path, count=4, cap=200, first=0):
    """So many hosts that share a cap."""
    return [
        SpendGuard(PRICE, max_calls=cap, book=RedisRecord(server.url, "x"), record=FileRecord(folder, "x"))
        for folder in (tmp_path / str(number) for number in range(first, first + count))
    ]


async def spend_slowly(spend_guard, sent):
    """Calls until the cap is reached or cannot be kept any more; how it ended."""
    while True:
        try:
            ticket = await spend_guard.reserve()
        except (CapReached, StoreError) as error:
            return error
        sent.append(spend_guard.token)
        await asyncio.sleep(0.002)
        await spend_guard.settle(ticket, "yes")


async def until(sent, count):
    while len(sent) < count:
        await asyncio.sleep(0.001)


async def test_redis_dies_in_the_middle(server, tmp_path, figure):
    """Nobody sends what cannot be set aside; one sentence says why; each host's ledger has its own calls."""
    purses, sent = hosts(server, tmp_path), []
    running = [asyncio.create_task(spend_slowly(spend_guard, sent)) for spend_guard in purses for _ in range(3)]
    await until(sent, 60)
    server.kill()
    errors = await asyncio.gather(*running)
    assert {str(error) for error in errors} == {
        f"the book of calls x in the Redis at {server.url} cannot be reached (ConnectionError), so caps cannot be kept "
        "and nothing is sent; start it, and run again"
    }
    for spend_guard in purses:
        await spend_guard.close()
    rows = [read(tmp_path / str(number))[0] for number in range(4)]
    assert sum(row.yes + row.unknown for row in rows) == len(sent) <= 200
    figure("caps in Redis: killed in the middle", "4 hosts", f"{len(sent)} of 200 calls, then none")
    server.start()


@pytest.mark.parametrize("snapshot", [None, 20], ids=["empty", "older"])
async def test_redis_comes_back_without_what_it_knew(server, tmp_path, figure, snapshot):
    """Empty, or as an old snapshot has it: those who knew more stop, and so does whoever joined them since."""
    purses, sent = hosts(server, tmp_path), []
    running = [asyncio.create_task(spend_slowly(spend_guard, sent)) for spend_guard in purses for _ in range(3)]
    if snapshot:
        await until(sent, snapshot)
        await asyncio.to_thread(server.save)
    await until(sent, 90)
    server.kill()
    server.start()
    late = hosts(server, tmp_path, 1, first=9)[0]
    running.append(asyncio.create_task(spend_slowly(late, sent)))
    errors = await asyncio.gather(*running)
    assert all(isinstance(error, StoreError) for error in errors), errors
    assert any("was lost or put back to an older state" in str(error) for error in errors)
    assert len(sent) < 200
    for spend_guard in (*purses, late):
        await spend_guard.close()
    again = hosts(server, tmp_path, 1, first=10)[0]
    assert await spend(again) == 200
    await again.close()
    where = f"back at {snapshot} calls" if snapshot else "back empty"
    figure(f"caps in Redis: {where}", "4 hosts, 1 joins", f"{len(sent)} of 200 calls, then none until all had ended")


class Forgetful:
    """A way to Redis on which each seventh answer "it is written" gets lost, and the connection with it."""

    def __init__(self, port):
        self.port, self.lost, self._count = port, 0, 0

    async def __call__(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        ways = (self._pass_on(reader, back, is_answer=False), self._pass_on(there, writer, is_answer=True))
        await asyncio.gather(*ways)

    async def _pass_on(self, reader, writer, *, is_answer):
        while data := await reader.read(1 << 16):
            if is_answer and data.startswith(b"*4\r\n:1\r\n"):
                self._count += 1
                if self._count % 7 == 0:
                    self.lost += 1
                    break
            writer.write(data)
        writer.close()


async def test_a_reply_that_got_lost_is_not_counted_twice(server):
    """The client asks again; what was written the first time is not done again."""
    way = Forgetful(server.port)
    async with await asyncio.start_server(way, "127.0.0.1", 0) as proxy:
        url = f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0"
        purses = [SpendGuard(PRICE, max_calls=100, book=RedisRecord(url, "x")) for _ in range(2)]
        counts = await asyncio.gather(*(spend(spend_guard) for spend_guard in purses))
        (month,) = await purses[0].book.update(lambda state: list(state.months.values()))
        for spend_guard in purses:
            await spend_guard.close()
    assert way.lost > 10
    assert sum(counts) == 100
    assert (month.sent, month.yes, month.held) == (100, 100, 0)


@pytest.mark.emulator(is_synthetic=True, latency=0.02)
async def test_real_processes_of_two_hosts_keep_one_cap(desk, server, tmp_path, figure):
    """Two stores with two processes each share 300 calls, killed and started again now and then."""
    desk.write(600)
    chance, kills, moments = random.Random(5), 0, [20, 80, 150, 220, 280, 295]
    env = {"IMGTAG_REDIS_URL": server.url}

    def start(number):
        store = tmp_path / f"host{number % 2}"
        out = tmp_path / f"{chance.getrandbits(32):x}.parquet"
        return desk.start("--max-calls", 300, store=store, out=out, env=env, concurrency=chance.randint(2, 8))

    running = {number: start(number) for number in range(4)}
    while running:
        await asyncio.sleep(0.002)
        if moments and desk.emulator.ledger.calls >= moments[0]:
            moments.pop(0)
            number = chance.choice(list(running))
            if running[number].kill() == -9:
                kills += 1
                running[number] = start(number)
        for number in [number for number, process in running.items() if not process.is_running()]:
            process = running.pop(number)
            assert process.wait() == 4, process.stderr
    rows = [row for host in range(2) for row in ledger(str(tmp_path / f"host{host}"))]
    calls = desk.emulator.ledger.calls
    assert calls <= sum(row["yes"] + row["no"] + row["unknown"] for row in rows) <= 300
    figure("cap of 300 calls in Redis, 2 hosts, kill -9", f"{kills} kills", f"{calls} calls sent, 0 above")


@pytest.mark.parametrize("ahead", [40.0, -40.0, 3600.0])
async def test_a_cap_holds_though_a_hosts_clock_is_wrong(server, tmp_path, monkeypatch, ahead):
    """Signs of life are told and judged by the server's clock: nobody takes the other for dead, and 40 stay 40."""
    from imgtag_pipeline.spend import redis as room

    class Wrong:
        """The clock module of a host that is ahead."""

        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time():
            return time.time() + ahead

    class WrongClock(SystemClock):
        def now(self):
            return super().now() + timedelta(seconds=ahead)

    right = SpendGuard(PRICE, max_calls=40, book=RedisRecord(server.url, "clocks"))
    wrong = SpendGuard(PRICE, max_calls=40, book=RedisRecord(server.url, "clocks"), clock=WrongClock())
    sent = 0

    async def one(spend_guard, clock):
        nonlocal sent
        monkeypatch.setattr(room, "time", clock)
        ticket = await spend_guard.reserve()
        sent += 1
        await spend_guard.settle(ticket, "yes")

    async def work(spend_guard, clock):
        for _ in range(100):
            await one(spend_guard, clock)

    await right.reserve()
    sent += 1
    for spend_guard, clock in ((wrong, Wrong), (right, time)):
        with pytest.raises(CapReached):
            await work(spend_guard, clock)
    assert sent == 40
    for spend_guard in (right, wrong):
        await spend_guard.close()
