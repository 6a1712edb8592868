"""Real processes that share a quota, against a real server that stamps arrivals. Run as a script, it is one caller."""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.model import Quota


@dataclass(frozen=True)
class Seen:
    """What the server saw."""

    calls: int
    worst: int
    used: float


class Recorder:
    """A loopback TCP server in a process of its own: one byte is one call, answered with one byte."""

    def __enter__(self) -> "Recorder":
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self.process.stdout.readline())
        return self

    def __exit__(self, *error) -> None:
        self.process.kill()
        self.process.communicate()

    def arrivals(self) -> list[float]:
        """All stamps; ends the server."""
        out, _ = self.process.communicate("\n", timeout=20)
        return json.loads(out)


def judged(arrivals: list[float], qps: float, seconds: float = 1.0) -> Seen:
    """The worst sliding window, and the share of the quota used in the whole seconds from the first call on."""
    assert arrivals, "no call arrived"
    recent: deque[float] = deque()
    worst = 0
    for at in arrivals:
        recent.append(at)
        while recent[0] <= at - seconds:
            recent.popleft()
        worst = max(worst, len(recent))
    whole = max(1, int(arrivals[-1] - arrivals[0]))
    return Seen(len(arrivals), worst, sum(at < arrivals[0] + whole for at in arrivals) / (qps * whole))


def start_callers(port: int, number: int, *options: object, share: Path | str) -> list[subprocess.Popen]:
    """So many processes that call as quickly as they may, once all of them are ready."""
    callers = [ready_caller(port, *options, share=share) for _ in range(number)]
    for caller in callers:
        go(caller)
    return callers


def ready_caller(port: int, *options: object, share: Path | str) -> subprocess.Popen:
    """A process that has its imports behind it and calls from `go` on."""
    command = [sys.executable, __file__, "call", str(port), "--share", str(share), *map(str, options)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def go(caller: subprocess.Popen) -> None:
    """Let it call."""
    assert caller.stdout.readline() == b"ready\n"
    caller.stdin.write(b"go\n")
    caller.stdin.flush()


async def serve() -> None:
    arrivals: list[float] = []

    async def talk(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(64):
                arrivals.extend([time.monotonic()] * len(data))
                writer.write(data)

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(arrivals), flush=True)


async def call(arguments: argparse.Namespace) -> None:
    limiter = Limiter(clock=SystemClock(), share=arguments.share or None, redis_url=arguments.redis)
    quota = Quota("crowd", arguments.qps)
    end = time.monotonic() + arguments.seconds

    async def work():
        reader, writer = await asyncio.open_connection("127.0.0.1", arguments.port)
        while time.monotonic() < end:
            slot = await limiter.acquire(quota)
            if not slot.sent():
                continue
            writer.write(b"x")
            await reader.readexactly(1)
            slot.replied()
            limiter.succeeded(quota, slot=slot)

    async def stall():
        while arguments.stall:
            await asyncio.sleep(0.83)
            time.sleep(arguments.stall)

    stalling = asyncio.create_task(stall())
    workers = [asyncio.create_task(work()) for _ in range(arguments.workers)]
    await asyncio.wait(workers, timeout=arguments.seconds)
    for task in (stalling, *workers):
        task.cancel()
    ends = await asyncio.gather(stalling, *workers, return_exceptions=True)
    await limiter.aclose()
    for error in ends:
        if isinstance(error, Exception):  # a worker's own; that it was cancelled at the end is none
            raise error


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["serve", "call"])
    parser.add_argument("port", type=int, nargs="?")
    parser.add_argument("--qps", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--stall", type=float, default=0)
    parser.add_argument("--share", default="")
    parser.add_argument("--redis")
    arguments = parser.parse_args()
    if arguments.role == "serve":
        asyncio.run(serve())
        return
    print("ready", flush=True)
    if sys.stdin.readline():
        asyncio.run(call(arguments))


if __name__ == "__main__":
    main()
