"""A plan counts what would be asked, in what batches, and at which prices."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.model import Price
from imgtag_pipeline.run.plan import Basis, make_plan

PRICE = Price(((100, 2500), (200, 2000), (None, 1700)))
NOW = datetime(2026, 1, 31, 23, 59, tzinfo=UTC)


def plan_of(urls, *, known=(), jobs=(), price=PRICE, qps=2.0, batch_size=1, before=0):
    rows = pa.record_batch({"url": pa.array(urls, pa.string())})
    return make_plan(
        iter([rows]),
        lambda batch: (batch.column("url"), None),
        lambda keys: ["ok" if key in known else None for key in keys],
        lambda keys: jobs,
        key_of=lambda url: url.partition("?")[0],
        precheck=lambda url: PermanentError("no", code="No") if url.endswith(".svg") else None,
        basis=Basis("x/y", price, "words", qps, batch_size, before, NOW),
    )


def test_each_image_is_counted_once_by_what_becomes_of_it():
    """Duplicates also under another signature, blanks, known ones, impossible ones."""
    plan = plan_of(["a", "a?Signature=1", None, " ", "b", "c.svg", "c.svg", "d"], known={"b"})
    assert (plan.rows, plan.images, plan.skipped) == (8, 4, 2)
    assert (plan.known, plan.impossible, plan.payable, plan.calls) == (1, 1, 2, 2)


def test_a_job_that_the_vendor_has_already_is_not_paid_again():
    """Its result is fetched; one that is answered meanwhile is known."""
    plan = plan_of(["a", "b", "c"], known={"b"}, jobs={"a", "b"})
    assert (plan.known, plan.unfinished, plan.payable, plan.calls) == (1, 1, 1, 1)
    assert "jobs at the vendor" in str(plan)


def test_the_finish_time_follows_from_the_quota():
    """240 calls at 2 a second."""
    plan = plan_of([f"u{number}" for number in range(240)])
    assert (plan.seconds, plan.finish) == (120.0, "2026-02-01T00:01:00+00:00")
    assert "2.0 minutes at 2 calls a second" in str(plan)


def test_money_is_told_tier_by_tier_after_what_the_month_has_had():
    """90 calls before, 150 more: 10 in the first tier, 100 in the second, 40 in the last."""
    plan = plan_of([f"u{number}" for number in range(150)], before=90)
    assert plan.tiers == ((10, 0.0025), (100, 0.002), (40, 0.0017))
    assert plan.yuan == pytest.approx(sum(calls * each for calls, each in plan.tiers))
    assert "100 calls at 0.002 yuan" in str(plan)
    assert "90 calls before in this month" in str(plan)


def test_a_long_run_begins_the_tiers_anew_in_each_month():
    """The month of China has 16 hours left of November for 115,200 calls at 2 a second; December takes the rest."""
    now = datetime(2026, 11, 30, 0, 0, tzinfo=UTC)
    price = Price(((100_000, 2500), (None, 2000)))
    basis = Basis("x/y", price, "words", 2.0, 1, 90_000, now)
    plan = counted_plan(120_000, basis)
    assert plan.months == 2
    assert plan.tiers == ((10_000 + 4_800, 0.0025), (105_200, 0.002))
    assert plan.yuan == 14_800 * 0.0025 + 105_200 * 0.002
    assert "over 2 calendar months" in str(plan)


def test_a_plan_for_longer_than_calendars_go_is_a_plan():
    """Nobody waits so long, but it is no error."""
    plan = counted_plan(20_000, Basis("x/y", PRICE, "words", 1e-8, 1, 0, NOW))
    assert (plan.calls, plan.finish) == (20_000, None)
    assert "days" in str(plan)


def counted_plan(images, basis):
    """For so many different images."""
    rows = pa.record_batch({"url": pa.array([str(number) for number in range(images)])})
    return make_plan(
        iter([rows]),
        lambda batch: (batch.column("url"), None),
        lambda keys: [None] * len(keys),
        lambda keys: (),
        key_of=str,
        precheck=lambda url: None,
        basis=basis,
    )


def test_an_unknown_price_is_said_as_unknown():
    """And how to give one."""
    plan = plan_of(["a"], price=None, qps=None)
    assert (plan.yuan, plan.tiers, plan.seconds) == (None, (), None)
    assert "give price=" in str(plan)


@pytest.mark.parametrize(
    ("urls", "calls"),
    [
        (["a", "b", "c"], 1),
        (["a", "b", "c", "d"], 2),
        (["a.svg", "b.svg", "c.svg", "d"], 1),
        (["a.svg", "b", "c.svg", "d.svg"], 1),
        (["a", "b.svg", "c.svg", "d"], 2),
        ([], 0),
    ],
)
def test_batches_are_counted_as_they_are_asked(urls, calls):
    """Three images a call, impossible ones among them; a batch without any other takes no call."""
    assert plan_of(urls, batch_size=3).calls == calls


def test_a_plan_is_plain_data():
    """For JSON."""
    assert plan_of(["a"]).to_dict()["payable"] == 1


def test_a_plan_says_why_images_are_impossible_and_what_to_do():
    """By code, the most frequent first, with one example and its sentence; the same as plain data."""
    rows = pa.record_batch(
        {"url": ["https://h/1.svg?Signature=canary&OSSAccessKeyId=k&Expires=1", "b.svg", "c.pdf", "d"]}
    )
    errors = {
        "svg": PermanentError("it is SVG; convert it", code="Format"),
        "pdf": PermanentError("gone", code="NotFound"),
    }
    plan = make_plan(
        iter([rows]),
        lambda batch: (batch.column("url"), None),
        lambda keys: [None] * len(keys),
        lambda keys: (),
        key_of=str,
        precheck=lambda url: errors.get(url.partition("?")[0].rpartition(".")[2]),
        basis=Basis("x/y", PRICE, "words", 2.0, 1, 0, NOW),
    )
    assert (plan.impossible, plan.payable) == (3, 1)
    assert [(reason.code, reason.images, reason.example) for reason in plan.reasons] == [
        ("Format", 2, "https://h/1.svg"),
        ("NotFound", 1, "c.pdf"),
    ]
    assert "2 Format, for example https://h/1.svg\n" in str(plan)
    assert "it is SVG; convert it" in str(plan)
    assert "gone; correct the path" in str(plan)
    assert plan.to_dict()["reasons"][1]["code"] == "NotFound"
    assert "canary" not in str(plan)
