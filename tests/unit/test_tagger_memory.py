"""Decoding has a budget in bytes: what a picture takes is told from its header, before anything is decoded."""

import io
import subprocess
import sys
import threading

import pytest
from PIL import Image, features

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.providers import Local
from imgtag_pipeline.tagger import describe, memory
from imgtag_pipeline.tagger.memory import memory_for

SIDE = 3000
PEAK = """
import sys
from imgtag_pipeline.tagger import describe

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) << 10

data, small = sys.stdin.buffer.read(), open(sys.argv[1], "rb").read()
describe(small)
before = peak()
describe(data)
print(peak() - before)
"""


def encoded(name, mode="RGB", side=SIDE, **options):
    if name in ("AVIF", "WEBP") and not features.check(name.lower()):
        pytest.skip(f"this Pillow has no {name}")
    file = io.BytesIO()
    Image.new(mode, (side, side)).save(file, name, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "L", {}),
        ("PNG", "P", {}),
        ("GIF", "P", {}),
        ("BMP", "RGB", {}),
        ("TIFF", "RGB", {}),
        ("JPEG", "RGB", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("WEBP", "RGBA", {}),
        ("AVIF", "RGB", {"speed": 10}),
    ],
)
def test_the_estimate_holds(tmp_path, monkeypatch, name, mode, options):
    """What decoding really takes is at most what its header says, and some megabytes for libraries that are loaded."""
    estimates = []
    wanted = memory.memory_for
    monkeypatch.setattr("imgtag_pipeline.tagger.decode.memory_for", lambda n, m: estimates.append(n) or wanted(n, m))
    data = encoded(name, mode, **options)
    describe(data)
    (tmp_path / "small").write_bytes(encoded(name, mode, 64, **options))
    command = [sys.executable, "-c", PEAK, tmp_path / "small"]
    taken = int(subprocess.run(command, input=data, capture_output=True, check=True).stdout)
    assert taken <= estimates[0] + (24 << 20)


def test_a_small_file_that_takes_much_memory_is_refused():
    """A few kilobytes of WebP or AVIF under the limit of pixels: a failed row that says what is allowed."""
    data = encoded("WEBP", side=8000)
    assert len(data) < 200_000
    with pytest.raises(PermanentError, match=r"about 1,007 MB; allowed: 512 MB .*max_decode_bytes") as caught:
        describe(data)
    assert caught.value.code == "TooManyPixels"
    assert describe(encoded("JPEG", side=8000))


def test_threads_share_the_budget():
    """Of two that fit only one after the other, the second waits."""
    order = []
    first_in, may_end = threading.Event(), threading.Event()

    def first():
        with memory_for(60 << 20, 100 << 20):
            first_in.set()
            may_end.wait(10)
            order.append("first ends")

    def second():
        first_in.wait(10)
        with memory_for(60 << 20, 100 << 20):
            order.append("second begins")

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    first_in.wait(10)
    may_end.set()
    for thread in threads:
        thread.join()
    assert order == ["first ends", "second begins"]


def test_the_budget_is_an_option_of_local():
    """In bytes; nonsense is one sentence."""
    assert Local(max_decode_bytes=64 << 20).max_decode_bytes == 64 << 20
    with pytest.raises(ConfigError, match="max_decode_bytes"):
        Local(max_decode_bytes=0)
