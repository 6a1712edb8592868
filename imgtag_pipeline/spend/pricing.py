"""What calls cost, in whole micro-yuan: tiers by calls in the calendar month, marginal or for the whole month."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Final

from imgtag_pipeline.model import Price

MICRO: Final = 1_000_000
BILLING_ZONE: Final = timezone(timedelta(hours=8), "China")  # both vendors count months by China's calendar


def month_of(moment: datetime) -> str:
    """The calendar month in which a vendor counts a call: "2026-11"."""
    return f"{moment.astimezone(BILLING_ZONE):%Y-%m}"


def day_of(moment: datetime) -> str:
    """The day in which a vendor counts a call: "2026-11-26"."""
    return f"{moment.astimezone(BILLING_ZONE):%Y-%m-%d}"


def month_end(moment: datetime) -> datetime:
    """When that month is over."""
    day = moment.astimezone(BILLING_ZONE)
    return datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=BILLING_ZONE)


def total(price: Price, calls: int) -> int:
    """What a month with so many billed calls comes to, in micro-yuan."""
    charged = max(0, calls - price.free_calls)
    if price.scheme == "whole-month":
        return charged * _tier(price, calls)
    bounds = [0] + [calls if until is None else min(calls, until) for until, _ in price.tiers]
    spans = [max(0, high - low) for low, high in pairwise(bounds)]
    full = sum(span * each for span, (_, each) in zip(spans, price.tiers, strict=True))
    return full - _free_share(price, calls)


def added(price: Price, before: int, calls: int) -> int:
    """What so many further calls add to a month that already has `before` billed ones, in micro-yuan.

    With a whole-month price a cheaper tier can make the sum smaller: then 0 is added, never less.
    """
    return max(0, total(price, before + calls) - total(price, before))


def step(price: Price, before: int) -> int:
    """By how much one further call changes a month's bill; below 0 where it makes the whole month cheaper."""
    return total(price, before + 1) - total(price, before)


def by_tier(price: Price, before: int, calls: int) -> tuple[tuple[int, int], ...]:
    """How many of these further calls fall at which price (micro-yuan), free ones first.

    With a whole-month price all of them, and those before, come to the price of the tier that is reached.
    """
    free = min(calls, max(0, price.free_calls - before))
    parts = [(free, 0)] if free else []
    rest = calls - free
    if price.scheme == "whole-month":
        return (*parts, (rest, _tier(price, before + calls))) if rest else tuple(parts)
    at = before + free
    for until, each in price.tiers:
        count = rest if until is None else max(0, min(rest, until - at))
        if count:
            parts.append((count, each))
            at, rest = at + count, rest - count
    return tuple(parts)


def dearest(price: Price, counted: int = 0, open_or_counted: int = 0) -> int:
    """The most that one further call may cost, when the month has `counted` billed calls: what is set aside for it.

    `open_or_counted` are these and the calls that are still open: while they are all free, so is the call.
    """
    if max(counted, open_or_counted) < price.free_calls and price.scheme == "whole-month":
        return 0
    return max(each for until, each in price.tiers if until is None or counted < until)


def drawn(price: Price, most: int, cost: int) -> int:
    """What a billed call draws from a budget, when `most` was set aside for it and it `cost` that much in its month.

    Free calls are assigned at reservation but consumed at settlement, in another order. So each call is charged what
    was reserved for it.
    """
    return most if price.free_calls and price.scheme == "whole-month" else cost


def flat(yuan: float) -> Price:
    """One price for every call, given in yuan; a price above 0 is at least one micro-yuan."""
    return Price(tiers=((None, max(round(yuan * MICRO), 1 if yuan > 0 else 0)),))


def _tier(price: Price, calls: int) -> int:
    for until, each in price.tiers:
        if until is None or calls <= until:
            return each
    return price.tiers[-1][1]


def _free_share(price: Price, calls: int) -> int:
    free = min(price.free_calls, calls)
    return free * price.tiers[0][1] if free else 0
