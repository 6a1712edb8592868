"""The report of a run: what is counted, and how it reads for a person and for a program."""

import json
import pickle

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.model import Outcome
from imgtag_pipeline.run.report import RunReport, Spent, Tally

FACTS = {
    "run": "20260101T000000-abcdef",
    "provider": "viapi/TaggingImage",
    "started": "2026-01-01T00:00:00+00:00",
    "elapsed": 12.34,
    "rows": 1200,
    "images": 1000,
    "known": 400,
    "ok": 900,
    "empty": 50,
    "failed": {"NotFound": 30, "HTTP404": 20},
    "skipped": 5,
    "unanswered": 0,
    "calls": 620,
    "billed": {"yes": 600, "no": 15, "unknown": 5},
    "yuan": 1.5125,
    "retries": 20,
    "throttled_seconds": 0.0,
    "quota_used_percent": 97.5,
    "possibly_billed": ["https://example.com/a.jpg"],
    "possibly_billed_count": 1,
    "recovered": {"bytes_dropped": 0},
    "checkpoint": "tags",
    "stopped": None,
    "exit_code": 0,
}


def report(**facts):
    return RunReport(**{**FACTS, **facts})


def test_a_report_is_plain_json_data():
    """It goes into `attrs`, Parquet metadata and other processes as it is; failures are in the order of their codes."""
    told = report().to_dict()
    assert json.loads(json.dumps(told)) == told
    assert list(told["failed"]) == ["HTTP404", "NotFound"]
    assert pickle.loads(pickle.dumps(report())) == report()


def test_a_report_reads_well():
    """Rows, images, answers, failures by code, calls, money and time; nothing that is not worth saying."""
    text = str(report())
    for words in ("1,200 (1,000 distinct images", "400 (asked before", "900 with tags, 50 without, 50 failed"):
        assert words in text
    assert "HTTP404" in text
    assert "620 (20 retries); billed: 600 yes, 15 no, 5 unknown; 1.5125 yuan" in text
    assert "98 % of the quota" in text
    assert "possibly billed" in text
    for word in ("not asked", "stopped", "throttled", "journal"):
        assert word not in text


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"yuan": None}, "unknown price"),
        ({"unanswered": 7}, "not asked         7"),
        ({"calls": 0}, "calls             none"),
        ({"calls": 3, "retries": 1}, "3 (1 retry); billed"),
        ({"calls": 3, "retries": 0}, "3; billed"),
        ({"rows": 1, "images": 1, "skipped": 0}, "1 (1 distinct image)"),
        ({"skipped": 1}, "(1,000 distinct images, 1 row without one)"),
        ({"possibly_billed_count": 1}, "1 image sent without an answer"),
        ({"failed": {"A": 2, "InvalidImage.Content": 30}}, "\n                  30 InvalidImage.Content\n"),
        ({"failed": {"A": 2, "InvalidImage.Content": 30}}, "\n                   2 A\n"),
        ({"stopped": "Interrupted: interrupted"}, "tags: a re-run continues from here"),
        ({"stopped": "Interrupted: interrupted", "checkpoint": None}, "none, so a re-run asks, and pays, from"),
        ({"throttled_seconds": 3.21}, "3.2 s throttled"),
        ({"recovered": {"bytes_dropped": 128}}, "128 damaged bytes"),
        ({"stopped": "CapReached: max_calls=3 is used up"}, "max_calls=3"),
        ({"billed": {"yes": 0, "no": 0, "unknown": 0}}, "billed: none"),
    ],
)
def test_a_report_says_what_is_special(facts, says):
    """An unknown price is said as unknown, a stop with its reason, damage with its size."""
    assert says in str(report(**facts))


def test_failed_images_are_counted_over_all_codes():
    """The number that `--max-failed` is compared with."""
    assert report().failed_images == 50


@pytest.mark.parametrize(
    ("bills", "billed", "attempts", "cost"),
    [
        ([], "no", 0, 0),
        ([("no", 0)], "no", 0, 0),
        ([("no", 0), ("yes", 2500)], "yes", 1, 2500),
        ([("unknown", 2500), ("no", 0)], "unknown", 1, 2500),
        ([("unknown", 2500), ("yes", 2500)], "yes", 2, 5000),
        ([("yes", 2500), ("unknown", None)], "yes", 2, None),
        ([("yes", None), ("yes", 2500)], "yes", 2, None),
    ],
)
def test_what_an_image_has_cost(bills, billed, attempts, cost):
    """The worst kind of billing counts; a call that may be billed is a paid attempt; an unknown price stays unknown."""
    spent = Spent()
    tally = Tally()
    for one in bills:
        spent.pay(*one)
        tally.paid(*one)
    assert (spent.billed, spent.paid_attempts, spent.cost_micro_yuan) == (billed, attempts, cost)
    assert tally.cost_micro_yuan == cost
    assert sum(tally.billed.values()) == len(bills)


def test_known_and_fresh_answers_are_counted_together():
    """`ok`, `empty` and `failed` count images wherever the answer came from; `known` says how many cost nothing."""
    tally = Tally()
    tally.known_status("ok")
    tally.known_status("failed", "NotFound")
    tally.outcome(Outcome("a", "a", "empty"))
    tally.outcome(Outcome("b", "b", "failed", error_code="NotFound"))
    tally.outcome(Outcome("c", "c", "failed"))
    assert (tally.ok, tally.empty, tally.known, tally.done) == (1, 1, 2, 5)
    assert tally.failed == {"NotFound": 2, "Unknown": 1}


def test_a_report_and_a_plan_can_be_read_in_a_notebook(tmp_path):
    """One short line as `repr`, a table as HTML, in which nothing of the caller's is markup."""
    frame = pd.DataFrame({"url": [f"{tmp_path}/<b>none</b>.png"]})
    plan = imgtag.plan(frame)
    assert repr(plan) == "<Plan local: 1 images, 1 impossible, 0 to compute here, no calls, 0.0000 yuan, 0 seconds>"
    assert "&lt;b&gt;none" in plan._repr_html_()
    assert "<b>" not in plan._repr_html_()
    pd.DataFrame({"url": [f"{tmp_path}/none.png"]}).to_csv(tmp_path / "in.csv")
    report = imgtag.enrich(tmp_path / "in.csv", tmp_path / "out.parquet", progress=False)
    assert repr(report) == "<RunReport local: 1 images, 0 ok, 0 empty, 1 failed>"
    assert report._repr_html_().startswith("<table>")


def test_a_traceback_in_a_notebook_ends_at_the_callers_line():
    """Our own lines are left out; the sentence stands last."""
    with pytest.raises(imgtag.ConfigError) as caught:
        imgtag.label(7)
    shown = caught.value._render_traceback_()
    assert "imgtag.label(7)" in shown[-2]
    assert shown[-1].startswith("ConfigError: a int is not a table")
