"""What an observer and a log say of a run, with the emulator's ledger as witness."""

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.testing import environment

KEYS = Keys("emulator", "emulator")
SECRET = "canary-secret-0123456789"


def frame(count):
    return pd.DataFrame({"url": [f"https://img.example.com/{n}.jpg?token={SECRET}{n}" for n in range(count)]})


def seen_of(emulator, count, **words):
    seen = []
    provider = Viapi(action="TaggingImage", endpoint=emulator.url, image_hosts="any", credentials=KEYS)
    words = {"provider": provider, "qps": 400, "progress": False, "observer": seen.append, **words}
    with contextlib.suppress(imgtag.ImgtagError):
        imgtag.label(frame(count), **words)
    return seen


def named(seen, name):
    return [event for event in seen if event.event == name]


@pytest.mark.emulator(is_synthetic=True, faults=("throttle=0.1", "reset=0.1"))
def test_what_went_wrong_is_told(emulator, tmp_path):
    """Every throttled and every retried call, by code; the run's begin and end; answers that were sealed."""
    seen = seen_of(emulator, 300, checkpoint=str(tmp_path / "tags"))
    assert (seen[0].event, seen[-1].event) == ("run_start", "run_end")
    report = seen[-1].report
    assert sum(event.count for event in named(seen, "throttled")) > 0
    retried = sum(event.count for event in [*named(seen, "throttled"), *named(seen, "retry")])
    assert retried == report.retries
    assert report.calls == emulator.ledger.calls or report.calls > 300
    assert sum(event.rows for event in named(seen, "sealed")) == 300
    last = named(seen, "progress")[-1]
    assert (last.done, last.images, last.images_expected) == (300, 300, 300)
    assert {event.run for event in seen} == {report.run}


@pytest.mark.emulator(is_synthetic=True)
def test_a_cap_is_told(emulator, tmp_path):
    """With the reason; the share of the cap that is used rises to 1."""
    seen = seen_of(emulator, 100, max_calls=20, checkpoint=str(tmp_path / "tags"))
    assert len(named(seen, "cap")) == 1
    assert "max_calls" in named(seen, "cap")[0].reason
    assert named(seen, "progress")[-1].cap_used == 1.0
    assert seen[-1].report.exit_code == 4


@pytest.mark.emulator(is_synthetic=True, faults=("error:InvalidAccessKeyId.NotFound",))
def test_a_fatal_answer_is_told(emulator):
    """With the vendor's code."""
    (fatal,) = named(seen_of(emulator, 20), "fatal")
    assert fatal.code.startswith("InvalidAccessKeyId")


@pytest.mark.emulator(is_synthetic=True, faults=("error:ServiceUnavailable",))
def test_a_breaker_is_told(emulator):
    """A vendor that is down."""
    policy = imgtag.RetryPolicy(deadline=0.5)
    seen = seen_of(emulator, 60, policy=policy)
    assert Counter(event.event for event in seen)["breaker"] == 1


@pytest.mark.emulator(is_synthetic=True, faults=("throttle=0.1",))
def test_no_secret_is_told(emulator):
    """Neither keys nor what stands in the images' URLs."""
    for event in seen_of(emulator, 100):
        assert SECRET not in repr(event)
        assert SECRET not in json.dumps(event.to_dict(), default=str)


@pytest.mark.emulator(is_synthetic=True)
def test_an_observer_that_raises_harms_nobody(emulator):
    """The table is whole."""

    def broken(event):
        raise RuntimeError

    provider = Viapi(action="TaggingImage", endpoint=emulator.url, image_hosts="any", credentials=KEYS)
    table = imgtag.label(frame(10), provider=provider, qps=400, progress=False, observer=broken, shape="nested")
    assert list(table["status"]) == ["ok"] * 10


def run_cli(emulator, tmp_path, form):
    frame(50).to_parquet(tmp_path / "in.parquet")
    command = [sys.executable, "-m", "imgtag_pipeline", "label", "in.parquet", "--out", "out.parquet", "--overwrite"]
    options = ["--provider", "viapi/TaggingImage", "--endpoint", emulator.url, "--qps", "400"]
    variables = {**os.environ, **environment(emulator), **({} if form is None else {"IMGTAG_LOG": form})}
    options += ["--option", "image_hosts=any"]
    return subprocess.run([*command, *options], cwd=tmp_path, env=variables, capture_output=True, text=True)


@pytest.mark.emulator(is_synthetic=True, faults=("throttle=0.2",))
def test_the_command_line_logs_as_the_environment_asks(emulator, tmp_path):
    """A line of JSON for each event, or of text; without the variable none in a short run."""
    lines = [json.loads(line) for line in run_cli(emulator, tmp_path, "json").stderr.splitlines() if line[0] == "{"]
    names = [line["event"] for line in lines]
    assert (names[0], names[-1]) == ("run_start", "run_end")
    assert "throttled" in names
    assert all({"time", "level", "event", "run"} <= line.keys() for line in lines if line["event"] in names)
    text = run_cli(emulator, tmp_path, "text").stderr
    assert "event=run_end" in text
    assert "event=throttled" in text
    silent = run_cli(emulator, tmp_path, None).stderr  # but for warnings, which are always seen
    assert [name for name in ("run_start", "progress", "throttled", "run_end") if f"event={name}" in silent] == []
    wrong = run_cli(emulator, tmp_path, "xml")
    assert (wrong.returncode, "allowed: json or text" in wrong.stderr) == (2, True)
