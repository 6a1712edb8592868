"""Under a task runner: it ends a task by an exception of its own, and tries it again; the store makes both harmless."""

import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.testing import running_emulator

PICTURES = 60
TASK = """
import signal, sys
import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi

class Terminated(BaseException):
    "What Airflow and Prefect raise in the main thread on SIGTERM."

def end(number, frame):
    raise Terminated

signal.signal(signal.SIGTERM, end)
url, source, out, store = sys.argv[1:]
provider = Viapi(action="TaggingImage", endpoint=url, credentials=Keys("emulator", "emulator"), qps=40)
try:
    imgtag.enrich(source, out, provider=provider, checkpoint=store, progress=False)
except Terminated:
    sys.exit(7)
"""


@pytest.fixture
def cloud():
    """A cloud that answers without looking, a little late."""
    with running_emulator(is_synthetic=True, latency=0.2) as running:
        yield running


@pytest.fixture
def source(tmp_path):
    """The task's input."""
    path = tmp_path / "in.parquet"
    pd.DataFrame({"url": [f"https://img.example/{place}.jpg" for place in range(PICTURES)]}).to_parquet(path)
    return path


def test_a_task_that_is_ended_from_outside_keeps_what_it_paid(cloud, source, tmp_path):
    """An exception that a signal handler raises is no Ctrl-C, and yet calls in flight are waited for and kept."""
    out, store = tmp_path / "out.parquet", tmp_path / "tags"
    command = [sys.executable, "-c", TASK, cloud.url, source, out, store]
    with subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True) as process:
        give_up = time.monotonic() + 30
        while cloud.ledger.calls < 15 and process.poll() is None and time.monotonic() < give_up:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 7, said
    assert not out.exists()
    paid = cloud.ledger.billed
    assert 15 <= paid < PICTURES
    provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"), qps=1000)
    report = imgtag.enrich(source, out, provider=provider, checkpoint=store)
    assert (report.known, report.calls, cloud.ledger.billed) == (paid, PICTURES - paid, PICTURES)
    assert report.possibly_billed_count == 0


def test_a_task_that_is_tried_again_asks_the_rest(cloud, source, tmp_path):
    """Three attempts with a cap of 25 calls: each goes on where the one before stopped, and may spend its own cap."""
    provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"), qps=1000)
    words = {"provider": provider, "checkpoint": tmp_path / "tags", "max_calls": 25}
    for _ in range(2):
        with pytest.raises(imgtag.CapReached):
            imgtag.enrich(source, tmp_path / "out.parquet", **words)
    report = imgtag.enrich(source, tmp_path / "out.parquet", **words)
    assert (report.known, report.calls, cloud.ledger.billed) == (50, 10, PICTURES)
