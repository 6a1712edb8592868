"""The bridge from the async core to callers without a loop."""

import asyncio
import threading

import pytest

from imgtag_pipeline import bridge


def never():
    raise AssertionError("nobody interrupted")


def test_items_come_in_order_and_the_loop_runs_elsewhere():
    """The generator runs in a thread of its own, whatever the caller's thread does."""

    async def items():
        for number in range(5):
            yield number, threading.current_thread().name

    assert list(bridge.iterate(items, on_interrupt=never)) == [(number, "imgtag-core") for number in range(5)]


def test_at_most_two_items_are_made_ahead():
    """A slow reader is not flooded."""
    made = []

    async def items():
        for number in range(10):
            made.append(number)
            yield number

    reading = bridge.iterate(items, on_interrupt=never)
    assert next(reading) == 0
    reading.close()
    assert len(made) <= 2 + bridge.AHEAD


def test_an_error_is_raised_where_the_items_are_read():
    """What the core raises reaches the caller as it is."""

    async def items():
        yield 1
        raise ValueError("from the core")

    reading = bridge.iterate(items, on_interrupt=never)
    assert next(reading) == 1
    with pytest.raises(ValueError, match="from the core"):
        next(reading)


def test_a_reader_that_is_dropped_closes_the_generator():
    """The generator's `finally` has run when `close` returns."""
    closed = []

    async def items():
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    reading = bridge.iterate(items, on_interrupt=never)
    next(reading)
    reading.close()
    assert closed == [True]
