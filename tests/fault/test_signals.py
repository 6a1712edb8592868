"""Ctrl-C, SIGTERM, a cancelled await, a dropped reader: sending stops, and every answer in flight is kept."""

import asyncio
import gc
import json
import random
import signal
import threading
import time
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from imgtag_pipeline import alabel, label
from imgtag_pipeline.core import bridge
from imgtag_pipeline.errors import Interrupted
from imgtag_pipeline.providers import Keys, Viapi

PATIENCE = 20.0
ROWS = 120


def until(condition):
    """Wait for something that another thread or process does."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.002)


def in_flight(ledger):
    return sum(1 for entry in list(ledger) if not entry.code)


def provider_of(emulator):
    return Viapi(action="TaggingImage", endpoint=emulator.url, credentials=Keys("emulator", "emulator"))


def words_of(emulator, folder):
    return {"provider": provider_of(emulator), "checkpoint": str(folder / "store"), "qps": 5000, "concurrency": 8}


def table_of(rows=ROWS):
    return pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(rows)]})


def assert_each_asked_once(emulator, rows=ROWS):
    """A run to the end over the same store: what was in flight at the stop has been kept."""
    assert set(emulator.ledger.calls_by_image.values()) == {1}
    assert len(emulator.ledger.calls_by_image) == rows


def core_threads():
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("imgtag-") and not thread.name.startswith("imgtag-emulator")
    ]


@pytest.mark.emulator(is_synthetic=True, latency=0.2)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_keeps_every_answer_in_flight(desk, figure, number):
    """Exit code 130, no table, one clear sentence; the same command goes on and asks about no image twice."""
    desk.write(ROWS)
    ledger = desk.emulator.ledger
    process = desk.start()
    until(lambda: ledger.calls >= 30 and in_flight(ledger) >= 4)
    flying = in_flight(ledger)
    process.signal(number)
    assert process.wait() == 130, process.stderr
    stopped_at = ledger.calls
    assert not desk.out.exists()
    assert "Traceback" not in process.stderr
    assert "interrupted" in process.stderr
    assert stopped_at < ROWS
    again = desk.start()
    assert again.wait() == 0, again.stderr
    assert_each_asked_once(desk.emulator)
    assert (again.report["known"], again.report["possibly_billed_count"]) == (stopped_at, 0)
    figure(f"one {number.name}", "1 run", f"{flying} calls in flight, {flying} answers kept, exit code 130")


@pytest.mark.emulator(is_synthetic=True, latency=6.0)
def test_a_second_signal_cuts(desk, figure):
    """Whoever presses twice does not wait for slow answers; the images that were cut off are listed next time."""
    desk.write(20)
    ledger = desk.emulator.ledger
    process = desk.start(concurrency=4)
    until(lambda: ledger.calls == 4)
    began = time.monotonic()
    process.signal(signal.SIGINT)
    time.sleep(0.3)
    process.signal(signal.SIGINT)
    assert process.wait() == 130
    took = time.monotonic() - began
    assert took < 4
    assert process.report["possibly_billed_count"] == 4
    desk.emulator.options = replace(desk.emulator.options, latency=0.0)
    again = desk.start()
    assert again.wait() == 0
    assert set(again.report["possibly_billed"]) == {url for url, n in ledger.calls_by_image.items() if n == 2}
    assert (again.report["possibly_billed_count"], again.report["calls"]) == (4, 20)
    figure("a second SIGINT", "1 run", f"ended after {took:.1f} s, 4 calls cut, 4 images listed")


@pytest.mark.emulator(is_synthetic=True, latency=0.02)
@pytest.mark.parametrize("times", [12, pytest.param(200, marks=pytest.mark.heavy)])
def test_ctrl_c_at_random_moments(desk, figure, times):
    """Whenever it comes: exit code 130 (0 when all was done), no traceback, no half table, no image asked twice."""
    chance = random.Random(times)
    codes = []
    urls = []
    for number in range(times):
        urls = desk.write(100 * (number + 1))
        process = desk.start()
        time.sleep(0.1 + chance.random() * 0.6)
        process.signal(signal.SIGINT)
        codes.append(process.wait())
        assert codes[-1] in (0, 130), (codes, process.stderr)
        assert "Traceback" not in process.stderr
        assert desk.out.exists() == (codes[-1] == 0)
        desk.out.unlink(missing_ok=True)
    assert desk.start().wait() == 0
    assert_each_asked_once(desk.emulator, len(urls))
    figure("SIGINT at random moments", f"{times} runs", f"{codes.count(130)} stopped, 0 images asked twice or missing")


@pytest.mark.emulator(is_synthetic=True, latency=0.1)
@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_an_interrupted_label_gives_the_table_so_far(emulator, tmp_path, kind):
    """A notebook's stop button: `Interrupted`, with every input row, the answers that came, and the report."""
    table = table_of().to_pandas(types_mapper=None) if kind == "pandas" else table_of()

    def press():
        until(lambda: emulator.ledger.calls >= 30)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        label(table, **words_of(emulator, tmp_path))
    presser.join()
    error = caught.value
    assert isinstance(error, Interrupted)
    partial = error.partial if kind == "arrow" else pa.Table.from_pandas(error.partial)
    assert list(dict.fromkeys(partial["url"].to_pylist())) == table_of()["url"].to_pylist()
    assert isinstance(error.partial, pd.DataFrame if kind == "pandas" else pa.Table)
    kept = {
        url
        for url, code in zip(partial["url"].to_pylist(), partial["error_code"].to_pylist(), strict=True)
        if code != "NotAsked"
    }
    assert len(kept) == error.report.ok + error.report.empty == emulator.ledger.calls < ROWS
    assert error.report.unanswered == ROWS - len(kept)
    assert core_threads() == []
    label(table, **words_of(emulator, tmp_path))
    assert_each_asked_once(emulator)


@pytest.mark.emulator(is_synthetic=True, latency=0.5)
def test_an_interrupt_while_some_workers_have_nothing_to_do(emulator, tmp_path):
    """Five images, eight workers: the idle ones are stopped, and the table still has every row with its answer."""

    def press():
        until(lambda: emulator.ledger.calls == 5)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=press).start()
    with pytest.raises(Interrupted) as caught:
        label(table_of(5), **words_of(emulator, tmp_path))
    assert set(caught.value.partial["status"].to_pylist()) <= {"ok", "empty"}
    assert len(set(caught.value.partial["url"].to_pylist())) == 5


@pytest.mark.emulator(is_synthetic=True, latency=0.1)
async def test_a_cancelled_await_keeps_what_is_in_flight(emulator, tmp_path):
    """Cancelling the task stops the sending; the calls in flight end, and their answers are in the store."""
    task = asyncio.create_task(alabel(table_of(), **words_of(emulator, tmp_path)))
    await asyncio.to_thread(until, lambda: emulator.ledger.calls >= 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stopped_at = emulator.ledger.calls
    assert stopped_at < ROWS
    table = await alabel(table_of(), **words_of(emulator, tmp_path))
    assert_each_asked_once(emulator)
    assert json.loads(table.schema.metadata[b"imgtag"])["known"] == stopped_at


@pytest.mark.emulator(is_synthetic=True, latency=0.1)
async def test_a_time_limit_around_an_await_works(emulator, tmp_path):
    """`asyncio.timeout` is a cancellation like any other. The time ends some calls after the first one."""

    async def end_soon(limit):
        while emulator.ledger.calls < 10:
            await asyncio.sleep(0.01)
        limit.reschedule(asyncio.get_running_loop().time())

    async def label_in_time():
        async with asyncio.timeout(None) as limit:
            ending = asyncio.create_task(end_soon(limit))
            await alabel(table_of(400), **words_of(emulator, tmp_path))
        await ending

    with pytest.raises(TimeoutError):
        await label_in_time()
    asked = emulator.ledger.calls
    assert 0 < asked < 400
    table = await alabel(table_of(400), **words_of(emulator, tmp_path))
    assert json.loads(table.schema.metadata[b"imgtag"])["known"] == asked


@pytest.mark.emulator(is_synthetic=True, latency=0.02)
def test_a_reader_dropped_half_way_leaves_nothing_running(emulator, tmp_path):
    """A stream that nobody reads on: its threads end, and the answers so far are kept."""
    batches = table_of(3000).to_batches(max_chunksize=100)
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    result = label(reader, read_ahead=1000, **words_of(emulator, tmp_path))
    assert result.read_next_batch().num_rows
    asked = emulator.ledger.calls
    assert asked < 3000
    del result
    gc.collect()
    until(lambda: not core_threads())
    asked = emulator.ledger.calls
    assert asked < 3000
    label(table_of(100), **words_of(emulator, tmp_path))
    assert emulator.ledger.calls == asked
    assert set(emulator.ledger.calls_by_image.values()) == {1}


@pytest.mark.emulator(is_synthetic=True)
async def test_label_works_inside_a_running_loop(emulator, tmp_path):
    """As in a notebook cell, where a loop is running already."""
    assert label(table_of(20), **words_of(emulator, tmp_path))["url"].to_pylist()
    assert emulator.ledger.calls == 20


@pytest.mark.emulator(is_synthetic=True, latency=0.05)
def test_label_works_in_a_thread(emulator, tmp_path):
    """A worker thread cannot receive signals, and does not need to."""
    made = []
    thread = threading.Thread(target=lambda: made.append(label(table_of(20), **words_of(emulator, tmp_path))))
    thread.start()
    thread.join()
    assert len(set(made[0]["url"].to_pylist())) == 20


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_an_interrupt_takes_nothing_from_the_bridge(wait):
    """Ctrl-C while the reader starts or waits: the core is told or closed, and no item that was made is lost."""
    told, closed, go_on = [], [], threading.Event()

    def on_interrupt():
        told.append(True)
        go_on.set()

    async def items():
        try:
            await asyncio.sleep(wait)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.to_thread(go_on.wait, 1)
            for number in range(3):
                yield number
        finally:
            closed.append(True)

    read = []
    try:
        read += bridge.iterate(items, on_interrupt=on_interrupt)
    except KeyboardInterrupt:
        read = [0, 1, 2]
        told.append(True)
    assert (read, told, closed) == ([0, 1, 2], [True], [True])
