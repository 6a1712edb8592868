"""The book against the rule that it keeps, written as plainly as possible: every place looked at for every call."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtag_pipeline.limiter.adaptive_rate import AdaptiveRate, window_of
from imgtag_pipeline.limiter.expiries import Expiries
from imgtag_pipeline.limiter.window import FORGET, SlidingWindow


class PlainBook:
    """As many slots as the quota has calls, each free from some moment on; a call takes the one that is free first."""

    def __init__(self, told):
        self.level, self.told, self.tickets = AdaptiveRate(told), told, 0
        self.free = np.full(window_of(told)[0], -np.inf)
        self.ticket = np.zeros(len(self.free), dtype=int)
        self.paced = self.paused_until = -np.inf

    def tell(self, told):
        self.level.tell(told)
        more = window_of(told)[0] - len(self.free)
        if more > 0:
            self.free = np.concatenate([self.free, np.full(more, -np.inf)])
            self.ticket = np.concatenate([self.ticket, np.zeros(more, dtype=int)])

    def next(self, now):
        most = min(window_of(self.level.told)[0], self.level.allowed(now)[0])
        ahead = np.sort(self.free)
        return max(now, self.paused_until, self.paced, ahead[len(ahead) - most])

    def take(self, now, wanted, horizon, unanswered):
        grants = []
        while len(grants) < wanted and (at := self.next(now)) <= now + horizon:
            slot = int(self.free.argmin())
            load = int(np.count_nonzero((self.free > at) & (self.ticket >= 0))) + 1
            self.level.granted(load, now)
            self.tickets += 1
            self.ticket[slot] = self.tickets
            self.free[slot] = at + self.level.allowed()[1] + unanswered
            self.paced = max(self.paced, at - 0.005) + 0.6 * self.level.spacing()
            grants.append((self.tickets, at, load))
        return grants

    def slot(self, grant):
        (found,) = np.nonzero(np.abs(self.ticket) == grant.ticket)
        return found[0] if len(found) else None


times = st.floats(0.0, 1.4).map(lambda seconds: round(seconds, 3))
steps = st.one_of(
    st.tuples(st.just("go on"), times),
    st.tuples(st.just("take"), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([0.005, 1.5])),
    st.tuples(st.just("settle"), st.integers(0, 9), st.floats(0, 0.4), st.floats(0, 1.5)),
    st.tuples(st.just("hold"), st.integers(0, 9), st.floats(0, 2)),
    st.tuples(st.just("give back"), st.integers(0, 9)),
    st.tuples(st.just("refused"), st.integers(0, 9)),
    st.tuples(st.just("accepted"), st.integers(0, 9)),
    st.tuples(st.just("pause"), times),
    st.tuples(st.just("tell"), st.sampled_from([0.4, 1, 3, 8, 20])),
)


@settings(max_examples=400, deadline=None)
@given(told=st.sampled_from([0.4, 1, 2.5, 7, 20]), steps=st.lists(steps, min_size=5, max_size=60))
def test_the_book_grants_what_the_plain_rule_grants(told, steps):
    """Whatever is granted, answered, refused, held, given back and told: the same grants at the same moments."""
    now, looked = 1000.0, 1000.0
    book, plain, granted = SlidingWindow(told, now), PlainBook(told), []
    for what, *given_ in steps:
        if what == "go on":
            now += given_[0]
        elif what == "take":
            looked, (wanted, horizon, unanswered) = now, given_
            new = book.take(now, wanted, horizon=horizon, unanswered=unanswered)
            assert [(each.ticket, each.at, each.load) for each in new] == plain.take(now, wanted, horizon, unanswered)
            granted += new
        elif what == "pause":
            book.pause(now + given_[0])
            plain.paused_until = max(plain.paused_until, now + given_[0])
        elif what == "tell":
            book.tell(given_[0])
            plain.tell(given_[0])
        elif granted:
            tell_of(granted[-1 - given_[0] % len(granted)], what, given_[1:], book, plain, now, looked)
        assert book.wait(now) > 0
        assert book._next(now) == plain.next(now)


def tell_of(grant, what, given_, book, plain, now, looked):
    """Tell both the same of one call; a call whose place was free at the last look has none to tell of."""
    slot = plain.slot(grant)
    if slot is not None and plain.free[slot] <= looked:
        slot = None
    window = plain.level.allowed()[1]
    if what == "settle":
        book.settle(grant, grant.at + given_[0], given_[1])
        if slot is not None:
            plain.free[slot] = grant.at + given_[0] + window + given_[1]
    elif what == "hold":
        book.hold(grant, grant.at + given_[0])
        if slot is not None:
            plain.free[slot] = max(plain.free[slot], grant.at + given_[0] + window)
    elif what == "give back":
        book.give_back(grant)
        if slot is not None:
            plain.free[slot] = -np.inf
    elif what == "refused":
        book.refused(grant, now)
        plain.level.refused(grant.granted, grant.load, now)
        if slot is not None:
            plain.ticket[slot] = -grant.ticket
    else:
        book.accepted(grant, now)
        plain.level.accepted(grant.granted, grant.load, now)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.floats(0, 100)), max_size=300))
def test_ends_stay_in_order(entries):
    """Added, removed and forgotten in any order, the n-th largest is that of a sorted list."""
    ends, kept, forgotten = Expiries(), {}, -1.0
    for ticket, (end, is_taken_out, moment) in enumerate(entries):
        ends.add(end, ticket)
        kept[ticket] = end
        if is_taken_out:
            oldest = min(kept)
            ends.remove(kept.pop(oldest), oldest)
        if moment > forgotten:
            over = {ticket for _, ticket in ends.forget(moment)}
            assert over == {ticket for ticket, end in kept.items() if end <= moment}
            kept = {ticket: end for ticket, end in kept.items() if end > moment}
            forgotten = moment
        in_order = sorted(kept.values(), reverse=True)
        assert len(ends) == len(kept)
        assert [ends.nth_largest(nth) for nth in range(1, len(kept) + 1)] == in_order
        assert ends.after(50.0) == sum(end > 50.0 for end in in_order)


def test_a_large_quota_has_its_limit_too():
    """At 100,000 a second, the window after the first calls is full at 100,000."""
    book, now, granted = SlidingWindow(100_000, 0.0), 0.0, 0
    for _ in range(1200):
        now += 0.0005
        new = book.take(now, 200)
        granted += len(new)
        for grant in new:
            book.settle(grant, now, 0.0)
            book.accepted(grant, now)
    assert granted <= 100_000
    assert granted > 0.5 * 100_000 * now


def test_what_was_learned_is_forgotten_after_a_minute_of_rest():
    """A quota that nobody used for a minute is tried as it was told."""
    book = SlidingWindow(20, 0.0)
    (grant,) = book.take(0.0, 1)
    book.refused(grant, 0.1)
    assert book.is_held(0.2)
    book.take(0.1 + FORGET, 1)
    assert not book.is_held(0.1 + FORGET)


@pytest.mark.parametrize("told", [0.001, 0.5, 20])
def test_a_lost_book_sends_nothing_until_nothing_old_counts(told):
    """After the book was lost, a whole window and the longest way to the server pass first."""
    book = SlidingWindow(told, 0.0)
    book.block_unknown(0.0)
    assert book.take(window_of(told)[1] + 1.49, 5) == []
    assert len(book.take(window_of(told)[1] + 1.51, 1)) == 1
