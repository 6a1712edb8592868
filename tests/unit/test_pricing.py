"""What a month of calls costs, by the vendors' two ways of counting."""

from datetime import UTC, datetime

import pytest

from imgtag_pipeline.model import Price
from imgtag_pipeline.spend import pricing

TAGGING = Price(tiers=((5_000_000, 2500), (30_000_000, 2000), (None, 1700)))
TENCENT = Price(tiers=((3_000_000, 1100), (15_000_000, 900), (None, 700)), scheme="whole-month", free_calls=10_000)


@pytest.mark.parametrize(
    ("price", "calls", "micro_yuan"),
    [
        (TAGGING, 0, 0),
        (TAGGING, 1, 2500),
        (TAGGING, 5_000_000, 5_000_000 * 2500),
        (TAGGING, 5_000_001, 5_000_000 * 2500 + 2000),
        (TAGGING, 40_000_000, 5_000_000 * 2500 + 25_000_000 * 2000 + 10_000_000 * 1700),
        (Price(tiers=((10_000, 150_000), (None, 100_000))), 15_000, 2_000 * 1_000_000),
        (TENCENT, 10_000, 0),
        (TENCENT, 10_001, 1100),
        (TENCENT, 5_000_000, (5_000_000 - 10_000) * 900),
    ],
)
def test_a_month_comes_to_what_the_vendor_prints(price, calls, micro_yuan):
    """Marginal tiers for Alibaba (15,000 plate calls: 2,000 yuan), the whole month at the tier reached for Tencent."""
    assert pricing.total(price, calls) == micro_yuan


def test_the_cost_of_further_calls_depends_on_the_month_so_far():
    """The same two calls cost less when the month has already reached the next tier."""
    assert pricing.added(TAGGING, 0, 2) == 5000
    assert pricing.added(TAGGING, 4_999_999, 2) == 4500


def test_reaching_a_cheaper_whole_month_tier_never_pays_money_back():
    """Crossing into a tier where the whole month gets cheaper adds nothing, and is no income either."""
    assert pricing.added(TENCENT, 3_000_000, 1) == 0


def test_a_price_in_yuan_is_kept_in_whole_micro_yuan():
    """0.00102 yuan is 1,020 micro-yuan, with no rounding noise."""
    assert pricing.total(pricing.flat(0.00102), 1_000_000) == 1_020_000_000
    assert pricing.dearest(TAGGING) == 2500


@pytest.mark.parametrize(
    ("price", "before", "calls", "parts"),
    [
        (TAGGING, 0, 10, ((10, 2500),)),
        (TAGGING, 4_999_999, 3, ((1, 2500), (2, 2000))),
        (TAGGING, 0, 0, ()),
        (TENCENT, 0, 15_000, ((10_000, 0), (5_000, 1100))),
        (TENCENT, 3_000_000, 5, ((5, 900),)),
    ],
)
def test_calls_are_split_by_tier(price, before, calls, parts):
    """Free ones first; with a whole-month price the rest at the tier that is reached."""
    assert pricing.by_tier(price, before, calls) == parts


def test_what_is_set_aside_falls_with_the_tier():
    """A cheaper tier that was reached cannot be left within the month; free calls need nothing."""
    assert pricing.dearest(TAGGING, 5_000_000) == 2000
    assert pricing.dearest(TENCENT, 9_000, 9_999) == 0
    assert pricing.dearest(TENCENT, 9_000, 10_000) == 1100


def test_no_price_is_rounded_to_nothing():
    """What costs something uses a budget up."""
    assert pricing.total(pricing.flat(0.0000001), 3) == 3
    assert pricing.total(pricing.flat(0), 3) == 0


@pytest.mark.parametrize(
    ("moment", "month", "end"),
    [
        (datetime(2026, 10, 31, 15, 59, tzinfo=UTC), "2026-10", datetime(2026, 10, 31, 16, tzinfo=UTC)),
        (datetime(2026, 10, 31, 16, 0, tzinfo=UTC), "2026-11", datetime(2026, 11, 30, 16, tzinfo=UTC)),
        (datetime(2026, 12, 31, 15, 0, tzinfo=UTC), "2026-12", datetime(2026, 12, 31, 16, tzinfo=UTC)),
        (datetime(2028, 2, 29, 3, 0, tzinfo=UTC), "2028-02", datetime(2028, 2, 29, 16, tzinfo=UTC)),
    ],
)
def test_a_month_is_that_of_china(moment, month, end):
    """The vendors' month begins and ends eight hours before that of UTC."""
    assert pricing.month_of(moment) == month
    assert pricing.month_end(moment) == end
