"""TaggingAdImage from the submit to the bill: what is reported, capped and planned is what the cloud bills."""

import json

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import CapReached
from imgtag_pipeline.providers.alibaba_viapi.reading import read_job_result
from imgtag_pipeline.testing import environment, running_emulator


def label(emulator, urls, **words):
    provider = imgtag.providers.get("viapi/TaggingAdImage", endpoint=emulator.url, image_hosts="any", poll_every=0.01)
    return imgtag.label(pd.DataFrame({"url": urls}), provider=provider, allow_private=True, progress=False, **words)


@pytest.fixture
def cloud(request, monkeypatch):
    """A cloud whose pictures are synthetic, or as the test says."""
    options = {"is_synthetic": True, "job_polls": 1, **getattr(request, "param", {})}
    with running_emulator(**options) as running:
        for name, value in environment(running).items():
            monkeypatch.setenv(name, value)
        yield running


def billing(table):
    report = table.attrs["imgtag"]
    return report["billed"], report["yuan"]


@pytest.mark.parametrize(
    "cloud",
    [{"job_statuses": (end, "PROCESS_SUCCESS")} for end in ("PROCESS_FAILED", "TIMEOUT_FAILED")],
    indirect=True,
)
def test_failed_jobs_are_not_billed(cloud):
    """Jobs that fail by chance are submitted again, and neither the cloud nor the report bills them."""
    table = label(cloud, ["http://a.example/1.jpg"])
    assert set(table["status"]) <= {"ok", "empty"}
    assert cloud.ledger.billed == 1
    assert billing(table) == ({"yes": 1, "no": 1, "unknown": 0}, 0.0075)


@pytest.mark.parametrize("cloud", [{"is_synthetic": False}], indirect=True)
def test_a_dead_link_is_asked_once_and_costs_nothing(cloud):
    """The vendor cannot fetch it: one submit, one failed row, no yuan, and a small budget is not used up."""
    dead = [f"{cloud.url}/_emulator/images/none-{number}.jpg" for number in range(10)]
    table = label(cloud, dead, budget=0.1)
    assert set(table["error_code"]) == {"InvalidImage.Download"}
    assert cloud.ledger.billed == 0
    submits = [entry for entry in cloud.ledger if entry.action == "TaggingAdImage"]
    assert len(submits) == 10
    assert billing(table) == ({"yes": 0, "no": 10, "unknown": 0}, 0.0)


def test_a_running_job_holds_its_price(cloud):
    """While jobs run their price stays reserved, so the budget is kept exactly."""
    urls = [f"http://a.example/{number}.jpg" for number in range(20)]
    with pytest.raises(CapReached) as caught:
        label(cloud, urls, budget=0.06)
    assert cloud.ledger.billed == 8
    assert caught.value.report.yuan == pytest.approx(0.06)


@pytest.mark.parametrize("cloud", [{"job_seconds": 2.5}], indirect=True)
def test_an_unfinished_job_counts_as_possibly_billed_and_is_polled_later(cloud, tmp_path):
    """The first run gives up waiting; the next one asks for the job again and buys nothing."""
    provider = {"endpoint": cloud.url, "image_hosts": "any", "poll_every": 0.01, "job_timeout": 1.0}
    frame = pd.DataFrame({"url": ["http://a.example/1.jpg"]})
    first = imgtag.label(
        frame,
        provider=imgtag.providers.get("viapi/TaggingAdImage", **provider),
        checkpoint=tmp_path / "store",
        progress=False,
    )
    assert first["error_code"].tolist() == ["JobUnfinished"]
    assert first.attrs["imgtag"]["billed"] == {"yes": 0, "no": 0, "unknown": 1}
    second = imgtag.label(
        frame,
        provider=imgtag.providers.get("viapi/TaggingAdImage", **(provider | {"job_timeout": 60.0})),
        checkpoint=tmp_path / "store",
        progress=False,
    )
    assert set(second["status"]) <= {"ok", "empty"}
    assert cloud.ledger.billed == 1


def test_unknown_fields_and_items_of_a_result_are_passed_over():
    """What a vendor adds later breaks no paid answer."""
    info = {"version": 2, "humanInfo": [], "sceneInfo": [{"newField": 1}, "text", {"category": "indoor", "score": 0.5}]}
    value = json.dumps({"tagInfo": info})
    (tag,) = read_job_result(json.dumps({"tags": [{"confidence": -1, "value": value, "more": []}, 7]}))
    assert (tag.name, tag.kind, tag.confidence) == ("indoor", "ad-scene", 0.5)
    assert read_job_result(json.dumps({"tags": [{"value": json.dumps({"tagInfo": {"x": [{"y": 1}]}})}]})) == ()
