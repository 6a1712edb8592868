"""How much of a quota is used, and how often it is passed, as a server in another process counts sliding seconds.

    python benchmarks/pacing.py                            # 10, 50, 500, 2000 a second, 10 s each: about 4 minutes
    python benchmarks/pacing.py --rates 10 50 --seconds 5 --json
    python benchmarks/pacing.py --random                   # a vendor that refuses 5, 10 or 20 % at random: 6 minutes

The bound is the quota: 100 % used, and no sliding second above it. "in-process" and "host" are our limiter, alone and
with the file that processes share; "host x 2" are two processes that share it, "redis x 2" two that share it through a
Redis (left out when there is no redis-server). "lock + sleep" is what one writes by hand: a lock, and a sleep of
1 / quota for each call. "CPU" is that of the callers, with their sockets and their start; the difference between the
rows of one quota is the pacing. With `--random` the server keeps to the quota and refuses a share of the calls at
random, and the pace is told as a share of what then can be answered. Everything runs on this machine, so the round
trip is a fraction of a millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator

from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.model import Quota

WAYS = ("lock + sleep", "in-process", "host", "host x 2", "redis x 2")
CONNECTIONS = 32
SHARES = (0.05, 0.10, 0.20)  # refused at random


async def record(rate: float = 0.0, refuses: float = 0.0) -> None:
    """The server: one byte is one call, answered with one byte; the stamps are printed at the end.

    With `refuses`, calls above `rate` in a sliding second are answered "n", and so is this share of the others.
    """
    stamps: list[float] = []
    recent: deque[float] = deque()

    def answer(data: bytes) -> bytes:
        if not refuses:
            return data
        now = time.monotonic()
        while recent and recent[0] <= now - 1:
            recent.popleft()
        if len(recent) >= rate:
            return b"n" * len(data)
        recent.extend([now] * len(data))
        return b"n" if random.random() < refuses else b"y"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(64):
                stamps.extend([time.monotonic()] * len(data))
                writer.write(answer(data))

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(stamps), flush=True)


async def call(port: int, rate: float, seconds: float, way: str, place: str) -> None:
    """Call as quickly as this way allows, then print the CPU seconds used."""
    limiter = Limiter(
        clock=SystemClock(),
        share=place if way.startswith("host") else None,
        redis_url=place if way.startswith("redis") else None,
    )
    quota = Quota("benchmark", rate)
    lock = asyncio.Lock()
    began, calls, refused = time.process_time(), 0, 0

    async def work() -> None:
        nonlocal calls, refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            if way == "lock + sleep":
                async with lock:
                    await asyncio.sleep(1 / rate)
            else:
                slot = await limiter.acquire(quota)
                if not slot.sent():
                    continue
            writer.write(b"x")
            answer = await reader.readexactly(1)
            calls += 1
            refused += answer == b"n"
            if way != "lock + sleep":
                slot.replied()
                (limiter.throttled if answer == b"n" else limiter.succeeded)(quota, slot=slot)

    workers = [asyncio.create_task(work()) for _ in range(CONNECTIONS)]
    await asyncio.wait(workers, timeout=seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    await limiter.aclose()
    print(json.dumps([calls, time.process_time() - began, refused]), flush=True)


def judged(stamps: list[float], rate: float) -> dict[str, float]:
    """Use in the whole seconds from the first call on, the worst window, and the calls that came above the quota."""
    recent: deque[float] = deque()
    worst = above = 0
    for at in stamps:
        recent.append(at)
        while recent[0] <= at - 1:
            recent.popleft()
        worst = max(worst, len(recent))
        above += len(recent) > rate
    whole = max(1, int(stamps[-1] - stamps[0]))
    return {"used": sum(at < stamps[0] + whole for at in stamps) / (rate * whole), "worst": worst, "above": above}


@contextlib.contextmanager
def meeting_place(way: str) -> Iterator[str]:
    """Where the processes meet: a folder, or a Redis of our own."""
    with tempfile.TemporaryDirectory() as folder:
        if not way.startswith("redis"):
            yield folder
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1", "--dir", folder]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            time.sleep(1)
            yield f"redis://127.0.0.1:{port}/0"
            server.kill()


def measure(way: str, rate: float, seconds: float, refuses: float = 0.0) -> dict[str, object]:
    """One row: this way at this rate, at a server that refuses this share at random."""
    me = [sys.executable, __file__]
    with meeting_place(way) as folder:
        server = subprocess.Popen(
            [*me, "--record", str(rate), str(refuses)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        port = server.stdout.readline().strip()
        command = [*me, "--call", port, str(rate), str(seconds), way, folder]
        number = 2 if way.endswith("x 2") else 1
        callers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        said = [json.loads(caller.communicate()[0]) for caller in callers]
        stamps = json.loads(server.communicate("\n")[0])
    calls, refused = sum(one[0] for one in said), sum(one[2] for one in said)
    cpu = 1e6 * sum(one[1] for one in said) / max(1, calls)
    row = {"way": way, "rate": rate, **judged(stamps, rate), "cpu_microseconds_per_call": round(cpu)}
    if refuses:
        row |= {"refuses": refuses, "refused": refused / max(1, calls)}
        row["used"] = (calls - refused) / (rate * seconds * (1 - refuses))
    return row


def measure_random(rates: list[float], seconds: float, rounds: int) -> list[dict[str, object]]:
    """The rows of `--random`: medians of so many rounds, the shares in turn."""
    found: dict[tuple[float, float], list[dict[str, object]]] = {}
    for _ in range(rounds):
        for rate in rates:
            for share in SHARES:
                found.setdefault((rate, share), []).append(measure("in-process", rate, seconds, share))
    return [
        {"rate": rate, "refuses": share}
        | {name: statistics.median(row[name] for row in rows) for name in ("used", "refused")}
        for (rate, share), rows in found.items()
    ]


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 50, 500, 2000])
    parser.add_argument("--seconds", type=float, default=10.5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--random", action="store_true", help="a vendor that refuses at random, at 60 a second")
    parser.add_argument("--rounds", type=int, default=3, help="of --random")
    parser.add_argument("--record", type=float, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        asyncio.run(record(*arguments.record))
        return
    if arguments.call:
        port, rate, seconds, way, folder = arguments.call
        asyncio.run(call(int(port), float(rate), float(seconds), way, folder))
        return
    if arguments.random:
        rows = measure_random([60.0], max(40.0, arguments.seconds), arguments.rounds)
        if arguments.json:
            print(json.dumps(rows, indent=1))
            return
        print(f"{'quota':>7}{'refused at random':>19}{'of the possible pace':>22}{'throttled':>11}{'at most':>9}")
        for row in rows:
            shown = f"{row['used']:22.2f}{row['refused']:11.1%}{1.2 * row['refuses']:9.1%}"
            print(f"{row['rate']:5.0f}/s{row['refuses']:19.0%}{shown}")
        return
    ways = [way for way in WAYS if not way.startswith("redis") or shutil.which("redis-server")]
    rows = [measure(way, rate, arguments.seconds) for rate in arguments.rates for way in ways]
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=1))
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"\n{'quota':>7}  {'way':14}{'used':>8}{'worst second':>14}{'calls above':>13}{'CPU us a call':>15}")
    for row in rows:
        print(
            f"{row['rate']:5.0f}/s  {row['way']:14}{row['used']:8.1%}{row['worst']:14d}{row['above']:13d}"
            f"{row['cpu_microseconds_per_call']:15d}"
        )


if __name__ == "__main__":
    main()
