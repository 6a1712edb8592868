"""Quota kept by real processes over real time, as a server in another process sees it."""

import importlib.util
import sys
from pathlib import Path

import pytest

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
        with pytest.raises(crowd.subprocess.TimeoutExpired):
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
