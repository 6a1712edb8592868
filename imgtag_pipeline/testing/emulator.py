"""A loopback cloud for tests: one call starts it, and everything that it billed can be asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgtag_pipeline.clock import Clock
    from imgtag_pipeline.emulator import Emulator


@contextlib.contextmanager
def running_emulator(*, clock: Clock | None = None, **options: Any) -> Iterator[Emulator]:
    """An emulator in a thread of its own; `options` are those of `EmulatorOptions`, but there is no quota by default.

    Use its `url` as endpoint, `ledger` for what was called and billed, and `faults` to break things.
    """
    from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread

    with run_in_thread(EmulatorOptions(**{"qps": None, **options}), clock=clock) as emulator:
        yield emulator


def environment(emulator: Emulator) -> dict[str, str]:
    """The credentials of the emulator's first account, by the names of the environment variables."""
    from imgtag_pipeline.emulator import credentials

    return credentials(emulator.options.accounts[0])
