"""Ways to run an emulator: in a thread beside a test or a notebook, or in the foreground until it is interrupted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.emulator.options import Account, EmulatorOptions
from imgtag_pipeline.emulator.server import Emulator
from imgtag_pipeline.errors import ConfigError


@contextlib.contextmanager
def run_in_thread(options: EmulatorOptions | None = None, *, clock: Clock | None = None) -> Iterator[Emulator]:
    """An emulator that runs in a thread of its own for the duration of a `with`; it has `url`, `ledger`, `faults`."""
    emulator = Emulator(options, clock=clock)
    ready = threading.Event()
    failures: list[BaseException] = []
    stopping: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        stop = asyncio.Event()
        try:
            await emulator.start()
        except OSError as error:
            failures.append(error)
            return
        finally:
            stopping.append((asyncio.get_running_loop(), stop))
            ready.set()
        await stop.wait()
        await emulator.stop()

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="imgtag-emulator", daemon=True)
    thread.start()
    ready.wait()
    if failures:
        raise failures[0]
    try:
        yield emulator
    finally:
        loop, stop = stopping[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=10)


def serve(options: EmulatorOptions, announce: Callable[[str], None]) -> None:
    """Run in the foreground until Ctrl-C or SIGTERM; `announce` is handed the address once it listens.

    Raises `ConfigError` when the port is taken or an option is wrong.
    """

    async def run() -> None:
        stop = asyncio.Event()
        emulator = Emulator(options)
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows; not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        try:
            await emulator.start()
        except OSError as error:
            place = f"{options.host}:{options.port}"
            raise ConfigError(f"cannot listen on {place} ({error.strerror}); choose another port, 0 for any") from None
        try:
            announce(emulator.url)
            await stop.wait()
        finally:
            await emulator.stop()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


def credentials(account: Account | None = None) -> dict[str, str]:
    """The environment variables of all providers, with an account of the emulator; these keys are made up."""
    account = account or Account()
    tokens = {}
    if account.security_token:
        tokens = {
            "ALIBABA_CLOUD_SECURITY_TOKEN": account.security_token,
            "OSS_SESSION_TOKEN": account.security_token,
        }
    return {
        "ALIBABA_CLOUD_ACCESS_KEY_ID": account.key_id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": account.secret,
        "OSS_ACCESS_KEY_ID": account.key_id,
        "OSS_ACCESS_KEY_SECRET": account.secret,
        "TENCENT_APP_ID": account.app_id,
        "TENCENT_SECRET_ID": account.key_id,
        "TENCENT_SECRET_KEY": account.secret,
        **tokens,
    }


def exports(url: str, account: Account | None = None) -> list[str]:
    """The shell lines that set the credentials of an emulator, and say at the end how to point a run at it."""
    verb = "set" if os.name == "nt" else "export"
    lines = [f"{verb} {name}={value}" for name, value in credentials(account).items()]
    return [*lines, f"# imgtag label IN --endpoint {url} ..."]
