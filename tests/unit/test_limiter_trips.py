"""From round trips to the latest arrival: what a busy moment, a changed way and a working server mean."""

import random

import pytest

from imgtag_pipeline.limiter.round_trips import LONGEST, RoundTrips


def after(trips, count, rtt, *, start=0.0, every=0.0005):
    """So many answered calls with this round trip; the moment of the last."""
    for number in range(count):
        trips.add(start + number * every, start + number * every + rtt)
    return start + count * every


@pytest.fixture
def trips():
    """Round trips that a first call has opened the connection for."""
    trips = RoundTrips()
    trips.add(-1.0, -0.5)
    return trips


def test_before_anything_is_known_a_call_may_arrive_with_its_reply():
    """The first calls may have been under way for their whole round trip."""
    assert RoundTrips().allowance(0.3) >= 0.3
    assert RoundTrips().unanswered(1.0) == LONGEST


def test_a_busy_moment_is_not_the_usual(trips):
    """A tenth of a second in which every answer takes 4 ms does not make 4 ms the shortest way."""
    end = after(trips, 400, 0.0002)
    after(trips, 200, 0.004, start=end)
    assert trips.allowance(0.004) >= 0.0038


def test_the_shortest_way_is_remembered_for_half_a_minute(trips):
    """Half a minute of longer round trips later, the shortest one still counts; a minute on, it does not."""
    end = after(trips, 400, 0.001)
    end = after(trips, 550, 0.015, start=end, every=0.05)
    assert trips.allowance(0.015) >= 0.0139
    after(trips, 1200, 0.015, start=end, every=0.05)
    assert trips.allowance(0.015) <= 0.001


def test_a_longer_way_is_learned_when_it_would_cost_too_much(trips):
    """When all answers come to take 300 ms longer, that is not given away of every window for long."""
    end = after(trips, 100, 0.02, every=0.05)
    after(trips, 200, 0.32, start=end, every=0.05)
    assert trips.allowance(0.32) <= 0.03


def test_work_at_the_server_delays_no_arrival(trips):
    """Answers that take 0 to 500 ms of work are not taken for calls that were that long under way."""
    rng = random.Random(1)
    now = 0.0
    for _ in range(400):
        now += 0.05
        trips.add(now, now + 0.02 + 0.5 * rng.random())
    given = [trips.allowance(0.02 + 0.5 * rng.random()) for _ in range(1000)]
    assert sum(given) / len(given) < 0.2


def test_answers_that_always_take_longer_than_a_window_do_not_halve_the_pace(trips):
    """With answers after 2 s, a call without an answer is trusted to have arrived as usual."""
    after(trips, 40, 2.0, every=0.05)
    assert trips.unanswered(1.0) < 0.1


def test_one_stalled_answer_does_not_free_the_calls_that_are_out(trips):
    """After one answer of 1.5 s among quick ones, calls without an answer keep their places for as long as before."""
    end = after(trips, 100, 0.02, every=0.05)
    end = after(trips, 1, 1.5, start=end)
    after(trips, 10, 0.02, start=end, every=0.05)
    assert trips.unanswered(1.0) == LONGEST


def test_a_busy_host_is_not_taken_for_a_working_server(trips):
    """Round trips spread over 100 ms count in full while this process oversleeps by 20 ms."""
    rng, now = random.Random(2), 0.0
    for _ in range(400):
        now += 0.05
        trips.overslept(0.02)
        trips.add(now, now + 0.001 + 0.1 * rng.random())
    assert trips.allowance(0.08) >= 0.078
