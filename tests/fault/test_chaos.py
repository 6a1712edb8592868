"""Everything goes wrong now and then: every row is answered or named, few calls are lost, every doubt is counted."""

import json

import pyarrow as pa
import pytest

from imgtag_pipeline import label
from imgtag_pipeline.emulator.faults import parse_all
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.run.retry_policy import RetryPolicy
from imgtag_pipeline.testing import put_object

CHAOS = ("throttle=0.05", "reset=0.05", "slow:0.2=0.02", "garbage=0.01", "cut=0.005")
QUICK = RetryPolicy(base=0.01, cap=0.1)
REGION = {"oss_labels": {"region": "cn-hangzhou"}}


def doubtful(entry):
    """The client cannot know whether this call was billed: it was sent, and no whole answer came back."""
    return entry.code == "reset" or (entry.code == "ok" and not entry.is_answered)


@pytest.mark.emulator(is_synthetic=True, latency=0.002, seed=7)
@pytest.mark.parametrize(
    ("address", "rows", "faults"),
    [
        ("viapi/TaggingImage", 1000, CHAOS),
        ("oss_labels", 300, CHAOS[1:]),
        pytest.param("viapi/TaggingImage", 20_000, CHAOS, marks=pytest.mark.heavy),
    ],
)
def test_chaos(emulator, tmp_path, figure, address, rows, faults):
    """Whatever goes wrong, each image has its answer or the name of its trouble, and each doubtful call is counted."""
    home = "oss://bucket" if address.startswith("oss") else "https://img.example"
    urls = [f"{home}/{number}.jpg" for number in range(rows)]
    if address.startswith("oss"):
        for number in range(rows):
            put_object(emulator, "bucket", f"{number}.jpg", b"pixels")
    emulator.reset()
    emulator.faults.set(parse_all(faults))
    provider = get(address, endpoint=emulator.url, credentials=Keys("emulator", "emulator"), **REGION.get(address, {}))
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
        f"{', '.join(faults)} ({address})",
        f"{rows:,} rows",
        f"{rows - len(failed):,} answered, {len(failed)} named; {ledger.calls / rows:.3f} calls a row; "
        f"{len(doubts)} doubtful calls, {report['billed']['unknown']} reported; {report['elapsed']:.0f} s",
    )
