"""The disk is full in the middle of a run: nothing more is sent, what arrived is told, and a re-run continues."""

import pytest

pytestmark = pytest.mark.emulator(is_synthetic=True, latency=0.02)

CONCURRENCY = 4


@pytest.mark.parametrize("kilobytes", [8, 60, 90])
def test_a_full_disk_stops_the_sending(desk, figure, kilobytes):
    """No file may grow further: exit code 3, at most the calls in flight go unkept and are listed, a re-run goes on."""
    urls = desk.write(150)
    ledger = desk.emulator.ledger
    process = desk.start(concurrency=CONCURRENCY, max_file_bytes=kilobytes << 10)
    assert process.wait() == 3, process.stderr
    report = process.report
    assert "StoreError" in report["stopped"]
    assert "File too large" in process.stderr
    assert "Traceback" not in process.stderr
    assert not desk.out.exists()
    calls = ledger.calls
    assert report["calls"] == calls <= report["ok"] + CONCURRENCY
    assert sum(ledger.billed_by_image.values()) <= report["ok"] + len(report["possibly_billed"])
    again = desk.start()
    assert again.wait() == 0, again.stderr
    assert (again.report["known"], again.report["ok"]) == (report["ok"], len(urls))
    assert ledger.calls == calls + len(urls) - report["ok"]
    assert {url for url in urls if ledger.billed_by_image[url] > 1} <= set(report["possibly_billed"])
    assert not list(desk.store.rglob("*.journal"))
    figure(
        "a disk that is full after so many KiB of a file",
        f"{kilobytes} KiB",
        f"{calls} calls sent, {report['ok']} kept, {len(report['possibly_billed'])} listed as possibly billed",
    )
