"""Pictures tagged per second by the local tagger, beside the bound: Pillow decoding the same file as far as needed.

    python benchmarks/tagger.py [--seconds 2] [--threads 2] [--json]

A photograph (astronaut, from scikit-image) as JPEG of 0.25, 1 and 12 megapixels, and as PNG and WebP.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy
import PIL
import skimage
from PIL import Image

from imgtag_pipeline.tagger import describe
from imgtag_pipeline.tagger.decode import DETAIL_AREA

CASES = (("JPEG", 500, 500), ("JPEG", 1155, 866), ("JPEG", 4000, 3000), ("PNG", 500, 500), ("WEBP", 500, 500))
ROUNDS = 3


def picture(kind: str, width: int, height: int) -> bytes:
    """The photograph at that size, encoded."""
    path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    image = Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, kind, **({} if kind == "PNG" else {"quality": 88}))
    return file.getvalue()


def decode(data: bytes) -> None:
    """What no tagger can do without: the pixels, for a JPEG at the smallest scale that is large enough."""
    image = Image.open(io.BytesIO(data))
    scale = (DETAIL_AREA / (image.width * image.height)) ** 0.5
    if scale < 1:
        image.draft(None, (round(image.width * scale), round(image.height * scale)))
    image.load()


def per_second(work: Callable[[], object], seconds: float, threads: int) -> float:
    """How often `work` is done in a second by so many threads."""
    stop = time.perf_counter() + seconds

    def turn() -> int:
        done = 0
        while time.perf_counter() < stop:
            work()
            done += 1
        return done

    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(lambda _: turn(), range(threads)))
    return done / (time.perf_counter() - start)


def measure(kind: str, width: int, height: int, *, seconds: float, threads: int) -> dict[str, object]:
    """One line of the table: medians of interleaved rounds."""
    data = picture(kind, width, height)
    describe(data)
    lots = {
        "decode": (partial(decode, data), 1),
        "tag": (partial(describe, data), 1),
        "decode_threads": (partial(decode, data), threads),
        "tag_threads": (partial(describe, data), threads),
    }
    rounds: dict[str, list[float]] = {name: [] for name in lots}
    for _ in range(ROUNDS):
        for name, (work, workers) in lots.items():
            rounds[name].append(per_second(work, seconds / ROUNDS, workers))
    rates = {name: round(statistics.median(values), 1) for name, values in rounds.items()}
    share = {
        "share": round(rates["tag"] / rates["decode"], 2),
        "scaling": round(rates["tag_threads"] / rates["tag"], 2),
    }
    return {"picture": f"{kind} {width}x{height}", "kib": len(data) // 1024, **rates, **share}


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="per figure (default 2)")
    parser.add_argument("--threads", type=int, default=2, help="for the threaded columns (default 2)")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    machine = {
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "numpy": numpy.__version__,
    }
    lines = [measure(*case, seconds=asked.seconds, threads=asked.threads) for case in CASES]
    if asked.json:
        json.dump({"machine": machine, "threads": asked.threads, "pictures": lines}, sys.stdout, indent=2)
        print()
        return
    print(" ".join(f"{name}={value}" for name, value in machine.items()))
    print("images per second; decode is the bound\n")
    threaded = f"with {asked.threads} threads: decode, tag, scaling"
    print(f"{'picture':16} {'KiB':>5} {'decode':>8} {'tag':>8} {'share':>6}   {threaded}")
    for line in lines:
        alone = f"{line['picture']:16} {line['kib']:>5} {line['decode']:>8} {line['tag']:>8} {line['share']:>6}"
        print(f"{alone} {line['decode_threads']:>24} {line['tag_threads']:>8} {line['scaling']:>6}")


if __name__ == "__main__":
    main()
