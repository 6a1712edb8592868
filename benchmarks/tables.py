"""How fast stored outcomes become tables: ours against pandas and Polars, on the same outcomes in the same run.

    python benchmarks/tables.py                       # 1,000,000 images, 5 tags each, 5 rounds
    python benchmarks/tables.py --images 200000 --rounds 3 --json

Rounds are interleaved and medians are shown; the machine may be noisy, so compare the ratios. Ours builds the whole
long table of 17 columns and a kept one, window by window, as a run does; "streamed" lets each window go, as
when a file is written. The peers build what a user would write by hand: tag and confidence beside the URL, 3 columns.
The bound is the copying of the same bytes to fresh memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from imgtag_pipeline.core import schema
from imgtag_pipeline.pipeline import expand

TAGS = 5
NAMES = [f"tag{number:02d}" for number in range(50)]


Window = tuple[pa.RecordBatch, pa.Array, pa.RecordBatch, pa.Array]
Step = Callable[[], Any]


def stored(images: int, window: int) -> list[Window]:
    """Windows as the pipeline hands them over: rows, URLs, outcomes and index."""
    random = np.random.default_rng(1)
    windows = []
    for start in range(0, images, window):
        count = min(window, images - start)
        urls = pa.array(
            [f"https://bucket.oss-cn-shanghai.aliyuncs.com/photos/{start + n:09d}.jpg" for n in range(count)]
        )
        first = random.integers(0, len(NAMES), count)
        codes = (first[:, None] + np.arange(TAGS) * 7) % len(NAMES)
        total = count * TAGS
        confidence = np.round(random.random(total), 3).astype(np.float32)
        columns: dict[str, pa.Array] = {
            "tag": pa.array(NAMES).take(pa.array(codes.reshape(-1))),
            "confidence": pa.array(confidence),
            "confidence_raw": pa.array((confidence * 100).astype(np.float64)),
            "kind": pa.repeat("label", total),
            "language": pa.repeat("zh", total),
        }
        children = [columns.get(field.name, pa.nulls(total, field.type)) for field in schema.TAG]
        lists = pa.ListArray.from_arrays(
            pa.array(np.arange(count + 1, dtype=np.int32) * TAGS),
            pa.StructArray.from_arrays(children, fields=list(schema.TAG)),
            type=schema.OUTCOME.field("tags").type,
        )
        given: dict[str, pa.Array] = {"key": urls, "url": urls, "status": pa.repeat("ok", count), "tags": lists}
        given["request_id"] = pa.array([f"{n:032X}" for n in range(start, start + count)])
        arrays = [given.get(field.name, pa.nulls(count, field.type)) for field in schema.OUTCOME]
        outcomes = pa.RecordBatch.from_arrays(arrays, schema=schema.OUTCOME)
        rows = pa.record_batch({"id": pa.array(np.arange(start, start + count))})
        windows.append((rows, urls, outcomes, pa.array(np.arange(count))))
    return windows


class Ours:
    """The whole result of every shape, held as a run holds it."""

    def __init__(self, windows: list[Window]) -> None:
        self._windows = windows
        # The same images in another order on the caller's rows, so that every column has to be gathered.
        self._shuffled = [(rows, urls, outcomes, index.take(index[::-1])) for rows, urls, outcomes, index in windows]

    def long(self) -> pa.Table:
        return pa.Table.from_batches([expand.long(*window, provider="viapi/TaggingImage") for window in self._windows])

    def long_shuffled(self) -> pa.Table:
        return pa.Table.from_batches([expand.long(*window, provider="viapi/TaggingImage") for window in self._shuffled])

    def long_streamed(self) -> int:
        return sum(expand.long(*window, provider="viapi/TaggingImage").num_rows for window in self._windows)

    def wide(self) -> pa.Table:
        return pa.Table.from_batches([expand.wide(r, o, i, vocabulary=NAMES) for r, _, o, i in self._windows])

    def nested(self) -> pa.Table:
        return pa.Table.from_batches([expand.nested(r, o, i) for r, _, o, i in self._windows])


class Peers:
    """What a user would write with pandas or Polars, from lists in a frame and from a long frame."""

    def __init__(self, long: pa.Table) -> None:
        slim = long.select(["url", "tag", "confidence"])
        self._lists = pd.DataFrame(
            {
                "url": slim.column("url").to_numpy()[::TAGS],
                "tag": list(slim.column("tag").to_numpy().reshape(-1, TAGS)),
                "confidence": list(slim.column("confidence").to_numpy().reshape(-1, TAGS)),
            }
        )
        self._long = slim.to_pandas()

    def explode(self) -> pd.DataFrame:
        return self._lists.explode(["tag", "confidence"])

    def pivot(self) -> pd.DataFrame:
        return self._long.pivot_table(index="url", columns="tag", values="confidence", fill_value=0, sort=False)


def polars_steps(long: pa.Table) -> dict[str, Step]:
    """The same with Polars, where it is installed."""
    try:
        import polars as pl
    except ImportError:
        return {}
    frame = pl.DataFrame(long.select(["url", "tag", "confidence"]))
    lists = frame.group_by("url", maintain_order=True).all()
    return {
        "long": lambda: lists.explode("tag", "confidence"),
        "wide": lambda: frame.pivot("tag", index="url", values="confidence", aggregate_function="max"),
    }


def copied(table: pa.Table) -> Step:
    """The bound: the bytes of this result, copied once."""
    source = np.ones(table.nbytes, dtype=np.uint8)
    return lambda: source.copy()


def measured(images: int, rounds: int, window: int) -> dict[str, dict[str, float]]:
    """Median seconds per shape and way, every round taking each way once."""
    ours = Ours(stored(images, window))
    long, wide = ours.long(), ours.wide()
    peers, polars = Peers(long), polars_steps(long)
    ways: dict[tuple[str, str], Step] = {
        ("long", "ours"): ours.long,
        ("long", "ours, shuffled rows"): ours.long_shuffled,
        ("long", "ours, streamed"): ours.long_streamed,
        ("long", "pandas explode"): peers.explode,
        ("long", "copying the bytes"): copied(long),
        ("wide", "ours"): ours.wide,
        ("wide", "pandas pivot_table"): peers.pivot,
        ("wide", "copying the bytes"): copied(wide),
        ("nested", "ours"): ours.nested,
        **{(shape, f"polars {'explode' if shape == 'long' else 'pivot'}"): step for shape, step in polars.items()},
    }
    del long, wide
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, step in ways.items():
            gc.collect()
            began = time.perf_counter()
            result = step()
            seconds[way].append(time.perf_counter() - began)
            del result
    table: dict[str, dict[str, float]] = {}
    for (shape, name), times in seconds.items():
        table.setdefault(shape, {})[name] = statistics.median(times)
    return table


def machine() -> dict[str, Any]:
    """What a figure means nothing without."""
    versions = {module.__name__: module.__version__ for module in (np, pa, pd)}
    if "polars" in sys.modules:
        versions["polars"] = sys.modules["polars"].__version__
    return {"machine": platform.platform(), "cpus": os.cpu_count(), "python": platform.python_version(), **versions}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--images", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--window", type=int, default=16_384, help="rows that are expanded at once")
    options.add_argument("--json", action="store_true")
    given = options.parse_args()
    seconds = measured(given.images, given.rounds, given.window)
    if given.json:
        print(json.dumps({**machine(), "images": given.images, "tags": TAGS, "seconds": seconds}, indent=1))
        return
    print(" ".join(f"{name}={value}" for name, value in machine().items()))
    print(f"{given.images:,} images, {TAGS} tags each, medians of {given.rounds} interleaved rounds\n")
    print(f"{'shape':8}{'way':24}{'seconds':>9}{'times ours':>12}")
    for shape, ways in seconds.items():
        for name, median in ways.items():
            print(f"{shape:8}{name:24}{median:9.3f}{median / ways['ours']:12.2f}")


if __name__ == "__main__":
    main()
