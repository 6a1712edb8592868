"""A quota that was told wrongly, and changes: the whole product finds it, in good time and with few refusals."""

import time
from dataclasses import replace

import pytest

REAL = (20, 5, 40)


@pytest.mark.heavy
@pytest.mark.emulator(is_synthetic=True, qps=REAL[0], latency=0.01)
@pytest.mark.parametrize("phase", [25])
def test_a_quota_that_was_told_wrongly_and_changes_is_found(desk, figure, phase):
    """Told 100, real 20, then 5, then 40: at most 1.10 times the ideal time, at most 3 % throttled answers."""
    ledger = desk.emulator.ledger
    desk.write(sum(REAL) * phase)
    process = desk.start(qps=100, concurrency=32)
    while not ledger.calls:
        assert process.is_running(), process.stderr
        time.sleep(0.001)
    began = time.monotonic()
    for number, real in enumerate(REAL[1:], 1):
        time.sleep(began + number * phase - time.monotonic())
        desk.emulator.options = replace(desk.emulator.options, qps=real)
    assert process.wait() == 0, process.stderr
    arrived = [entry.arrived for entry in ledger]
    took = (max(arrived) - min(arrived)) / (len(REAL) * phase)
    throttled = 1 - ledger.billed / ledger.calls
    figure(
        "told 100/s; really 20/s, then 5/s, then 40/s",
        f"{ledger.calls:,} calls, {len(REAL) * phase} s",
        f"{took:.3f} times the ideal time, {throttled:.1%} throttled",
    )
    assert took <= 1.10
    assert throttled <= 0.03
    assert set(ledger.billed_by_image.values()) == {1}
