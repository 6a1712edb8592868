"""Labelled images a second of `imgtag.enrich`, and what each costs in CPU time, against a bare aiohttp pool.

    python benchmarks/throughput.py                       # 20,000 images, 64 in flight, 5 rounds
    python benchmarks/throughput.py --images 5000 --rounds 3 --json

The emulator is a process of its own, without quota, with answers that need no image. The bound is what a good script
does and no more: N workers pull from one iterator, sign TaggingImage, send, decode the JSON; it keeps the answers in a
list, writes no file and survives nothing. Ours reads Parquet, journals each call and answer, and writes the long
Parquet. Rounds are interleaved and medians shown; the machine may be noisy, so compare the ratios. CPU time is that of
this process, all threads; it says more than the speed where the emulator or somebody else has the other cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
from loopback import ACTION, cloud, signed

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi

NO_QUOTA = 5_000  # calls a second: more than either way makes


async def bare(url: str, images: list[str], workers: int) -> list[list[dict[str, Any]]]:
    """The usual good way: a pool of workers over one iterator."""
    left = iter(images)
    found: list[list[dict[str, Any]]] = []

    async def work(session: aiohttp.ClientSession) -> None:
        for image in left:
            query, fields = signed(image)
            async with session.post(f"{url}/?{query}", data=fields) as reply:
                found.append(json.loads(await reply.read())["Data"]["Tags"])

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=workers)) as session:
        await asyncio.gather(*(work(session) for _ in range(workers)))
    return found


def ours(url: str, source: Path, folder: Path, workers: int, *, with_store: bool) -> int:
    """One run, files in and out; the number of images that have tags."""
    report = imgtag.enrich(
        str(source),
        str(folder / f"{uuid.uuid4().hex}.parquet"),
        provider=Viapi(action=ACTION, endpoint=url, credentials=Keys("emulator", "emulator")),
        qps=NO_QUOTA,
        concurrency=workers,
        checkpoint=str(folder / uuid.uuid4().hex) if with_store else None,
        progress=False,
    )
    return report.ok


@dataclass(frozen=True, slots=True)
class Figure:
    """One round of one way."""

    images_per_second: float
    cpu_microseconds: float  # per image


def measured(url: str, images: list[str], arguments: argparse.Namespace) -> dict[str, list[Figure]]:
    """A figure per way and round; the first, uncounted round warms everything up."""
    figures: dict[str, list[Figure]] = {}
    with tempfile.TemporaryDirectory(prefix="imgtag-benchmark-") as name:
        folder = Path(name)
        source = folder / "images.parquet"
        pq.write_table(pa.table({"url": images}), source)
        ways: dict[str, Callable[[], int]] = {
            "bare aiohttp pool": lambda: len(asyncio.run(bare(url, images, arguments.concurrency))),
            "enrich": lambda: ours(url, source, folder, arguments.concurrency, with_store=False),
            "enrich with checkpoint": lambda: ours(url, source, folder, arguments.concurrency, with_store=True),
        }
        for number in range(arguments.rounds + 1):
            for way, run in ways.items():
                began, cpu = time.perf_counter(), time.process_time()
                answered = run()
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
                assert answered == len(images), f"{way}: {answered} of {len(images)} answered"
                if number:
                    figures.setdefault(way, []).append(Figure(len(images) / seconds, cpu / len(images) * 1e6))
    return figures


def summed_up(figures: dict[str, list[Figure]]) -> dict[str, dict[str, float]]:
    """The medians of each way, and how near they come to the first way's: 1 is as fast, or takes as little CPU time."""
    medians = {
        way: (
            statistics.median(each.images_per_second for each in rounds),
            statistics.median(each.cpu_microseconds for each in rounds),
        )
        for way, rounds in figures.items()
    }
    best_speed, best_cpu = next(iter(medians.values()))
    return {
        way: {"images_per_second": speed, "ratio": speed / best_speed, "cpu_us": cpu, "cpu_ratio": best_cpu / cpu}
        for way, (speed, cpu) in medians.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that the emulator waits before it answers")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    images = [
        f"https://bucket.oss-cn-shanghai.aliyuncs.com/photos/{number:09d}.jpg" for number in range(arguments.images)
    ]
    with cloud(qps=None, latency=arguments.latency) as url:
        ways = summed_up(measured(url, images, arguments))
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "aiohttp": aiohttp.__version__,
        "pyarrow": pa.__version__,
        "images": arguments.images,
        "concurrency": arguments.concurrency,
        "rounds": arguments.rounds,
        "latency": arguments.latency,
    }
    if arguments.json:
        json.dump({**about, "ways": ways}, sys.stdout, indent=2)
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    print(f"{'':<24} {'images/s':>10} {'ratio':>7} {'CPU us/image':>13} {'ratio':>7}")
    for way, one in ways.items():
        speed, cpu = f"{one['images_per_second']:>10,.0f}", f"{one['cpu_us']:>13,.0f}"
        print(f"{way:<24} {speed} {one['ratio']:>7.2f} {cpu} {one['cpu_ratio']:>7.2f}")


if __name__ == "__main__":
    main()
