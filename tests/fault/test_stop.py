"""A run that is stopped from outside: from another thread, a signal handler, before it starts; and a reader ahead."""

import gc
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.testing import running_emulator

CONCURRENCY = 8
URLS = [f"https://img.example/{number}.jpg" for number in range(2000)]


@pytest.fixture
def cloud():
    """A cloud that answers without looking, a little late."""
    with running_emulator(is_synthetic=True, latency=0.05) as running:
        yield running


def words(cloud, **more):
    provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"), qps=1000)
    return {"provider": provider, "concurrency": CONCURRENCY, "progress": False, "grace": 2.0, **more}


def wait_for_calls(cloud, number):
    give_up = time.monotonic() + 60
    while cloud.ledger.calls < number and time.monotonic() < give_up:
        time.sleep(0.002)


def request_later(cloud, stop, *, calls=40):
    """Requests the stop from another thread after so many calls; gives the number of calls at that moment."""
    seen = []

    def watch():
        wait_for_calls(cloud, calls)
        stop.request()
        seen.append(cloud.ledger.calls)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread, seen


def test_label_stops_on_request_and_keeps_what_arrived(cloud, tmp_path):
    """After the request at most `concurrency` calls more; all answers are in the table and in the store."""
    stop = imgtag.Stop()
    thread, seen = request_later(cloud, stop)
    with pytest.raises(imgtag.Interrupted, match="on request") as caught:
        imgtag.label(pd.DataFrame({"url": URLS}), checkpoint=tmp_path / "tags", stop=stop, **words(cloud))
    thread.join()
    assert cloud.ledger.calls <= seen[0] + CONCURRENCY
    report, table = caught.value.report, caught.value.partial
    assert report.ok + report.empty == cloud.ledger.billed
    assert len(table["url"].unique()) == len(URLS)
    before = cloud.ledger.calls
    imgtag.label(pd.DataFrame({"url": URLS[:30]}), checkpoint=tmp_path / "tags", **words(cloud))
    assert cloud.ledger.calls == before


def test_a_run_in_a_worker_thread_stops_on_request(cloud, tmp_path):
    """As task runners have it: the call runs in a pool's thread, where no signal handler can be set."""
    stop, source = imgtag.Stop(), tmp_path / "in.parquet"
    pq.write_table(pa.table({"url": URLS}), source)
    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(imgtag.enrich, source, tmp_path / "out.parquet", stop=stop, **words(cloud))
        thread, seen = request_later(cloud, stop)
        with pytest.raises(imgtag.Interrupted):
            task.result()
        thread.join()
    assert cloud.ledger.calls <= seen[0] + CONCURRENCY
    assert not (tmp_path / "out.parquet").exists()


async def test_alabel_stops_on_request(cloud):
    """The async core, asked from another thread."""
    stop = imgtag.Stop()
    thread, seen = request_later(cloud, stop)
    with pytest.raises(imgtag.Interrupted):
        await imgtag.alabel(pa.table({"url": URLS}), stop=stop, **words(cloud))
    thread.join()
    assert cloud.ledger.calls <= seen[0] + CONCURRENCY


def test_a_reader_stops_on_request(cloud):
    """Its next batch tells."""
    stop = imgtag.Stop()
    reader = imgtag.label(pa.table({"url": URLS}).to_reader(), stop=stop, read_ahead=64, **words(cloud))
    reader.read_next_batch()
    stop.request()
    seen = cloud.ledger.calls
    with pytest.raises(imgtag.Interrupted):
        reader.read_all()
    assert cloud.ledger.calls <= seen + CONCURRENCY


def test_a_second_request_gives_up_the_calls_in_flight(tmp_path):
    """They are not waited for, and listed as possibly billed."""
    with running_emulator(is_synthetic=True, latency=30.0) as cloud:
        stop = imgtag.Stop()
        thread, _ = request_later(cloud, stop, calls=CONCURRENCY)

        def again():
            thread.join()
            stop.request()

        second = threading.Thread(target=again)
        second.start()
        began = time.monotonic()
        with pytest.raises(imgtag.Interrupted) as caught:
            imgtag.label(pd.DataFrame({"url": URLS}), stop=stop, **words(cloud, grace=600.0))
        second.join()
        assert time.monotonic() - began < 25
        assert caught.value.report.possibly_billed_count == CONCURRENCY


def test_a_stop_that_was_requested_before_costs_nothing(cloud):
    """Neither does a second run that is given the same handle."""
    stop = imgtag.Stop()
    stop.request()
    for _ in range(2):
        with pytest.raises(imgtag.Interrupted):
            imgtag.label(pd.DataFrame({"url": URLS}), stop=stop, **words(cloud))
    assert cloud.ledger.calls == 0


def test_two_runs_share_a_stop(cloud):
    """One request ends both."""
    stop = imgtag.Stop()
    with ThreadPoolExecutor(2) as pool:
        halves = [pd.DataFrame({"url": URLS[:1000]}), pd.DataFrame({"url": URLS[1000:]})]
        tasks = [pool.submit(imgtag.label, half, stop=stop, **words(cloud)) for half in halves]
        thread, seen = request_later(cloud, stop)
        for task in tasks:
            with pytest.raises(imgtag.Interrupted):
                task.result()
        thread.join()
    assert cloud.ledger.calls <= seen[0] + 2 * CONCURRENCY


SCRIPT = """
import signal, sys
import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi

url, how = sys.argv[1:]
told = []
if how == "handler":
    signal.signal(signal.SIGTERM, lambda number, frame: told.append(number))
provider = Viapi(action="TaggingImage", endpoint=url, credentials=Keys("emulator", "emulator"), qps=1000)
urls = [f"https://img.example/{number}.jpg" for number in range(5000)]
import pandas as pd
before = signal.getsignal(signal.SIGTERM)
try:
    imgtag.label(pd.DataFrame({"url": urls}), provider=provider, concurrency=8, progress=False)
except imgtag.Interrupted as stopped:
    print(stopped.report.ok + stopped.report.empty, len(told), signal.getsignal(signal.SIGTERM) == before)
    sys.exit(7)
"""


@pytest.mark.parametrize(("how", "told"), [("default", 0), ("handler", 1)])
def test_sigterm_in_the_main_thread_stops_the_run(cloud, how, told):
    """Without a handler, and with one that only takes notice, as a runner that calls `on_kill` has it."""
    command = [sys.executable, "-c", SCRIPT, cloud.url, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        wait_for_calls(cloud, 40)
        process.send_signal(signal.SIGTERM)
        seen = cloud.ledger.calls
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 7
    kept, notices, is_restored = printed.split()
    assert (int(kept), int(notices), is_restored) == (cloud.ledger.billed, told, "True")
    assert cloud.ledger.calls <= seen + CONCURRENCY + 8  # those that left before the signal was delivered


@pytest.mark.parametrize("read_ahead", [16, 64])
def test_a_reader_pays_for_at_most_what_it_may_read_ahead(cloud, read_ahead):
    """`LIMIT 3` over a reader: while nobody pulls no more is asked, and nothing is once it is gone."""
    reader = imgtag.label(pa.table({"url": URLS}).to_reader(), read_ahead=read_ahead, **words(cloud))
    assert len(duckdb.sql("select * from reader limit 3").fetchall()) == 3
    settled = _settled(cloud)
    assert settled <= read_ahead
    del reader
    gc.collect()
    assert _settled(cloud) == settled


def test_a_reader_that_is_closed_ends_its_run(cloud):
    """Its workers are gone, and no call is made any more."""
    reader = imgtag.label(pa.table({"url": URLS}).to_reader(), read_ahead=64, **words(cloud))
    reader.read_next_batch()
    reader.close()
    del reader
    gc.collect()
    settled = _settled(cloud)
    assert settled <= 64
    assert not [one for one in threading.enumerate() if one.name == "imgtag-core"]


def test_a_reader_reads_all_at_the_pace_of_its_calls(cloud):
    """Reading ahead is bounded and yet every row comes."""
    reader = imgtag.label(pa.table({"url": URLS[:400]}).to_reader(), read_ahead=32, **words(cloud))
    table = reader.read_all()
    assert set(table.column("url").to_pylist()) == set(URLS[:400])
    assert cloud.ledger.billed == 400


def _settled(cloud):
    """The number of calls once it has stayed the same for a while."""
    before, since = cloud.ledger.calls, time.monotonic()
    while time.monotonic() - since < 0.6:
        time.sleep(0.02)
        if cloud.ledger.calls != before:
            before, since = cloud.ledger.calls, time.monotonic()
    return before
