"""Quota kept by real processes over real time, as a server in another process sees it."""

import contextlib
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgtag_pipeline.clock import SystemClock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.model import Quota

_SPEC = importlib.util.spec_from_file_location("quota_crowd", Path(__file__).with_name("quota_crowd.py"))
crowd = importlib.util.module_from_spec(_SPEC)
sys.modules["quota_crowd"] = crowd
_SPEC.loader.exec_module(crowd)


def finish(callers, seconds=60):
    """All callers end well."""
    assert [caller.wait(seconds) for caller in callers] == [0] * len(callers)


def show(way, seen, qps=20):
    """A row of the printed table."""
    print(f"\n{way:40} | {seen.calls:5} calls | worst second {seen.worst:3} of {qps} | use {seen.used:7.2%}")


@pytest.mark.heavy
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_of_a_host_share_the_quota(tmp_path, processes):
    """However many processes call, no sliding second holds more than 20, and 99 % of the quota is used."""
    with crowd.Recorder() as server:
        finish(crowd.start_callers(server.port, processes, "--seconds", "8", share=tmp_path))
        seen = crowd.judged(server.arrivals(), 20)
    show(f"{processes} processes, one host", seen)
    assert seen.worst <= 20
    assert seen.used >= 0.99


@pytest.mark.heavy
def test_a_stalled_loop_sends_no_burst(tmp_path):
    """Two processes whose loops are blocked for 300 ms again and again stay within the quota."""
    with crowd.Recorder() as server:
        finish(crowd.start_callers(server.port, 2, "--seconds", "8", "--stall", "0.3", share=tmp_path))
        seen = crowd.judged(server.arrivals(), 20)
    show("2 processes, loops stalled 300 ms", seen)
    assert seen.worst <= 20


@pytest.mark.heavy
def test_a_killed_process_leaves_its_share_to_the_others(tmp_path):
    """After kill -9 of one of two, the other uses the whole quota within a few seconds."""
    with crowd.Recorder() as server:
        killed, other = crowd.start_callers(server.port, 2, "--seconds", "10", share=tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            killed.wait(4)
        killed.kill()
        killed.wait()
        finish([other])
        arrivals = server.arrivals()
    seen = crowd.judged(arrivals, 20)
    late = crowd.judged([at for at in arrivals if at > arrivals[-1] - 3], 20)
    show("2 processes, one killed", seen)
    assert seen.worst <= 20
    assert late.used >= 0.98


@contextlib.contextmanager
def running_redis(folder):
    """A Redis of the test's own: its process and its address."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on the PATH")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield process, f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


@pytest.mark.redis
@pytest.mark.heavy
@pytest.mark.parametrize("stall", ["0", "0.3"])
def test_hosts_share_the_quota_through_redis(tmp_path, stall):
    """Two hosts with one Redis: no sliding second above 20, and 97 % of the quota used when no loop is blocked."""
    with running_redis(tmp_path) as (_, url), crowd.Recorder() as server:
        options = ("--seconds", "8", "--redis", url, "--stall", stall)
        hosts = [*crowd.start_callers(server.port, 1, *options, share=tmp_path / "a")]
        hosts += crowd.start_callers(server.port, 1, *options, share=tmp_path / "b")
        finish(hosts)
        seen = crowd.judged(server.arrivals(), 20)
    show(f"2 hosts through Redis, stalled {stall} s", seen)
    assert seen.worst <= 20
    assert seen.used >= (0.97 if stall == "0" else 0.6)


@pytest.mark.redis
async def test_a_redis_that_is_not_there_is_a_configuration_error():
    """No Redis at the start: one sentence that names the place and keeps the password."""
    limiter = Limiter(clock=SystemClock(), redis_url="redis://:s3cret@127.0.0.1:1/0")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:1") as caught:
        await limiter.acquire(Quota("q", 20))
    assert "s3cret" not in str(caught.value)
    await limiter.aclose()


@pytest.mark.redis
async def test_nothing_is_sent_once_redis_is_lost(tmp_path):
    """When Redis dies in the middle of a run, every further call gets a store error."""
    with running_redis(tmp_path) as (process, url):
        limiter = Limiter(clock=SystemClock(), redis_url=url)
        slot = await limiter.acquire(Quota("q", 20))
        slot.sent()
        slot.replied()
        process.kill()
        process.wait()
        for _ in range(3):
            with pytest.raises(StoreError, match="is lost"):
                await limiter.acquire(Quota("q", 20))
        await limiter.aclose()
