"""The quota kept by two whole runs of the command line, as the cloud sees it."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("quota_crowd", Path(__file__).with_name("quota_crowd.py"))
crowd = importlib.util.module_from_spec(_SPEC)
sys.modules["quota_crowd"] = crowd
_SPEC.loader.exec_module(crowd)

QPS, IMAGES = 20, 100
ATTEMPTS = 3  # to use the quota, when others keep the machine busy; none may pass it


@pytest.mark.heavy
@pytest.mark.emulator(is_synthetic=True, latency=0.01)
def test_two_runs_on_one_account_share_the_quota(desk, figure):
    """Each with a table and a store of its own: no sliding second holds more than the quota, 97 % of it is used."""
    ledger = desk.emulator.ledger
    for attempt in range(1, ATTEMPTS + 1):
        ledger.clear()
        desks = [desk.beside(f"{name}{attempt}") for name in "ab"]
        for number, each in enumerate(desks):
            each.write(0, [f"https://img.example/{number}-{image}.jpg" for image in range(IMAGES)])
        runs = [each.start(qps=QPS) for each in desks]
        assert [run.wait() for run in runs] == [0, 0], [run.stderr for run in runs]
        assert dict(ledger.billed_by_image) == dict.fromkeys(ledger.billed_by_image, 1)
        assert (len(ledger.billed_by_image), ledger.calls) == (2 * IMAGES, 2 * IMAGES)
        seen = crowd.judged(sorted(entry.arrived for entry in ledger), QPS)
        assert seen.worst <= QPS
        if seen.used >= 0.97:
            break
    again = f", at attempt {attempt}" if attempt > 1 else ""
    figure(
        f"{QPS}/s, 2 `imgtag label` on one account",
        f"{2 * IMAGES} calls",
        f"worst second {seen.worst}, use {seen.used:.1%}{again}",
    )
    assert seen.used >= 0.97
