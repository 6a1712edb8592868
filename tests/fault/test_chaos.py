"""Everything goes wrong now and then: every row is answered or named, few calls are lost, and every doubt is counted."""

import json

import pyarrow as pa
import pytest

from imgtag_pipeline import label
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.retry import RetryPolicy
from imgtag_pipeline.testing import put_object

CHAOS = ("reset=0.05", "throttle=0.05", "slow:0.2=0.02", "garbage=0.01", "cut=0.005")
QUICK = RetryPolicy(base=0.01, cap=0.1)
REGION = {"oss_labels": {"region": "cn-hangzhou"}}


def doubtful(entry):
    """The client cannot know whether this call was billed: it was sent, and no whole answer came back."""
    return entry.code == "reset" or (entry.code == "ok" and not entry.is_answered)


@pytest.mark.emulator(is_synthetic=True, latency=0.002, faults=CHAOS, seed=7)
@pytest.mark.parametrize(
    ("address", "rows"),
    [
        ("viapi/TaggingImage", 1000),
        ("oss_labels", 300),
        pytest.param("viapi/TaggingImage", 20_000, marks=pytest.mark.heavy),
    ],
)
def test_chaos(emulator, tmp_path, figure, address, rows):
    """5 % resets, 5 % throttled, 2 % slow, 1 % garbage, 0.5 % cut."""
    home = "oss://bucket" if address.startswith("oss") else "https://img.example"
    urls = [f"{home}/{number}.jpg" for number in range(rows)]
    faults, emulator.faults.faults = emulator.faults.faults, ()
    if address.startswith("oss"):
        for number in range(rows):
            put_object(emulator, "bucket", f"{number}.jpg", b"pixels")
    emulator.reset()
    emulator.faults.set(faults)
    provider = get(
        address, endpoint=emulator.url, credentials=Keys("emulator", "emulator"), **REGION.get(address, {})
    )
    table = label(
        pa.table({"url": urls}), provider=provider, checkpoint=str(tmp_path), qps=5000, concurrency=16, policy=QUICK
    )
    report = json.loads(table.schema.metadata[b"imgtag"])
    ledger = emulator.ledger
    statuses = dict(zip(table["url"].to_pylist(), table["status"].to_pylist(), strict=True))
    assert list(dict.fromkeys(table["url"].to_pylist())) == urls
    assert report["ok"] + report["empty"] + sum(report["failed"].values()) == rows
    assert set(statuses.values()) <= {"ok", "empty", "failed"}
    doubts = [entry for entry in ledger if doubtful(entry)]
    answered = [entry for entry in ledger if entry.code == "ok" and entry.is_answered]
    assert report["calls"] == ledger.calls
    assert ledger.calls <= 1.15 * rows
    assert report["billed"] == {
        "yes": len(answered),
        "unknown": len(doubts),
        "no": ledger.calls - len(answered) - len(doubts),
    }
    failed = {url for url, status in statuses.items() if status == "failed"}
    in_doubt = {image for entry in doubts for image in entry.images}
    assert set(report["possibly_billed"]) == failed & in_doubt == failed
    assert len(report["possibly_billed"]) == report["possibly_billed_count"]
    figure(
        f"5 % resets, 5 % throttled, 2 % slow, 1 % garbage, 0.5 % cut ({address})",
        f"{rows:,} rows",
        f"{rows - len(failed):,} answered, {len(failed)} named; {ledger.calls / rows:.3f} calls a row; "
        f"{len(doubts)} doubtful calls, {report['billed']['unknown']} reported; {report['elapsed']:.0f} s",
    )
