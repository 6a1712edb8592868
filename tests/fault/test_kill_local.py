"""kill -9 in the middle of a run that computes here: what was told stays told, the next run does the rest."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

RUN = """
import sys
from pathlib import Path
import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Local, Onnx
from imgtag_pipeline.tagger.objects.engine import PATH

source, out, store, told, kind = sys.argv[1:]
provider = Local(engine="numpy", threads=1) if kind == "local" else Onnx(model=str(PATH), threads=1)

def observer(event):
    if event.event == "progress":
        Path(told).write_text(str(event.to_dict()["done"]))

words = {"checkpoint": store, "overwrite": True, "max_failed": 1, "observer": observer}
report = imgtag.enrich(source, out, provider=provider, **words)
print(report.known, report.images, report.failed_images)
"""
IMAGES = 36


@pytest.mark.parametrize("kind", ["local", "onnx"])
def test_a_kill_in_mid_run_loses_nothing(kind, tmp_path):
    """Killed once it has told of some; the next run knows at least these, and its table is whole."""
    if kind == "onnx":
        pytest.importorskip("onnxruntime")
    names = []
    for number in range(IMAGES):
        names.append(str(tmp_path / f"{number}.jpg"))
        Image.effect_noise((700, 500), 20 + number).convert("RGB").save(names[-1])
    Path(names[7]).write_bytes(b"torn")
    pd.DataFrame({"url": names}).to_parquet(tmp_path / "in.parquet")
    told = tmp_path / "told"
    words = [str(tmp_path / name) for name in ("in.parquet", "out.parquet", "tags")]
    command = [sys.executable, "-c", RUN, *words, str(told), kind]
    with subprocess.Popen(command, env=os.environ) as child:
        end = time.monotonic() + 60
        while time.monotonic() < end and child.poll() is None:
            if (tmp_path / "tags").exists() and told.exists() and int(told.read_text() or 0) >= 8:
                break
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
    seen = int(told.read_text() or 0)
    again = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    known, images, failed = map(int, again.stdout.split())
    assert min(seen, IMAGES) <= known
    assert (images, failed) == (IMAGES, 1)
    assert len(set(pq.read_table(words[1])["url"].to_pylist())) == IMAGES
