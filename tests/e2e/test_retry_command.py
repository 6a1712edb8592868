"""`imgtag retry`: asks once more about the images that failed for good, and about no other."""

import json
import os
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from imgtag_pipeline.checkpoint.store import open_store, outcomes
from imgtag_pipeline.cli import app
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.model import Outcome
from imgtag_pipeline.testing import environment, running_emulator

ROWS = 6
BROKEN = ("4.png", "5.png")


@pytest.fixture
def pictures(tmp_path, picture):
    """A folder with the pictures of the table, two of which are none until they are mended."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place in range(ROWS):
        (folder / f"{place}.png").write_bytes(picture(60 + place, 50, "PNG"))
    for name in BROKEN:
        (folder / name).write_bytes(b"no picture")
    return folder


@pytest.fixture
def cloud(pictures):
    """A cloud without a quota that serves the pictures."""
    with running_emulator(images=pictures) as running:
        yield running


@pytest.fixture
def run(tmp_path, monkeypatch, cloud):
    """`run("retry")`: a command on the table, with its report; its calls by picture are those at the cloud."""
    for name in list(os.environ):
        if name.startswith(("ALIBABA_CLOUD", "OSS_", "TENCENT_", "IMGTAG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    urls = [f"{cloud.url}/_emulator/images/{place}.png" for place in range(ROWS)]
    pd.DataFrame({"url": urls}).to_parquet("in.parquet", index=False)

    def run(command):
        words = [command, "in.parquet", "--out", "out.parquet", "--overwrite", "--checkpoint", "tags", "--json"]
        words += ["--provider", "viapi/TaggingImage", "--endpoint", cloud.url, "--qps", "5000"]
        before = cloud.ledger.calls_by_image.copy()
        done = CliRunner().invoke(app, words, env=environment(cloud), catch_exceptions=False)
        asked = {name_of(url): calls for url, calls in (cloud.ledger.calls_by_image - before).items()}
        return done.exit_code, json.loads(done.stdout), asked

    return run


def name_of(url):
    return url.rpartition("/")[2]


def statuses():
    """The status of each picture in the table that was written."""
    table = pd.read_parquet("out.parquet")
    return {name_of(url): status for url, status in zip(table["url"], table["status"], strict=True)}


def history(name):
    """Status, code and attempts of every outcome that the store has kept of a picture, oldest first; and when."""
    rows = pa.concat_tables(rows for _, rows in outcomes("tags")).to_pylist()
    own = sorted((row for row in rows if name_of(row["key"]) == name), key=lambda row: row["at"])
    return [(row["status"], row["error_code"], row["attempts"]) for row in own], [row["at"] for row in own]


def shown():
    """What `imgtag status` says to a person, and as JSON."""
    told = CliRunner().invoke(app, ["status", "tags"]).stdout
    return told, json.loads(CliRunner().invoke(app, ["status", "tags", "--json"]).stdout)[0]


def test_retry_asks_about_the_failed_images_alone(run, pictures, picture):
    """The failed are asked again, the answered cost nothing; a success takes the failure's place in the table."""
    code, first, asked = run("label")
    assert (code, first["ok"], sum(first["failed"].values())) == (1, 4, 2)
    assert set(asked) == {f"{place}.png" for place in range(ROWS)}
    assert run("label")[2] == {}
    (pictures / BROKEN[0]).write_bytes(picture(80, 50, "PNG"))
    code, report, asked = run("retry")
    assert set(asked) == set(BROKEN)
    assert (code, report["known"], report["ok"], sum(report["failed"].values())) == (1, 4, 5, 1)
    assert statuses() == {f"{place}.png": "failed" if f"{place}.png" == BROKEN[1] else "ok" for place in range(ROWS)}
    (pictures / BROKEN[1]).write_bytes(picture(81, 50, "PNG"))
    code, report, asked = run("retry")
    assert (code, list(asked), report["ok"]) == (0, [BROKEN[1]], 6)
    assert run("retry")[2] == {}
    assert set(statuses().values()) == {"ok"}


def test_the_history_of_an_image_is_kept(run, pictures, picture):
    """Each try's outcome with its code, number and time; `imgtag status` tells how many failed, of what, how often."""
    began = datetime.now(UTC)
    _, first, _ = run("label")
    (failure,) = first["failed"]
    (pictures / BROKEN[0]).write_bytes(picture(80, 50, "PNG"))
    run("retry")
    tries, times = history(BROKEN[0])
    assert tries == [("failed", failure, 1), ("ok", None, 2)]
    assert began < times[0] < times[1] < datetime.now(UTC)
    assert history(BROKEN[1])[0] == [("failed", failure, 1), ("failed", failure, 2)]
    assert history("0.png")[0] == [("ok", None, 1)]
    told, facts = shown()
    assert (facts["failed"], facts["failed_attempts"]) == ({failure: 1}, {"2": 1})
    assert f"failed  1 {failure}\n" in told
    assert "the failed ones: 1 in 2 runs" in told
    (pictures / BROKEN[1]).write_bytes(picture(81, 50, "PNG"))
    run("retry")
    assert "tried" not in shown()[0]


async def test_a_later_failure_does_not_hide_a_success(run, cloud):
    """Another process's failure that comes after a success: the table shows the success, and nothing is asked."""
    run("label")
    identity, rows = next(iter(outcomes("tags")))
    key = next(key for key in rows.column("key").to_pylist() if name_of(key) == "0.png")
    store = open_store("tags", identity=identity, run_id="other", clock=SystemClock())
    await store.save([Outcome(key, key, "failed", error_code="Late", error="came too late")])
    await store.close()
    assert history("0.png")[0] == [("ok", None, 1), ("failed", "Late", 2)]
    assert run("label")[2] == {}
    assert statuses()["0.png"] == "ok"
    assert set(run("retry")[2]) == set(BROKEN)
    assert statuses()["0.png"] == "ok"
