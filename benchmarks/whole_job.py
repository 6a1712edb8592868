"""Whole jobs against the bound that the quota gives: a calm one, one that is killed and repeated, a repetition.

    python benchmarks/whole_job.py                       # 2,000 images at 200 and at 500 a second, 3 rounds
    python benchmarks/whole_job.py --rates 200 --images 1000 --rounds 1 --json

The cloud is an emulator in a process of its own that refuses calls above the quota and counts what it bills. The bound
is images / quota seconds and one call an image. Three ways, each a process from its start to its Parquet file:
"imgtag label --checkpoint"; "gather + semaphore", what one writes by hand with asyncio and aiohttp: 64 at a time, five
attempts with exponential backoff, the file at the end; "df.apply", one call after the other, on a tenth of the images.
Rounds are interleaved, medians shown; a killed process gets `kill -9` when half of the images are billed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pandas as pd
import pyarrow as pa
from loopback import ACTION, cloud, signed

LATENCY = 0.05
AT_ONCE, ATTEMPTS = 64, 5
WAYS = ("imgtag label", "gather + semaphore", "df.apply")
FIGURES = {
    "calm: time": "time of a calm run / the bound",
    "calls": "calls of a calm run / images",
    "refused": "calls of a calm run that the cloud refused, per 1,000 images",
    "killed: time": "time of the killed run and its repetition / the bound",
    "paid twice": "images that were billed more than once after kill and repetition, per 1,000",
    "missing": "images without an answer in the end, per 1,000",
    "known: s": "seconds of a further run, when all is known",
    "known: calls": "its calls / images",
}


# --- what one writes by hand ------------------------------------------------------------------------------------------


def apply(url: str, frame: pd.DataFrame) -> pd.Series:
    """One call after the other."""

    def tags(image: str) -> list | None:
        for attempt in range(ATTEMPTS):
            query, fields = signed(image)
            try:
                with urllib.request.urlopen(f"{url}/?{query}", urlencode(fields).encode()) as reply:
                    return json.load(reply)["Data"]["Tags"]
            except urllib.error.HTTPError:
                time.sleep(0.5 * 2**attempt)
        return None

    return frame["url"].apply(tags)


async def gather(url: str, frame: pd.DataFrame) -> list[list | None]:
    """All at once, so many at a time."""
    room = asyncio.Semaphore(AT_ONCE)

    async def tags(session: aiohttp.ClientSession, image: str) -> list | None:
        async with room:
            for attempt in range(ATTEMPTS):
                query, fields = signed(image)
                async with session.post(f"{url}/?{query}", data=fields) as reply:
                    if reply.status == 200:
                        return json.loads(await reply.read())["Data"]["Tags"]
                await asyncio.sleep(0.5 * 2**attempt)
        return None

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        return await asyncio.gather(*(tags(session, image) for image in frame["url"]))


def by_hand(way: str, url: str, source: str, out: str) -> None:
    """A script of the usual kind, whole: read, ask, write."""
    frame = pd.read_parquet(source)
    frame["tags"] = apply(url, frame) if way == "df.apply" else asyncio.run(gather(url, frame))
    frame.to_parquet(out)


# --- the jobs ---------------------------------------------------------------------------------------------------------


def ledger(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/_emulator/ledger") as reply:
        return json.load(reply)


def start(way: str, url: str, folder: Path, rate: float) -> subprocess.Popen:
    """The job as a process; it asks about `in.parquet` and writes `out.parquet`."""
    source, out = str(folder / "in.parquet"), str(folder / "out.parquet")
    if way == "imgtag label":
        command = ["-m", "imgtag_pipeline", "label", source, "--out", out, "--checkpoint", str(folder / "store")]
        command += ["--provider", f"viapi/{ACTION}", "--endpoint", url, "--qps", f"{rate:g}", "--overwrite", "--quiet"]
    else:
        command = [__file__, "--by-hand", way, url, source, out]
    keys = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "emulator", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "emulator"}
    return subprocess.Popen([sys.executable, *command], env={**os.environ, **keys})


def finished(way: str, url: str, folder: Path, rate: float) -> float:
    """Run the job to its end; seconds."""
    began = time.perf_counter()
    if code := start(way, url, folder, rate).wait():
        raise RuntimeError(f"{way} ended with {code}")
    return time.perf_counter() - began


def killed(way: str, url: str, folder: Path, rate: float, half: int) -> float:
    """Run the job until half of it is billed; seconds."""
    began = time.perf_counter()
    process = start(way, url, folder, rate)
    while process.poll() is None and ledger(url)["billed"] < half:
        time.sleep(0.1)
    process.kill()
    process.wait()
    return time.perf_counter() - began


def job(way: str, rate: float, images: int) -> dict[str, float]:
    """All figures of one way at one rate, once."""
    images = images // 10 if way == "df.apply" else images
    bound = images / rate
    with tempfile.TemporaryDirectory(prefix="imgtag-benchmark-") as name:
        folder = Path(name)
        frame = pd.DataFrame({"url": [f"https://img.example.com/{number:09d}.jpg" for number in range(images)]})
        frame.to_parquet(folder / "in.parquet")
        with cloud(qps=rate, latency=LATENCY) as url:
            took = finished(way, url, folder, rate)
            calm = ledger(url)
            known = finished(way, url, folder, rate)
            again = ledger(url)["calls"] - calm["calls"]
        shutil.rmtree(folder / "store", ignore_errors=True)
        with cloud(qps=rate, latency=LATENCY) as url:
            whole = killed(way, url, folder, rate, images // 2) + finished(way, url, folder, rate)
            both = ledger(url)
        return {
            "calm: time": took / bound,
            "calls": calm["calls"] / images,
            "refused": 1000 * (calm["calls"] - calm["by_code"].get("ok", 0)) / images,
            "killed: time": whole / bound,
            "paid twice": 1000 * sum(count > 1 for count in both["billed_by_image"].values()) / images,
            "missing": 1000 * missing(folder / "out.parquet", images) / images,
            "known: s": known,
            "known: calls": again / images,
        }


def missing(out: Path, images: int) -> int:
    """Images that have no tags in the file, in which a row may be a tag or an image."""
    frame = pd.read_parquet(out)
    answered = frame[frame["tag" if "tag" in frame else "tags"].notna()]
    return images - answered["url"].nunique()


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[200, 500])
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--by-hand", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.by_hand:
        by_hand(*arguments.by_hand)
        return
    cells = [(rate, way) for rate in arguments.rates for way in WAYS]
    rounds = [{cell: job(cell[1], cell[0], arguments.images) for cell in cells} for _ in range(arguments.rounds)]
    medians = {
        cell: {name: statistics.median(each[cell][name] for each in rounds) for name in FIGURES} for cell in cells
    }
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "aiohttp": aiohttp.__version__,
        "pyarrow": pa.__version__,
        "images": arguments.images,
        "latency": LATENCY,
        "rounds": arguments.rounds,
    }
    if arguments.json:
        rows = [{"rate": rate, "way": way, **medians[rate, way]} for rate, way in cells]
        json.dump({**about, "figures": FIGURES, "rows": rows}, sys.stdout, indent=2)
        return
    print(", ".join(f"{name} {value}" for name, value in about.items()) + "\n")
    print(f"{'a second':>8}  {'way':<18}" + "".join(f" {name:>12}" for name in FIGURES))
    for rate, way in cells:
        values = [medians[rate, way][name] for name in FIGURES]
        print(f"{rate:>8g}  {way:<18}" + "".join(f" {value:>12.2f}" for value in values))
    print("\n" + "\n".join(f"{name:<13} {meaning}" for name, meaning in FIGURES.items()))


if __name__ == "__main__":
    main()
