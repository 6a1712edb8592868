"""Caps that several hosts share through Redis."""

import asyncio
import shutil
import socket
import subprocess

import pytest

from imgtag_pipeline.caps import FileBook, Purse
from imgtag_pipeline.caps.redis import RedisBook
from imgtag_pipeline.errors import CapReached, StoreError
from imgtag_pipeline.ledger import read
from imgtag_pipeline.model import Price

pytestmark = pytest.mark.redis

PRICE = Price(((None, 2500),))


@pytest.fixture
def redis_url(tmp_path):
    """A Redis of our own."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        "redis-server",
        "--port",
        str(port),
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in server.stdout:
        if "Ready to accept" in line or "ready to accept" in line:
            break
    yield f"redis://127.0.0.1:{port}/0"
    server.kill()
    server.wait()
    server.stdout.close()


async def spend(purse):
    """Calls until the cap is reached; how many."""
    count = 0
    while True:
        try:
            ticket = await purse.reserve()
        except CapReached:
            return count
        await asyncio.sleep(0)
        await purse.settle(ticket, "yes")
        count += 1


@pytest.mark.parametrize("words", [{"max_calls": 200}, {"budget_micro_yuan": 200 * 2500}], ids=["calls", "budget"])
async def test_hosts_share_one_cap(redis_url, tmp_path, words):
    """Four hosts with four workers each send exactly the cap, and each host's ledger has its own calls."""
    purses = [
        Purse(PRICE, book=RedisBook(redis_url, "x"), record=FileBook(tmp_path / str(host), "x"), **words)
        for host in range(4)
    ]
    for purse in purses:
        await purse.open()
    counts = await asyncio.gather(*(spend(purse) for purse in purses for _ in range(4)))
    assert sum(counts) == 200
    assert sum(read(tmp_path / str(host))[0].yes for host in range(4)) == 200
    for purse in purses:
        await purse.close()
    again = Purse(PRICE, book=RedisBook(redis_url, "x"), **words)
    assert await spend(again) == 200
    await again.close()


async def test_a_dead_hosts_calls_stay_counted(redis_url):
    """Whoever is run in its place goes on with what is left."""
    dead = Purse(PRICE, max_calls=10, book=RedisBook(redis_url, "x"))
    for _ in range(4):
        await dead.reserve()
    heir = Purse(PRICE, max_calls=10, book=RedisBook(redis_url, "x"))
    assert await spend(heir) == 6
    await heir.close()
    await dead.close()


async def test_no_redis_no_call():
    """A cap that cannot be kept is an error before the first call."""
    purse = Purse(PRICE, max_calls=10, book=RedisBook("redis://127.0.0.1:1/0", "x"))
    with pytest.raises(StoreError, match="caps cannot be kept"):
        await purse.open()
    await purse.close()
