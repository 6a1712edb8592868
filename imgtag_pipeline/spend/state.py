"""State of the spend caps and its transitions, and the calls of each month.

Pure: times and who is alive are arguments, storage lies elsewhere. Amounts are whole micro-yuan.

Concurrent runs share one allotment, with the smallest caps that any of them named. A run leaves it when it ends in
order; the entry of one that died stays until a later run takes it over, or for a day. The allotment ends when the last
run has left it. A call of a dead run stays counted as possibly paid.

Runs of a named job spend from the job's own allotment instead, which never ends (see `jobs`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from imgtag_pipeline.errors import Billing
from imgtag_pipeline.model import Price
from imgtag_pipeline.spend import jobs, pricing
from imgtag_pipeline.spend.jobs import Job

PLACE_SECONDS: Final = 86_400.0

Refusal = Literal["max_calls", "budget", "period", "lost"]
Period = Literal["day", "month"]


class Month(msgspec.Struct):
    """The calls of one calendar month. `sent` and `held` also count those that are neither yes, no nor unknown yet.

    `paid` are micro-yuan of the settled calls, `held` those set aside for open ones; `unpriced` the paid or open calls
    whose price nobody knew. `committed` is what caps count: set aside for open calls, or charged for settled ones.
    """

    sent: int = 0
    yes: int = 0
    no: int = 0
    unknown: int = 0
    paid: int = 0
    held: int = 0
    unpriced: int = 0
    committed: int = 0

    @property
    def counted(self) -> int:
        """Calls that tiers count: billed ones, and those that may have been."""
        return self.yes + self.unknown

    @property
    def open(self) -> int:
        """Calls without an answer yet, those of dead processes included."""
        return max(0, self.sent - self.yes - self.no - self.unknown)


class State(msgspec.Struct):
    """One book: whose calls, the allotment in force, the months by "2026-11", jobs by name, micro-yuan by day.

    `born` names this book among all that stood in its place, `version` counts its changes. `is_lost`: somebody found
    that changes of this allotment are missing, so nobody in it may send.
    """

    key: str = ""
    address: str = ""
    born: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))
    version: int = 0
    is_lost: bool = False
    epoch: int = 0
    calls: int = 0
    committed: int = 0
    max_calls: int | None = None
    budget: int | None = None
    places: dict[str, float] = {}
    months: dict[str, Month] = {}
    jobs: dict[str, Job] = {}
    days: dict[str, int] = {}


class Reservation(msgspec.Struct, frozen=True):
    """The price of one call, set aside: record, allotment (or job), month, day and amount."""

    born: str
    epoch: int
    month: str
    most: int | None
    day: str = ""
    job: str | None = None


def join(
    state: State,
    token: str,
    now: float,
    *,
    max_calls: int | None,
    budget: int | None,
    is_alive: Callable[[str, float], bool],
) -> str | None:
    """Take a place in the allotment, a dead process's where there is one; returns whose place it was."""
    living = {name for name, seen in state.places.items() if is_alive(name, seen)}
    if state.is_lost and not living:  # nobody goes on who knows better: what is left of it is worth nothing
        state.places = {}
    dead = {name: seen for name, seen in state.places.items() if name not in living and now - seen < PLACE_SECONDS}
    state.places = {name: seen for name, seen in state.places.items() if name in living or name in dead}
    if not state.places:
        state.epoch += 1
        state.calls = state.committed = 0
        state.is_lost = False
    if living:
        state.max_calls, state.budget = _least(state.max_calls, max_calls), _least(state.budget, budget)
    else:
        state.max_calls, state.budget = max_calls, budget
    predecessor = min(dead, key=lambda name: dead[name]) if dead else None
    if predecessor is not None:
        del state.places[predecessor]
    state.places[token] = now
    return predecessor


def join_shared(state: State, job: str | None, now: float, *, max_calls: int | None, budget: int | None) -> None:
    """Begin a run whose caps outlive it. A job's newest figures apply to all its runs, and what was spent stays."""
    if state.is_lost and not state.places:
        state.is_lost = False
    if job is None:
        return
    found = jobs.named(state.jobs, job, now)
    found.max_calls = found.max_calls if max_calls is None else max_calls
    found.budget = found.budget if budget is None else budget


def leave(state: State, token: str) -> None:
    """Give the place up: after the last one the allotment is over."""
    state.places.pop(token, None)
    if not state.places:
        state.max_calls = state.budget = None


def reserve(
    state: State,
    price: Price | None,
    month: str,
    *,
    before: int = 0,
    token: str | None = None,
    now: float = 0.0,
    job: str | None = None,
    day: str = "",
    period: tuple[Period, int] | None = None,
) -> Reservation | Refusal:
    """Set one call aside, or say what forbids it. Only who has a place, `token`, or names a `job` or the budget of a
    `period` is bound."""
    counts = state.months.setdefault(month, Month())
    most = None if price is None else pricing.dearest(price, before + counts.counted, counts.sent - counts.no + before)
    allotment: State | Job = state if job is None else jobs.named(state.jobs, job, now)
    if token is not None or job is not None or period is not None:
        if state.is_lost:
            return "lost"
        if (token is not None or job is not None) and (refusal := _forbidden(allotment, most or 0)) is not None:
            return refusal
        if period is not None and spent_in(state, period[0], month, day) + (most or 0) > period[1]:
            return "period"
    if token is not None:
        state.places[token] = now
    allotment.calls += 1
    allotment.committed += most or 0
    counts.sent += 1
    counts.held += most or 0
    counts.unpriced += most is None
    _enter(state, counts, day, most or 0)
    return Reservation(state.born, state.epoch, month, most, day, job)


def spent_in(state: State, period: Period, month: str, day: str) -> int:
    """What the calls of this month or day came to, open ones at the most that they may cost."""
    if period == "day":
        return state.days.get(day, 0)
    counts = state.months.get(month, Month())
    return max(counts.committed, counts.paid + counts.held)


def _forbidden(allotment: State | Job, most: int) -> Refusal | None:
    if allotment.max_calls is not None and allotment.calls >= allotment.max_calls:
        return "max_calls"
    if allotment.budget is not None and allotment.committed + most > allotment.budget:
        return "budget"
    return None


def _enter(state: State, counts: Month, day: str, micro_yuan: int) -> None:
    counts.committed += micro_yuan
    if day:
        jobs.enter(state.days, day, micro_yuan)


def settle(
    state: State, reservation: Reservation, billed: Billing, price: Price | None, *, before: int = 0
) -> int | None:
    """What the call came to; what was set aside for it beyond that is free again."""
    counts = _counts_of(state, reservation)
    most = reservation.most or 0
    cost: int | None = 0
    if billed != "no":
        step = None if price is None else pricing.step(price, before + counts.counted)
        counts.paid += step or 0
        cost = None if step is None else max(0, step)
    elif reservation.most is None:
        counts.unpriced -= 1
    setattr(counts, billed, getattr(counts, billed) + 1)
    counts.held -= most
    charged = pricing.drawn(price, most, cost or 0) if price is not None and billed != "no" else 0
    _enter(state, counts, reservation.day, charged - most)
    if (allotment := _allotment_of(state, reservation)) is not None:
        allotment.committed += charged - most
    return cost


def cancel(state: State, reservation: Reservation) -> None:
    """The call was not sent after all: as if it had never been set aside."""
    counts = _counts_of(state, reservation)
    counts.sent -= 1
    counts.held -= reservation.most or 0
    counts.unpriced -= reservation.most is None
    _enter(state, counts, reservation.day, -(reservation.most or 0))
    if (allotment := _allotment_of(state, reservation)) is not None:
        allotment.calls -= 1
        allotment.committed -= reservation.most or 0


def _allotment_of(state: State, reservation: Reservation) -> State | Job | None:
    """The allotment that the call was set aside in, None where it is over."""
    if reservation.born != state.born:
        return None
    if reservation.job is not None:
        return state.jobs.get(jobs.name_of(reservation.job))
    return state if reservation.epoch == state.epoch else None


def _counts_of(state: State, reservation: Reservation) -> Month:
    """The counts in which the ticket's call stands; in another book than its own it is entered first."""
    counts = state.months.setdefault(reservation.month, Month())
    if reservation.born != state.born:
        counts.sent += 1
        counts.held += reservation.most or 0
        counts.unpriced += reservation.most is None
        _enter(state, counts, reservation.day, reservation.most or 0)
    return counts


def _least(one: int | None, other: int | None) -> int | None:
    named = [figure for figure in (one, other) if figure is not None]
    return min(named) if named else None
