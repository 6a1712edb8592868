"""One SIGTERM and answers that are slower than the grace time: they are cut, and their images are named."""

import signal
import time
from dataclasses import replace

import pytest

GRACE = 10.0  # seconds: the default, which the command line always has
LATENCY = 40.0


@pytest.mark.emulator(is_synthetic=True, latency=LATENCY)
def test_what_comes_later_than_the_grace_time_is_cut(desk, figure):
    """After one SIGTERM a run ends within the grace time; who had no answer by then is listed as possibly billed."""
    urls = desk.write(20)
    ledger = desk.emulator.ledger
    process = desk.start(concurrency=4)
    give_up = time.monotonic() + 30
    while ledger.calls < 4:
        assert time.monotonic() < give_up, "it did not send"
        time.sleep(0.002)
    began = time.monotonic()
    process.signal(signal.SIGTERM)
    assert process.wait() == 130, process.stderr
    took = time.monotonic() - began
    assert GRACE - 0.5 <= took < LATENCY / 2
    cut = set(ledger.calls_by_image)
    assert (process.report["calls"], process.report["possibly_billed_count"]) == (4, 4)
    assert set(process.report["possibly_billed"]) == cut
    assert "Traceback" not in process.stderr
    assert not desk.out.exists()
    desk.emulator.options = replace(desk.emulator.options, latency=0.0)
    again = desk.start()
    assert again.wait() == 0, again.stderr
    assert set(again.report["possibly_billed"]) == cut
    assert dict(ledger.calls_by_image) == {url: 1 + (url in cut) for url in urls}
    figure("one SIGTERM, answers later than the grace time", "1 run", f"ended after {took:.1f} s, 4 cut, 4 listed")
