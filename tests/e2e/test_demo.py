"""`imgtag demo` as a stranger meets it: one command, no keys, no set-up."""

import re
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's folder, what it printed, and how long it took."""
    folder = tmp_path_factory.mktemp("demo")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "imgtag_pipeline", "demo", "--folder", str(folder)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    return folder, done, time.monotonic() - began


def test_demo_is_quick_and_quiet(demo):
    """It ends well within half a minute and prints nothing that looks like trouble."""
    _, done, seconds = demo
    assert done.returncode == 0
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    assert "nan" not in done.stdout.lower()
    assert seconds < 30


def test_demo_tells_the_whole_story(demo):
    """Local tags, the plan, the crash, the resumed run with its price, both shapes, and where the files lie."""
    folder, done, _ = demo
    local = ("df.imgtag.label", "cat.jpg", "espresso", "tripod", "contact_sheet.jpg")
    for piece in (*local, "to ask      12 images", "kill -9", "would have cost", "tag_", "torn.jpg"):
        assert piece in done.stdout
    assert str(folder / "tags.parquet") in done.stdout
    with Image.open(folder / "contact_sheet.jpg") as sheet:
        assert sheet.width > 1000


def test_demo_pays_no_known_answer_twice(demo):
    """After kill -9 and the same command again, only what the report lists as possibly billed was answered twice."""
    _, done, _ = demo
    assert re.search(r"already known +[1-9]", done.stdout)
    twice = int(re.search(r"(\d+) images answered twice", done.stdout)[1])
    in_flight = re.search(r"possibly billed +(\d+) in flight", done.stdout)
    assert twice <= int(in_flight[1] if in_flight else 0)


def test_demo_leaves_a_parquet_with_every_row(demo):
    """The long table on disk has a row for each picture, the torn one and the missing URL included."""
    folder, _, _ = demo
    table = pq.read_table(folder / "tags.parquet")
    assert len(set(table["url"].to_pylist())) == 15  # 14 pictures and the row without one
    assert set(table["status"].to_pylist()) == {"ok", "failed", "skipped"}
