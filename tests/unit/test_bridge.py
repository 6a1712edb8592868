"""The bridge: an async generator read by code without a loop, in one private thread."""

import asyncio
import gc
import signal
import threading

import pytest

from imgtag_pipeline.core import bridge


def nobody():
    raise AssertionError("nobody interrupted")


def core_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("imgtag-core") and thread.is_alive()]


async def numbers(count, seen=None):
    for number in range(count):
        if seen is not None:
            seen.append(number)
        await asyncio.sleep(0)
        yield number


def test_all_items_arrive_in_order():
    """Each once, and the thread is gone after the last."""
    assert list(bridge.iterate(lambda: numbers(1000), on_interrupt=nobody)) == list(range(1000))
    assert core_threads() == []


def test_nothing_runs_before_the_first_item_is_asked_for():
    """A lazy reader starts no thread until it is read."""
    seen = []
    items = bridge.iterate(lambda: numbers(10, seen), on_interrupt=nobody)
    assert (seen, core_threads()) == ([], [])
    assert next(items) == 0
    items.close()


def test_the_generator_is_at_most_a_few_items_ahead():
    """A slow reader holds the run back, whatever the size of the input."""
    seen = []
    items = bridge.iterate(lambda: numbers(1000, seen), on_interrupt=nobody)
    for _ in range(10):
        next(items)
    assert len(seen) <= 10 + bridge.AHEAD + 1
    items.close()


def test_an_error_reaches_the_reader_after_the_items_before_it():
    """As itself, with the items that came before it."""

    async def failing():
        yield 1
        yield 2
        raise ValueError("what was wrong")

    items = bridge.iterate(failing, on_interrupt=nobody)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="what was wrong"):
        next(items)
    assert core_threads() == []


@pytest.mark.parametrize("way", ["close", "drop", "break"])
def test_a_reader_that_is_dropped_closes_the_generator(way):
    """Its `finally` has run and the thread is gone when the reader goes on."""
    closed = []

    async def endless():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    items = bridge.iterate(endless, on_interrupt=nobody)
    next(items)
    if way == "close":
        items.close()
    elif way == "break":
        for _ in items:
            break
        items.close()
    del items
    gc.collect()
    assert closed == [True]
    assert core_threads() == []


async def test_it_works_inside_a_running_loop():
    """The caller's loop is another one and is left alone."""
    assert list(bridge.iterate(lambda: numbers(3), on_interrupt=nobody)) == [0, 1, 2]


async def test_one_result_inside_a_running_loop():
    """`run` gives the result of a coroutine, or raises its error."""

    async def answer():
        await asyncio.sleep(0)
        return threading.current_thread().name

    async def failure():
        raise ValueError("what was wrong")

    assert bridge.run(answer).startswith("imgtag-core")
    with pytest.raises(ValueError, match="what was wrong"):
        bridge.run(failure)


def test_many_readers_at_once():
    """Each has a thread and a loop of its own."""
    readers = [bridge.iterate(lambda: numbers(100), on_interrupt=nobody) for _ in range(8)]
    assert [sum(one) for one in zip(*readers, strict=True)] == [8 * number for number in range(100)]


def test_ctrl_c_ends_a_coroutine_that_is_waited_for():
    """A plan over a large input does not run on: it is cancelled, cleans up, and the interrupt is raised."""
    closed = []

    async def long_work():
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    with pytest.raises(KeyboardInterrupt):
        bridge.run(long_work)
    assert closed == [True]
    assert core_threads() == []
