"""A small process that imports the package once and forks `imgtag` processes on demand, which so start quickly.

Reads a JSON line per wish: {"argv", "stdout", "stderr", "env", "synced", "max_file_bytes"} starts one and is answered
with its pid; {"pid", "signal"} sends it a signal while it lives. Says "PID CODE" when one has ended. The file `synced`
gets a line "INODE BYTES" for each sync of a file: so much of it outlives a power cut.
"""

import contextlib
import io
import json
import os
import resource
import select
import signal
import sys

import aiohttp  # noqa: F401
import pandas  # noqa: F401
import pyarrow.parquet

from imgtag_pipeline import api, cli  # noqa: F401


def serve() -> None:
    """Until standard input ends; whoever still runs then is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm_up()
    assert len(os.listdir("/proc/self/task")) == 1, "only a process without threads may be forked"
    living: dict[int, int] = {}
    pending = b""
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([0, *living], [], [])
        for handle in ready:
            if handle:
                pid = living.pop(handle)
                os.close(handle)
                print(pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        if 0 not in ready:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            for pid in living.values():
                os.kill(pid, signal.SIGKILL)
            return
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            wish = json.loads(line)
            if "signal" in wish:
                if wish["pid"] in living.values():
                    os.kill(wish["pid"], wish["signal"])
                continue
            pid = os.fork()
            if not pid:
                become(wish)
            living[os.pidfd_open(pid)] = pid
            print("pid", pid, flush=True)


def warm_up() -> None:
    """Let the command line load what it loads at its first use."""
    sys.argv = ["imgtag", "providers", "--json"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.main()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def become(wish: dict) -> None:
    """In the child: what `python -m imgtag_pipeline ARGV` does after its imports."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for target, name in ((1, wish["stdout"]), (2, wish["stderr"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), target)
    os.closerange(3, 64)
    os.environ.update(wish["env"])
    tell_syncs(wish["synced"])
    if wish["max_file_bytes"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (wish["max_file_bytes"],) * 2)
    sys.argv = ["imgtag", *wish["argv"]]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


def tell_syncs(name: str) -> None:
    """Write down after each sync what it was about."""
    log = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    sync = os.fdatasync

    def told(handle: int) -> None:
        file = os.fstat(handle)
        sync(handle)
        os.write(log, f"{file.st_ino} {file.st_size}\n".encode())

    os.fdatasync = told


if __name__ == "__main__":
    assert pyarrow.parquet
    serve()
