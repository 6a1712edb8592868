"""What the journal and the parts cost: rows a second appended, read back, sealed, looked up and taken.

    python benchmarks/journal.py                      # 200,000 images, 5 tags each
    python benchmarks/journal.py --images 1000000 --folder /tmp --json

The bound is the disk: plain `write` of the same bytes into one file, and one `fdatasync` after another. "saved one by
one" is what a run does: 64 workers, each marks an image as sent, and saves its outcome, and waits for both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.frames import Kind
from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.checkpoint.segment import OpenMarks, Segment, SegmentReader
from imgtag_pipeline.checkpoint.store import Tuning, describe, open_store
from imgtag_pipeline.checkpoint.writer import FlushPolicy
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.model import Outcome, Tag

IDENTITY = {"address": "viapi/TaggingImage"}
NAMES = [f"tag{number:02d}" for number in range(50)]
WORKERS = 64
GROUPS = (1, 64, 1024)


def outcomes(images: int) -> list[Outcome]:
    """Answers as TaggingImage gives them: five tags each."""
    random = np.random.default_rng(1)
    picks, scores = random.integers(0, 50, (images, 5)), random.random((images, 5)).round(4)
    return [
        Outcome(
            f"https://bucket.oss-cn-shanghai.aliyuncs.com/photos/{number:09d}.jpg",
            f"https://bucket.oss-cn-shanghai.aliyuncs.com/photos/{number:09d}.jpg",
            "ok",
            tuple(
                Tag(NAMES[pick], confidence=score, confidence_raw=100 * score)
                for pick, score in zip(picks[number].tolist(), scores[number].tolist(), strict=True)
            ),
            request_id=f"{number:032X}",
            calls=1,
            billed="yes",
            cost_micro_yuan=1500,
        )
        for number in range(images)
    ]


class Figures:
    """The table: what, how many, seconds, and bytes where they matter."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | str | int]] = []

    @contextmanager
    def timed(self, what: str, count: int, **facts: float) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.add(what, count, time.perf_counter() - began, **facts)

    def add(self, what: str, count: int, seconds: float, **facts: float) -> None:
        rate, each = round(count / seconds), round(1e6 * seconds / count, 2)
        self.rows.append({"what": what, "count": count, "per_second": rate, "microseconds_each": each, **facts})


def bounds(figures: Figures, folder: Path, data: bytes) -> None:
    """What the disk can do with the same bytes."""
    path = folder / "bound"
    with path.open("wb", buffering=0) as file, figures.timed("bound: write of 1 MB", 200):
        for _ in range(200):
            file.write(data[: 1 << 20].ljust(1 << 20, b"x"))
    with path.open("wb", buffering=0) as file, figures.timed("bound: write of 2 kB and fdatasync", 200):
        for _ in range(200):
            file.write(data[:2048])
            os.fdatasync(file.fileno())
    path.unlink()


def appends(figures: Figures, folder: Path, answers: list[Outcome]) -> None:
    """Frames of different sizes, with and without a sync after each."""
    for group in GROUPS:
        for is_synced in (False, True):
            count = min(len(answers), 300 * group if is_synced else 3000 * group)
            path = folder / f"b-{group}{is_synced:d}.journal"
            segment = Segment(path, seed=1, header={}, notes=OpenMarks(), files=Files())
            began = time.perf_counter()
            for start in range(0, count, group):
                some = answers[start : start + group]
                batch = outcomes_to_batch(some, run="r", at=[1] * len(some))
                segment.append([(Kind.OUTCOME, bytes(batch.serialize()))])
                if is_synced:
                    segment.sync()
            seconds = time.perf_counter() - began
            name = f"append, {group} rows a frame, {'fdatasync each' if is_synced else 'no sync'}"
            figures.add(name, count, seconds, bytes_each=round(segment.size / count))
            segment.close()
            if not is_synced and group > 1:
                reader = SegmentReader(path, seed=1, files=Files())
                reader.adopt()
                with figures.timed(f"recover frames of {group} rows", count):
                    assert sum(batch.num_rows for batch in reader.read()) == count
                reader.close()
            path.unlink()


async def one_by_one(figures: Figures, url: str | None, answers: list[Outcome], what: str, pace: FlushPolicy) -> None:
    """A run's way: mark, save, wait."""
    store = open_store(url, identity=IDENTITY, run_id="r", clock=SystemClock(), tuning=Tuning(pace=pace))
    rest = iter(answers)

    async def work() -> None:
        for answer in rest:
            await store.mark_sent([answer.key])
            await store.save([answer])

    with figures.timed(f"saved one by one, {what}", len(answers)):
        await asyncio.gather(*(work() for _ in range(WORKERS)))
    await store.close()


async def whole_store(figures: Figures, folder: Path, answers: list[Outcome]) -> None:
    """Fill a store in large groups, seal it, and run the same input again."""
    url, count = str(folder / "store"), len(answers)
    store = open_store(url, identity=IDENTITY, run_id="r", clock=SystemClock())
    with figures.timed("saved 1,000 at a time and sealed", count):
        for start in range(0, count, 1000):
            await store.save(answers[start : start + 1000])
        await store.close()
    size = sum(found.bytes for found in describe(url))
    keys = [answer.key for answer in answers]
    began = time.perf_counter()
    store = open_store(url, identity=IDENTITY, run_id="r2", clock=SystemClock())
    figures.add("open: read keys of all parts", count, time.perf_counter() - began, bytes_each=round(size / count))
    with figures.timed("known: look up and take, in order, 1,000 at a time", count):
        for start in range(0, count, 1000):
            some = keys[start : start + 1000]
            assert None not in store.lookup(some)
            assert store.take(some).num_rows == len(some)
    np.random.default_rng(2).shuffle(keys)
    shuffled = keys[: min(count, 100_000)]
    with figures.timed("the same, shuffled", len(shuffled)):
        for start in range(0, len(shuffled), 1000):
            store.take(shuffled[start : start + 1000])
    await store.close()


def machine() -> dict[str, str | int]:
    """Where these figures were taken."""
    return {
        "cpu_count": os.cpu_count() or 0,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, help="where to write (default: the temporary folder)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="imgtag-journal-", dir=options.folder))
    figures = Figures()
    try:
        answers = outcomes(options.images)
        bounds(figures, folder, bytes(outcomes_to_batch(answers[:10_000]).serialize()))
        appends(figures, folder, answers)
        some = answers[:20_000]
        asyncio.run(one_by_one(figures, None, some, "in memory", FlushPolicy()))
        asyncio.run(one_by_one(figures, str(folder / "a"), some, "synced every 100 ms", FlushPolicy()))
        asyncio.run(one_by_one(figures, str(folder / "b"), some[:4000], "synced each time", FlushPolicy(sync_every=0)))
        asyncio.run(whole_store(figures, folder, answers))
    finally:
        shutil.rmtree(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if options.json:
        print(json.dumps({"machine": machine(), "peak_megabytes": peak, "figures": figures.rows}, indent=2))
        return
    print(", ".join(f"{name} {value}" for name, value in machine().items()), file=sys.stderr)
    print(f"{'':54}{'count':>10}{'per second':>12}{'µs each':>10}{'bytes each':>12}")
    for row in figures.rows:
        numbers = f"{row['count']:>10,}{row['per_second']:>12,}{row['microseconds_each']:>10}"
        print(f"{row['what']:54}{numbers}{row.get('bytes_each', ''):>12}")
    print(f"peak memory {peak} MB (the {options.images:,} outcomes in memory included)")


if __name__ == "__main__":
    main()
