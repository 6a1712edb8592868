"""What an observer and a log say of a run, with the emulator's ledger as witness."""

import asyncio
import contextlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter

import pandas as pd
import pyarrow.parquet as pq
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.emulator.options import Account
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


def counted(seen, name):
    """Calls by code, as the events of a kind tell them."""
    return sum((Counter({event.code: event.count}) for event in named(seen, name)), Counter())


@pytest.mark.emulator(is_synthetic=True, faults=("throttle#3", "reset#5"))
def test_what_went_wrong_is_told(emulator, tmp_path):
    """Every throttled and every retried call, by code; the run's begin and end; answers that were sealed."""
    seen = seen_of(emulator, 300, checkpoint=str(tmp_path / "tags"))
    ledger, report = emulator.ledger, seen[-1].report
    assert (seen[0].event, seen[-1].event) == ("run_start", "run_end")
    (code,) = counted(seen, "throttled")
    assert counted(seen, "throttled") == {code: 3}
    assert ledger.by_code[code] == 3
    assert counted(seen, "retry").total() == 5
    assert report.retries == 8
    assert (report.calls, ledger.by_code["ok"], ledger.billed) == (308, 300, 300)
    assert sum(event.rows for event in named(seen, "sealed")) == 300
    last = named(seen, "progress")[-1]
    assert (last.done, last.images, last.images_expected) == (300, 300, 300)
    assert (last.calls, last.throttled, last.retries) == (308, 3, 8)
    assert {event.run for event in seen} == {report.run}


@pytest.mark.emulator(is_synthetic=True, faults=("throttle#2",))
def test_a_lower_pace_is_told(emulator):
    """Each change begins where the one before ended; the first lowers what the caller said."""
    paces = named(seen_of(emulator, 150, qps=100), "pace")
    assert paces[0].before == 100.0
    assert paces[0].now < 100.0
    assert all(earlier.now == later.before for earlier, later in itertools.pairwise(paces))


ENTRANCES = {
    "label": lambda path, words: imgtag.label(pd.read_parquet(path), **words),
    "alabel": lambda path, words: asyncio.run(imgtag.alabel(pd.read_parquet(path), **words)),
    "enrich": lambda path, words: imgtag.enrich(str(path), str(path.with_name("out.parquet")), **words),
    "reader": lambda path, words: imgtag.label(pq.ParquetFile(path).read().to_reader(), **words).read_all(),
}


@pytest.mark.parametrize("name", list(ENTRANCES))
@pytest.mark.emulator(is_synthetic=True)
def test_every_verb_takes_an_observer(emulator, tmp_path, name):
    """Files, tables, readers and callers with a loop of their own; the report is the one of the ledger."""
    path = tmp_path / "in.parquet"
    frame(10).to_parquet(path)
    seen = []
    provider = Viapi(action="TaggingImage", endpoint=emulator.url, image_hosts="any", credentials=KEYS)
    ENTRANCES[name](path, {"provider": provider, "qps": 400, "progress": False, "observer": seen.append})
    assert (seen[0].event, seen[-1].event) == ("run_start", "run_end")
    assert seen[-1].report.calls == emulator.ledger.calls == 10


@pytest.mark.emulator(is_synthetic=True, faults=("clock#1",))
def test_a_refusal_that_is_put_right_is_a_retry(emulator):
    """A clock that was off: every retry of the report has an event."""
    seen = seen_of(emulator, 5)
    assert counted(seen, "retry").total() == seen[-1].report.retries == 1
    assert seen[-1].report.ok == 5


@pytest.mark.emulator(is_synthetic=True, faults=("hang:2.5#1",))
def test_progress_is_told_before_the_first_answer(emulator):
    """A vendor that does not answer leaves the bar going."""
    seen = seen_of(emulator, 1)
    assert [event.calls for event in named(seen, "progress") if event.done == 0][-1:] == [1]
    assert seen[-1].report.calls == emulator.ledger.calls == 1


@pytest.mark.emulator(is_synthetic=True)
def test_a_cap_is_told(emulator, tmp_path):
    """With the reason; the share of the cap that is used rises to 1."""
    seen = seen_of(emulator, 100, max_calls=20, checkpoint=str(tmp_path / "tags"))
    assert len(named(seen, "cap")) == 1
    assert "max_calls" in named(seen, "cap")[0].reason
    assert named(seen, "progress")[-1].cap_used == 1.0
    assert seen[-1].report.exit_code == 4
    assert emulator.ledger.billed == 20


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


def run_cli(emulator, tmp_path, form, *, makes_input=True):
    if makes_input:
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


CANARY = "canary0123456789"
SIGNED = f"?OSSAccessKeyId=k{CANARY}&Expires=4102444800&Signature=s{CANARY}"


@pytest.mark.parametrize("form", ["json", "text", None])
@pytest.mark.emulator(
    is_synthetic=True,
    accounts=(Account(key_id="key", secret=CANARY),),
    faults=("throttle#2", "reset#2", "error:ServiceUnavailable#2", "error:InvalidImage.Download=0.2"),
)
def test_no_line_of_the_log_shows_a_secret(emulator, tmp_path, form):
    """Neither the account's key nor the signatures of the images, in a run in which much goes wrong."""
    urls = [f"https://img.example.com/{n}.jpg{SIGNED}{n}" for n in range(50)]
    pd.DataFrame({"url": urls}).to_parquet(tmp_path / "in.parquet")
    written = run_cli(emulator, tmp_path, form, makes_input=False)
    assert CANARY not in written.stderr
    assert CANARY not in written.stdout
    assert emulator.ledger.by_code["ok"] > 0
    if form is not None:
        assert all(word in written.stderr for word in ("run_start", "throttled", "retry", "run_end"))


@pytest.mark.emulator(is_synthetic=True, accounts=(Account(key_id="key", secret=CANARY),), faults=("throttle=0.3",))
def test_no_event_shows_a_secret(emulator):
    """The report at the end included."""
    provider = Viapi(action="TaggingImage", endpoint=emulator.url, image_hosts="any", credentials=Keys("key", CANARY))
    seen = []
    table = pd.DataFrame({"url": [f"https://img.example.com/{n}.jpg{SIGNED}{n}" for n in range(50)]})
    imgtag.label(table, provider=provider, qps=400, progress=False, observer=seen.append)
    assert seen[-1].report.ok == 50
    for event in seen:
        assert CANARY not in repr(event)
        assert CANARY not in json.dumps(event.to_dict(), default=str)
    assert CANARY not in json.dumps(seen[-1].report.to_dict(), default=str)
