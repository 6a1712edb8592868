"""How much of a quota is used, and how often it is passed, as a server in another process counts sliding seconds.

    python benchmarks/pacing.py                            # 10, 50, 500, 2000 a second, 10 s each
    python benchmarks/pacing.py --rates 10 50 --seconds 5 --json

The bound is the quota: use 1.000 with no window above it. "in-process" and "host" are our limiter, "host x 2" two
processes that share it, "lock + sleep" is what one writes by hand: a lock, and a sleep of 1 / quota after each call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import deque

from imgtag_pipeline.clock import SystemClock
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.model import Quota

WAYS = ("in-process", "host", "host x 2", "lock + sleep")
CONNECTIONS = 32


async def record() -> None:
    """The server: one byte is one call, answered with one byte; the stamps are printed at the end."""
    stamps: list[float] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(64):
                stamps.extend([time.monotonic()] * len(data))
                writer.write(data)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(stamps), flush=True)


async def call(port: int, rate: float, seconds: float, way: str, folder: str) -> None:
    """Call as quickly as this way allows, then print the CPU seconds used."""
    limiter = Limiter(clock=SystemClock(), share=folder if way.startswith("host") else None)
    quota = Quota("benchmark", rate)
    lock = asyncio.Lock()
    began, calls = time.process_time(), 0

    async def work() -> None:
        nonlocal calls
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
            await reader.readexactly(1)
            calls += 1
            if way != "lock + sleep":
                slot.replied()
                limiter.succeeded(quota, slot=slot)

    workers = [asyncio.create_task(work()) for _ in range(CONNECTIONS)]
    await asyncio.wait(workers, timeout=seconds)
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    await limiter.aclose()
    print(json.dumps([calls, time.process_time() - began]), flush=True)


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


def measure(way: str, rate: float, seconds: float) -> dict[str, object]:
    """One row: this way at this rate."""
    me = [sys.executable, __file__]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([*me, "--record"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = server.stdout.readline().strip()
        command = [*me, "--call", port, str(rate), str(seconds), way, folder]
        number = 2 if way.endswith("x 2") else 1
        callers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(number)]
        said = [json.loads(caller.communicate()[0]) for caller in callers]
        stamps = json.loads(server.communicate("\n")[0])
    cpu = 1000 * sum(seconds for _, seconds in said) / max(1, sum(calls for calls, _ in said))
    return {"way": way, "rate": rate, **judged(stamps, rate), "cpu_seconds_per_1000": round(cpu, 3)}


def main() -> None:
    """Print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 50, 500, 2000])
    parser.add_argument("--seconds", type=float, default=10.5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--call", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.record:
        asyncio.run(record())
        return
    if arguments.call:
        port, rate, seconds, way, folder = arguments.call
        asyncio.run(call(int(port), float(rate), float(seconds), way, folder))
        return
    rows = [measure(way, rate, arguments.seconds) for rate in arguments.rates for way in WAYS]
    machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
    if arguments.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=1))
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{'quota':>6}  {'way':14} {'used':>6} {'worst second':>13} {'calls above':>12} {'CPU s / 1,000':>14}")
    for row in rows:
        print(
            f"{row['rate']:6.0f}  {row['way']:14} {row['used']:6.3f} {row['worst']:13d} {row['above']:12d} "
            f"{row['cpu_seconds_per_1000']:14.3f}"
        )


if __name__ == "__main__":
    main()
