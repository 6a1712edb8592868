"""Stopping a run from outside: a handle for any thread, and SIGTERM while a call runs in the main thread."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Stop:
    """Stops the runs that are given it, from any thread, from a signal handler, or from an `on_kill`.

    The first `request()` lets calls in flight finish within the run's `grace`; nothing new is sent. A second one gives
    them up at once. The run keeps every answer that arrived and ends with `Interrupted`, which has `report` and
    `partial`. A handle stays requested: a run that is given it later stops before its first call.

    Examples
    --------
    >>> import imgtag_pipeline as imgtag
    >>> stop = imgtag.Stop()
    >>> stop.is_requested
    False
    >>> stop.request()
    >>> stop.is_requested
    True
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come while its own thread holds it
        self._requests = 0
        self._runs: list[Callable[[], None]] = []

    @property
    def is_requested(self) -> bool:
        """Whether `request` was called."""
        return self._requests > 0

    def request(self) -> None:
        """Stop the runs; called again, give up their calls in flight as well. Returns at once."""
        with self._lock:
            self._requests += 1
            runs = list(self._runs)
        for stop in runs:
            stop()

    @contextlib.contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """While this lasts, requests call `stop`; at once, where one was made before."""
        with self._lock:
            self._runs.append(stop)
            is_late = self.is_requested
        if is_late:
            stop()
        try:
            yield
        finally:
            with self._lock:
                self._runs.remove(stop)


@contextlib.contextmanager
def on_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """While this lasts, SIGTERM calls `stop`, in the main thread only; elsewhere nothing changes.

    A handler that was there is called first; what it raises is raised, and a Ctrl-C of its own (KeyboardInterrupt) is
    left to the caller. A signal that is ignored stays ignored.
    """
    before = signal.getsignal(signal.SIGTERM) if threading.current_thread() is threading.main_thread() else None
    if before is None or before is signal.SIG_IGN:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if callable(before):
            try:
                before(number, frame)
            except KeyboardInterrupt:
                raise
            except BaseException:
                stop()
                raise
        stop()

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, before)
