"""Files in, files out, through the signed cloud: what a run costs, what a second one costs, what it leaves."""

import json
import random
from itertools import count

import fsspec
import pandas as pd
import pyarrow.parquet as pq
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.providers.toolkit.credentials import AlibabaChain
from imgtag_pipeline.testing import running_emulator

PICTURES = 30
STORES = count()


@pytest.fixture
def cloud(tmp_path, picture):
    """A cloud without a quota that serves forty pictures."""
    names = tmp_path / "pictures"
    names.mkdir()
    for place in range(PICTURES + 10):
        (names / f"{place}.png").write_bytes(picture(60 + place, 50, "PNG"))
    with running_emulator(images=names) as running:
        yield running


@pytest.fixture(params=["folder", "memory"])
def store(request, tmp_path):
    """A place for tags: on this disk, or behind a URL."""
    return str(tmp_path / "tags") if request.param == "folder" else f"memory://enrich{next(STORES)}/tags"


def tagging(cloud, **words):
    words = {"credentials": Keys("emulator", "emulator"), "qps": 10_000, **words}
    return Viapi(action="TaggingImage", endpoint=cloud.url, **words)


def urls(cloud, places=range(PICTURES)):
    return [f"{cloud.url}/_emulator/images/{place}.png" for place in places]


def calls(cloud):
    return cloud.ledger.billed


def test_a_finished_run_repeated_costs_nothing(cloud, store):
    """The second run makes no call and gives the same table; the cloud's own ledger says so."""
    frame = pd.DataFrame({"url": urls(cloud)})
    first = frame.imgtag.label(provider=tagging(cloud), checkpoint=store)
    assert calls(cloud) == PICTURES
    assert first.attrs["imgtag"]["billed"] == {"yes": PICTURES, "no": 0, "unknown": 0}
    again = frame.imgtag.label(provider=tagging(cloud), checkpoint=store)
    assert calls(cloud) == PICTURES
    assert (again.attrs["imgtag"]["calls"], again.attrs["imgtag"]["known"]) == (0, PICTURES)
    pd.testing.assert_frame_equal(again, first)


def test_ten_appended_rows_cost_ten(cloud, store):
    """Only what is new is asked."""
    pd.DataFrame({"url": urls(cloud)}).imgtag.label(provider=tagging(cloud), checkpoint=store)
    longer = pd.DataFrame({"url": urls(cloud, range(PICTURES + 10))})
    report = longer.imgtag.label(provider=tagging(cloud), checkpoint=store).attrs["imgtag"]
    assert (report["calls"], report["known"], calls(cloud)) == (10, PICTURES, PICTURES + 10)


def test_shuffled_duplicated_and_resigned_rows_cost_nothing(cloud, store):
    """An image is its URL without the signature, wherever it stands and however often."""
    plain = urls(cloud)
    first = pd.DataFrame({"url": plain}).imgtag.label(provider=tagging(cloud), checkpoint=store)
    signed = [
        f"{url}?Expires={1_800_000_000 + place}&OSSAccessKeyId=canary&Signature=canary{place:021d}%3D"
        for place, url in enumerate(plain)
    ] + [f"{url}?x-oss-date=20260101T000000Z&x-oss-credential=canary&x-oss-signature={'0c' * 32}" for url in plain]
    random.Random(0).shuffle(signed)
    table = pd.DataFrame({"url": signed}).imgtag.label(provider=tagging(cloud), checkpoint=store)
    assert calls(cloud) == PICTURES
    assert table.attrs["imgtag"]["calls"] == 0
    assert set(table["url"]) == set(plain)
    assert set(table["tag"].dropna()) == set(first["tag"].dropna())
    assert "canary" not in table.to_csv() + json.dumps(table.attrs)


def test_the_price_is_told_before_and_after(cloud, store):
    """The plan's calls and yuan are those of the run, and the plan after it has nothing to ask."""
    frame = pd.DataFrame({"url": [*urls(cloud), *urls(cloud), None, "ftp://h/a.jpg"]})
    words = {"provider": tagging(cloud), "checkpoint": store}
    plan = frame.imgtag.plan(**words)
    assert calls(cloud) == 0
    assert (plan.rows, plan.images, plan.payable, plan.calls) == (62, 31, PICTURES, PICTURES)
    assert (plan.impossible, plan.skipped) == (1, 1)
    report = frame.imgtag.label(**words).attrs["imgtag"]
    assert report["yuan"] == pytest.approx(plan.yuan) == pytest.approx(PICTURES * 0.0025)
    after = frame.imgtag.plan(**words)
    assert (after.payable, after.yuan) == (0, 0)


def test_a_plan_needs_no_keys_and_makes_no_store(tmp_path):
    """Neither a vendor's chain nor the network is asked, and no folder is made."""

    class Client:
        def get_credential(self):
            raise AssertionError("the chain was asked")

    provider = Viapi(action="TaggingImage", credentials=AlibabaChain(client=Client()))
    frame = pd.DataFrame({"url": ["https://example.com/a.jpg"]})
    plan = frame.imgtag.plan(provider=provider, checkpoint=tmp_path / "tags")
    assert (plan.calls, plan.qps) == (1, 2.0)
    assert not (tmp_path / "tags").exists()


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_files_of_every_format(suffix, cloud, tmp_path):
    """A file in, a file out; the suffix says the format."""
    frame = pd.DataFrame({"sku": range(PICTURES), "url": urls(cloud)})
    source, out = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    write = {"parquet": frame.to_parquet, "csv": frame.to_csv, "jsonl": frame.to_json}[suffix]
    write(source, **{"jsonl": {"orient": "records", "lines": True}}.get(suffix, {"index": False}))
    report = imgtag.enrich(str(source), str(out), col="url", provider=tagging(cloud), shape="nested")
    assert (report.rows, report.ok) == (PICTURES, PICTURES)
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True)}
    table = read[suffix](out)
    assert list(table["sku"]) == list(range(PICTURES))
    assert set(table["status"]) == {"ok"}


def test_a_glob_of_parquet_into_a_folder(cloud, tmp_path):
    """Many files in, a dataset out; the rows are all there, in the order of the files' names."""
    for place in range(3):
        frame = pd.DataFrame({"url": urls(cloud, range(place * 10, place * 10 + 10)), "file": place})
        frame.to_parquet(tmp_path / f"part{place}.parquet", index=False)
    report = imgtag.enrich(str(tmp_path / "part*.parquet"), f"{tmp_path}/out/", shape="nested", provider=tagging(cloud))
    table = pd.read_parquet(tmp_path / "out")
    assert report.rows == len(table) == PICTURES
    assert list(table["url"]) == urls(cloud)
    assert not list(tmp_path.glob("out*tmp*"))


def test_files_behind_a_url(cloud):
    """IN, OUT and the store may all be any fsspec URL."""
    place = f"memory://enrich{next(STORES)}"
    pd.DataFrame({"url": urls(cloud)}).to_parquet(f"{place}/in.parquet")
    report = imgtag.enrich(f"{place}/in.parquet", f"{place}/out.parquet", provider=tagging(cloud))
    assert report.ok == PICTURES
    with fsspec.open(f"{place}/out.parquet") as file:
        assert set(pd.read_parquet(file)["status"]) == {"ok"}


def test_the_report_is_in_the_parquet_metadata(cloud, tmp_path):
    """Whoever finds the file knows how it came about."""
    pd.DataFrame({"url": urls(cloud)}).to_parquet(tmp_path / "in.parquet")
    report = imgtag.enrich(tmp_path / "in.parquet", tmp_path / "out.parquet", provider=tagging(cloud))
    told = json.loads(pq.read_metadata(tmp_path / "out.parquet").metadata[b"imgtag"])
    assert told == json.loads(json.dumps(report.to_dict()))
    assert told["billed"]["yes"] == PICTURES


def test_only_the_first_rows(cloud, tmp_path):
    """`limit` reads and asks no more than so many rows."""
    pd.DataFrame({"url": urls(cloud)}).to_parquet(tmp_path / "in.parquet")
    words = {"provider": tagging(cloud), "limit": 7}
    report = imgtag.enrich(str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), **words)
    assert (report.rows, calls(cloud)) == (7, 7)


def test_an_existing_output_is_not_touched(cloud, tmp_path):
    """It is refused before the first call; with `overwrite` it is replaced as a whole."""
    pd.DataFrame({"url": urls(cloud)}).to_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    out.write_bytes(b"precious")
    with pytest.raises(imgtag.ConfigError, match="exists"):
        imgtag.enrich(str(tmp_path / "in.parquet"), str(out), provider=tagging(cloud))
    assert (out.read_bytes(), calls(cloud)) == (b"precious", 0)
    imgtag.enrich(str(tmp_path / "in.parquet"), str(out), provider=tagging(cloud), overwrite=True)
    assert len(pd.read_parquet(out)) >= PICTURES


def test_a_wrong_key_stops_the_run_and_writes_nothing(cloud, tmp_path):
    """A clear error after a handful of calls, with the report; no output, and what was there stays."""
    pd.DataFrame({"url": urls(cloud)}).to_parquet(tmp_path / "in.parquet")
    provider = tagging(cloud, credentials=Keys("emulator", "canary-wrong"))
    with pytest.raises(imgtag.FatalError) as caught:
        imgtag.enrich(str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), provider=provider, concurrency=3)
    assert caught.value.report.calls <= 3
    assert caught.value.report.unanswered > 0
    assert "canary" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if path.name != "pictures"] == ["in.parquet"]


def test_a_cap_keeps_what_was_paid_and_the_next_run_goes_on(cloud, store):
    """`max_calls` is never exceeded; the error carries report and table, and a re-run asks the rest only."""
    frame = pd.DataFrame({"url": urls(cloud)})
    with pytest.raises(imgtag.CapReached) as caught:
        frame.imgtag.label(provider=tagging(cloud), checkpoint=store, max_calls=12, concurrency=1)
    assert calls(cloud) == caught.value.report.calls == 12
    status = caught.value.partial.groupby(level=0)["status"].first()
    assert status.value_counts().to_dict() == {"ok": 12, "skipped": 18}
    report = frame.imgtag.label(provider=tagging(cloud), checkpoint=store).attrs["imgtag"]
    assert (report["calls"], calls(cloud)) == (18, PICTURES)


def test_the_report_of_a_stopped_run_counts_all_that_was_read(cloud, store, tmp_path):
    """Rows, images, known and not asked add up, although nothing was written."""
    frame = pd.DataFrame({"url": [*urls(cloud), None]})
    frame.iloc[20:25].imgtag.label(provider=tagging(cloud), checkpoint=store)
    frame.to_parquet(tmp_path / "in.parquet")
    with pytest.raises(imgtag.CapReached) as caught:
        imgtag.enrich(
            tmp_path / "in.parquet", tmp_path / "out.parquet", provider=tagging(cloud), checkpoint=store, max_calls=7
        )
    report = caught.value.report
    assert (report.rows, report.images, report.skipped) == (PICTURES + 1, PICTURES, 1)
    assert (report.known, report.ok, report.calls, report.unanswered) == (5, 12, 7, PICTURES - 12)
    assert not (tmp_path / "out.parquet").exists()


def test_a_budget_is_never_exceeded(cloud, store):
    """Ten calls fit into 0.0251 yuan at 0.0025 a call."""
    with pytest.raises(imgtag.CapReached) as caught:
        pd.DataFrame({"url": urls(cloud)}).imgtag.label(
            provider=tagging(cloud), checkpoint=store, budget=0.0251, concurrency=1
        )
    assert calls(cloud) == 10
    assert caught.value.report.yuan == pytest.approx(0.025)


def test_a_failed_image_is_asked_again_only_on_request(cloud, store):
    """An image that the vendor cannot read costs one call, once; `retry_failed` asks about these alone."""
    (cloud.options.images / "0.png").write_bytes(b"<html>no picture</html>")
    frame = pd.DataFrame({"url": urls(cloud)})
    words = {"provider": tagging(cloud), "checkpoint": store}
    first = frame.imgtag.label(**words).attrs["imgtag"]
    assert sum(first["failed"].values()) == 1
    asked = cloud.ledger.calls
    assert frame.imgtag.label(**words).attrs["imgtag"]["calls"] == 0
    assert cloud.ledger.calls == asked
    again = frame.imgtag.label(**words, retry_failed=True).attrs["imgtag"]
    assert (again["known"], cloud.ledger.calls) == (PICTURES - 1, asked + first["calls"] - (PICTURES - 1))


@pytest.mark.parametrize("cap", [{"max_calls": 12}, {"budget": 0.0301}])
def test_all_workers_together_keep_a_cap(cap, cloud):
    """Twelve calls, no more and no less, however many workers send at once."""
    with pytest.raises(imgtag.CapReached) as caught:
        pd.DataFrame({"url": urls(cloud)}).imgtag.label(provider=tagging(cloud), concurrency=16, **cap)
    assert calls(cloud) == caught.value.report.calls == 12
