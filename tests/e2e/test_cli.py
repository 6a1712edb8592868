"""The command line as a shell sees it: exit codes, standard output for data, one sentence on standard error."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import imgtag_pipeline as imgtag
from imgtag_pipeline.cli import app
from imgtag_pipeline.cli.exit_codes import undisturbed
from imgtag_pipeline.testing import environment, running_emulator

PICTURES = 8


@pytest.fixture
def cloud(tmp_path, picture):
    """A cloud without a quota that serves eight pictures."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place in range(PICTURES):
        (folder / f"{place}.png").write_bytes(picture(60 + place, 50, "PNG"))
    with running_emulator(images=folder) as running:
        yield running


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to work in."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(work, monkeypatch):
    """`run("label", ...)`: a command with its output, without any keys in the environment unless `env` gives them."""
    for name in list(os.environ):
        if name.startswith(("ALIBABA_CLOUD", "OSS_", "TENCENT_", "IMGTAG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")  # nobody looks for keys outside of the test
    monkeypatch.setenv("HOME", str(work))

    def run(*words, env=None):
        return CliRunner().invoke(app, [str(word) for word in words], env=env, catch_exceptions=False)

    return run


@pytest.fixture
def table(cloud, work):
    """A Parquet file of the cloud's pictures."""
    urls = [f"{cloud.url}/_emulator/images/{place}.png" for place in range(PICTURES)]
    pd.DataFrame({"sku": range(PICTURES), "url": urls}).to_parquet(work / "in.parquet", index=False)
    return "in.parquet"


def signed(cloud, *more):
    return ["--provider", "viapi/TaggingImage", "--endpoint", cloud.url, "--qps", "5000", *more]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_that_is_done(run, cloud, table, work):
    """Exit code 0; the report for a person on standard output, and OUT is there."""
    words = ["label", table, "--out", "out.parquet", "--checkpoint", "tags", *signed(cloud)]
    done = run(*words, env=environment(cloud))
    assert done.exit_code == 0
    assert "8 with tags, 0 without, 0 failed" in done.stdout
    assert "out.parquet" in done.stdout
    assert done.stderr == ""
    assert len(pd.read_parquet("out.parquet")) >= PICTURES


def test_the_local_provider_is_the_default(run, table):
    """No account and no key: the pixels are looked at here."""
    done = run("label", table, "--out", "out.csv", "--quiet", "--allow-private")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert set(pd.read_csv("out.csv")["provider"]) == {"local"}


def test_the_folder_of_out_is_made(run, table, work):
    """A path that does not exist yet is made, as for any file of the scheduled jobs."""
    assert run("label", table, "--out", "new/folder/out.parquet", "--limit", "1", "--allow-private").exit_code == 0
    assert names(work / "new" / "folder") == ["out.parquet"]


def test_json_prints_the_report_and_nothing_else(run, cloud, table, work):
    """Standard output is one JSON document: that of the Parquet metadata."""
    done = run("label", table, "--out", "out.parquet", "--json", *signed(cloud), env=environment(cloud))
    report = json.loads(done.stdout)
    assert (report["ok"], report["calls"], report["exit_code"]) == (PICTURES, PICTURES, 0)
    assert json.loads(pq.read_metadata("out.parquet").metadata[b"imgtag"]) == report


def test_a_paid_run_without_a_store_is_told(run, cloud, table):
    """What it may lose is said before the first call, on standard error; not where nothing is paid, nor if quiet."""
    words = ["label", table, *signed(cloud), "--json", "--out"]
    told = run(*words, "a.parquet", env=environment(cloud))
    assert told.stderr == "imgtag: no --checkpoint, so if this run is stopped its answers are paid for again\n"
    for more in (["b.parquet", "--quiet"], ["c.parquet", "--price", "0"], ["d.parquet", "--checkpoint", "tags"]):
        assert run(*words, *more, env=environment(cloud)).stderr == ""
    assert run("label", table, "--out", "e.parquet", "--allow-private").stderr == ""


def test_the_same_command_again_makes_no_call(run, cloud, table):
    """With a store the second run costs nothing; OUT has to be given anew or overwritten."""
    words = ["label", table, "--checkpoint", "tags", *signed(cloud), "--json", "--out"]
    run(*words, "a.parquet", env=environment(cloud))
    again = json.loads(run(*words, "b.parquet", env=environment(cloud)).stdout)
    assert (again["calls"], again["known"], cloud.ledger.billed) == (0, PICTURES, PICTURES)
    assert pd.read_parquet("a.parquet").equals(pd.read_parquet("b.parquet"))


def test_failed_images_beyond_the_limit(run, table, work):
    """Exit code 1 with OUT written; `--max-failed` says how many are fine."""
    frame = pd.read_parquet(table)
    frame.loc[[0, 1], "url"] = ["missing.jpg", "gopher://h/a.jpg"]
    frame.to_parquet("bad.parquet")
    none = run("label", "bad.parquet", "--out", "a.parquet", "--allow-private")
    assert none.exit_code == 1
    assert none.stderr == "imgtag: 2 images failed, more than --max-failed 0; a.parquet is written\n"
    assert run("label", "bad.parquet", "--out", "b.parquet", "--max-failed", "1", "--allow-private").exit_code == 1
    assert run("label", "bad.parquet", "--out", "c.parquet", "--max-failed", "2", "--allow-private").exit_code == 0
    assert names(work) == ["a.parquet", "b.parquet", "bad.parquet", "c.parquet", "in.parquet"]


@pytest.mark.parametrize(("most", "code"), [("1", 1), ("2", 0)])
def test_the_exit_code_is_in_the_report(most, code, run, table):
    """`--json` and the metadata of OUT say what the shell is told, `--max-failed` included."""
    frame = pd.read_parquet(table)
    frame.loc[[0, 1], "url"] = ["missing.jpg", "gopher://h/a.jpg"]
    frame.to_parquet("bad.parquet")
    done = run("label", "bad.parquet", "--out", "out.parquet", "--max-failed", most, "--json", "--allow-private")
    report = json.loads(done.stdout)
    assert (done.exit_code, report["exit_code"]) == (code, code)
    assert json.loads(pq.read_metadata("out.parquet").metadata[b"imgtag"]) == report


MISTAKES = {
    "unknown provider": (["--provider", "viapi/TagingImage"], ["viapi/TagingImage", "did you mean", "known:"]),
    "unknown column": (["--col", "link"], ["'link'", "the columns are: sku, url"]),
    "unknown key": (["--key", "skv"], ["'skv'", "did you mean 'sku'"]),
    "unknown kept column": (["--keep", "shop"], ["'shop'", "the columns are"]),
    "wrong shape": (["--shape", "tall"], ["'tall'", "'long', 'wide', 'nested'"]),
    "wrong confidence": (["--min-confidence", "7"], ["min_confidence", "from 0 to 1"]),
    "wrong rate": (["--qps", "-1"], ["qps", "allowed"]),
    "wrong number": (["--top-k", "0"], ["top_k", "1 or more"]),
    "wrong option": (["--provider", "viapi/TaggingImage", "--option", "color_cout=5"], ["color_cout", "allowed:"]),
    "option without a value": (["--option", "color_count"], ["color_count", "name=value"]),
    "option out of range": (
        ["--provider", "viapi/RecognizeImageColor", "--option", "color_count=50"],
        ["color_count", "50", "10"],
    ),
    "vocabulary without wide": (["--vocabulary", "words.txt"], ["vocabulary", "wide"]),
    "missing vocabulary": (["--shape", "wide", "--vocabulary", "nowhere.txt"], ["nowhere.txt", "one tag a line"]),
    "budget without a price": (["--provider", "oss_labels", "--budget", "5"], ["price"]),
    "wrong endpoint": (["--provider", "viapi/TaggingImage", "--endpoint", "not a url"], ["endpoint"]),
    "missing keys": (
        ["--provider", "tencent_v2"],
        ["TENCENT_SECRET_ID", "TENCENT_SECRET_KEY", "no credentials"],
    ),
    "missing input": (["IN:nowhere.parquet"], ["nowhere.parquet"]),
    "empty glob": (["IN:nowhere/*.parquet"], ["nowhere/*.parquet"]),
    "unreadable input": (["IN:torn.parquet"], ["torn.parquet"]),
    "unknown format": (["IN:words.txt"], ["words.txt", "parquet", "csv"]),
    "unknown output format": (["OUT:out.xlsx"], ["out.xlsx", "parquet"]),
    "existing output": (["OUT:there.parquet"], ["there.parquet", "--overwrite"]),
    "negative limit": (["--limit", "-3"], ["limit", "-3"]),
    "negative number of failures": (["--max-failed", "-1"], ["max_failed", "-1"]),
    "checkpoint is a file": (["--checkpoint", "there.parquet"], ["there.parquet"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_callers_mistakes(mistake, run, table, work):
    """Exit code 2, one clear sentence on standard error, nothing on standard output, nothing written, no store."""
    (work / "torn.parquet").write_bytes((work / table).read_bytes()[:300])
    (work / "words.txt").write_text("cat\n")
    (work / "there.parquet").write_bytes(b"precious")
    words, says = MISTAKES[mistake]
    words, says = list(words), list(says)
    source = next((word[3:] for word in words if word.startswith("IN:")), table)
    out = next((word[4:] for word in words if word.startswith("OUT:")), "out.parquet")
    words = [word for word in words if not word.startswith(("IN:", "OUT:"))]
    store = [] if "--checkpoint" in words else ["--checkpoint", "tags"]
    before = names(work)
    done = run("label", source, "--out", out, *store, *words)
    assert done.exit_code == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("imgtag: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for part in says:
        assert part in done.stderr
    assert names(work) == before
    assert (work / "there.parquet").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "words", [["label"], ["label", "in.parquet"], ["lable"], ["label", "a", "--out", "b", "--foo"]]
)
def test_a_command_that_is_not_understood(words, run, work):
    """Exit code 2 and what would have been right, also for words that no command knows."""
    done = run(*words)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr
    assert names(work) == []


def test_a_wrong_key_is_fatal(run, cloud, table, work):
    """Exit code 3 after at most `--concurrency` calls; no output; the secret is not shown; a re-run continues."""
    wrong = {**environment(cloud), "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "canary-secret"}
    words = ["label", table, "--out", "out.parquet", "--checkpoint", "tags", *signed(cloud, "--concurrency", "3")]
    stopped = run(*words, env=wrong)
    assert stopped.exit_code == 3
    assert "imgtag: " in stopped.stderr
    assert "not asked" in stopped.stderr
    assert "canary" not in stopped.output
    assert cloud.ledger.calls <= 3
    assert not (work / "out.parquet").exists()
    assert run(*words, env=environment(cloud)).exit_code == 0


@pytest.mark.parametrize("cap", [["--max-calls", "3"], ["--budget", "0.0076"]])
def test_a_cap_stops_the_run(cap, run, cloud, table, work):
    """Exit code 4, three calls; the same command with more goes on where it stopped."""
    words = ["label", table, "--out", "out.parquet", "--checkpoint", "tags", *signed(cloud)]
    stopped = run(*words, *cap, env=environment(cloud))
    assert stopped.exit_code == 4
    assert "used up" in stopped.stderr
    assert "tags: a re-run continues" in stopped.stderr
    assert cloud.ledger.billed == 3
    assert not (work / "out.parquet").exists()
    assert run(*words, env=environment(cloud)).exit_code == 0
    assert cloud.ledger.billed == PICTURES


@pytest.mark.parametrize(
    ("words", "wrong", "code"),
    [(["--max-calls", "3"], {}, 4), ([], {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, 3)],
)
def test_a_stopped_run_tells_its_report_as_json(words, wrong, code, run, cloud, table):
    """A scheduler reads from standard output what was spent before the stop, with the exit code; people read why."""
    env = {**environment(cloud), **wrong}
    stopped = run(
        "label", table, "--out", "out.parquet", "--json", "--checkpoint", "s", *signed(cloud, *words), env=env
    )
    report = json.loads(stopped.stdout)
    assert (stopped.exit_code, report["exit_code"]) == (code, code)
    assert report["calls"] == cloud.ledger.calls
    assert stopped.stderr.startswith("imgtag: ")
    assert stopped.stderr.count("\n") == 1


def test_a_run_that_was_stopped_without_a_store_says_what_is_lost(run, cloud, table):
    """A re-run starts from the beginning, and nobody is told otherwise."""
    stopped = run("label", table, "--out", "out.parquet", *signed(cloud, "--max-calls", "3"), env=environment(cloud))
    assert stopped.exit_code == 4
    assert "none, so a re-run asks, and pays, from the beginning" in stopped.stderr
    assert "continues" not in stopped.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run(number, cloud, table, work):
    """Exit code 130, every answer that had arrived is kept, and the same command asks only the rest."""
    argv = [sys.executable, "-m", "imgtag_pipeline", "label", table, "--out", "out.parquet", "--checkpoint", "tags"]
    argv += [*signed(cloud)[:4], "--qps", "1"]
    env = {**os.environ, **environment(cloud)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        give_up = time.monotonic() + 20
        while cloud.ledger.billed < 2 and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "a re-run continues" in said
    assert not (work / "out.parquet").exists()
    kept = cloud.ledger.billed
    assert 2 <= kept < PICTURES
    again = subprocess.run([*argv[:-1], "5000"], env=env, capture_output=True, text=True, check=True)
    assert again.returncode == 0
    assert cloud.ledger.billed == PICTURES


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_behind_the_end_changes_nothing(number):
    """OUT is written: the report is told to its end and the exit code stays; after that signals count as before."""
    before = signal.getsignal(number)
    with undisturbed():
        os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.SIG_IGN
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_console_of_any_encoding_will_do(encoding, work):
    """What it cannot show is escaped, JSON stays JSON, and nothing ends in a traceback."""
    name = "相😀.csv"
    (work / name).write_text("url\n\n", encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    argv = [
        sys.executable,
        "-m",
        "imgtag_pipeline",
        "label",
        name,
        "--checkpoint",
        "相😀",
        "--overwrite",
        "--out",
        f"out-{name}",
    ]
    shown = subprocess.run(argv, env=env, capture_output=True, check=True)
    assert "Traceback" not in shown.stderr.decode(encoding)
    told = subprocess.run([*argv, "--json"], env=env, capture_output=True, check=True)
    assert json.loads(told.stdout.decode(encoding))["checkpoint"] == "相😀"


def test_plan_says_what_it_would_take(run, cloud, table, work):
    """For people and as JSON; no call, no key, no store."""
    words = ["plan", table, "--provider", "viapi/TaggingImage", "--endpoint", cloud.url, "--checkpoint", "tags"]
    told = json.loads(run(*words, "--json").stdout)
    assert (told["images"], told["payable"], told["calls"]) == (PICTURES, PICTURES, PICTURES)
    assert told["yuan"] == pytest.approx(PICTURES * 0.0025)
    assert told["seconds"] == pytest.approx(4)
    assert "0.0200 yuan" in run(*words).stdout
    assert (cloud.ledger.calls, names(work)) == (0, ["in.parquet"])


def test_providers_lists_all_addresses(run):
    """For people and as JSON, the seventeen built-in addresses with limits and prices; no key is needed."""
    rows = json.loads(run("providers", "--json").stdout)
    addresses = [row["address"] for row in rows]
    assert addresses == imgtag.providers.names()
    assert {"local", "oss_labels", "oss_tagimage", "tencent_v1", "tencent_v2", "viapi/TaggingImage"} <= set(addresses)
    assert all(row["price"] and row["image_as"] and row["qps"] for row in rows)
    shown = run("providers").stdout
    assert all(address in shown for address in addresses)


def test_status_says_what_a_store_holds(run, cloud, table):
    """One entry per identity, with what it is and how many answers it has."""
    run("label", table, "--out", "a.parquet", "--checkpoint", "tags", *signed(cloud), env=environment(cloud))
    run("label", table, "--out", "b.parquet", "--checkpoint", "tags", "--allow-private")
    rows = json.loads(run("status", "tags", "--json").stdout)
    told = json.dumps(rows)
    assert len(rows) == 2
    assert "viapi/TaggingImage" in told
    assert "local" in told
    assert [row["ok"] for row in rows] == [PICTURES, PICTURES]
    shown = run("status", "tags").stdout
    assert "viapi/TaggingImage" in shown
    assert run("compact", "tags").exit_code == 0


@pytest.mark.parametrize("command", ["status", "ledger", "compact", "retry"])
def test_a_store_that_is_not_there(command, run, work, table):
    """Exit code 2, one sentence, and no folder made; above all nothing is asked, and paid for, anew."""
    words = [table, "--out", "out.parquet", "--checkpoint"] if command == "retry" else []
    done = run(command, *words, "nowhere")
    assert done.exit_code == 2
    assert "nowhere" in done.stderr
    assert done.stderr.count("\n") == 1
    assert names(work) == ["in.parquet"]


def test_wide_with_a_vocabulary_file(run, table, work):
    """The file's tags are the columns, in its order, also as an editor of Windows saves it."""
    (work / "words.txt").write_text("landscape\r\nunheard of\r\n\r\n", encoding="utf-8-sig")
    words = ["--shape", "wide", "--vocabulary", "words.txt", "--limit", "2", "--allow-private"]
    done = run("label", table, "--out", "w.csv", *words)
    assert done.exit_code == 0
    wide = pd.read_csv("w.csv")
    assert list(wide.columns) == ["sku", "url", "tag_landscape", "tag_unheard of", "status", "error_code"]
    assert len(wide) == 2


def test_the_first_look(run):
    """No word, or `--help`: every command in one line that is not cut; `--version` says which package this is."""
    shown = run("--help").stdout
    assert "..." not in shown.partition("Commands:")[2]
    assert all(f"  {command} " in shown for command in ("label", "retry", "plan", "doctor", "emulate", "demo"))
    assert run().output == shown
    assert run("--version").stdout == f"imgtag_pipeline {metadata.version('imgtag_pipeline')}\n"


@pytest.mark.parametrize("command", ["label", "plan", "providers", "status", "compact", "emulate", "demo"])
def test_every_command_explains_itself(command, run):
    """`--help` says what each option means."""
    shown = run(command, "--help").stdout
    assert "Usage: " in shown
    assert "--help" in shown
