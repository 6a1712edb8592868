"""Hosts that do not answer: after a few failures in a row one image at a time tries again, the others fail at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from imgtag_pipeline.errors import CallError, TransientError

OPEN_AFTER: Final = 3  # failures in a row
PROBE_EVERY: Final = 1.0  # seconds between two attempts at a host that does not answer
# Failures to connect; what comes later (a reset, a slow answer) is the single image's.
UNREACHABLE: Final = frozenset(("ConnectionRefused", "ConnectTimeout", "ConnectionFailed", "DnsError", "TlsError"))
_MOST_HOSTS: Final = 10_000


@dataclass(slots=True)
class _Host:
    failures: int = 0
    last: CallError | None = None
    next_probe: float = 0.0


class HostCircuit:
    """Remembers which hosts could not be reached. Use it from one event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._hosts: dict[str, _Host] = {}

    def refusal(self, url: str) -> CallError | None:
        """The error to fail with at once; None where the URL may be tried."""
        host = self._hosts.get(host_of(url))
        if host is None or host.failures < OPEN_AFTER or host.last is None:
            return None
        now = self._now()
        if now >= host.next_probe:
            host.next_probe = now + PROBE_EVERY
            return None
        return _like(host.last)

    def note(self, url: str, failure: CallError | None) -> CallError | None:
        """What came of an attempt; gives the failure back, without further attempts where the host is known not to
        answer."""
        name = host_of(url)
        if failure is None or failure.code not in UNREACHABLE:
            self._hosts.pop(name, None)
            return failure
        if name not in self._hosts and len(self._hosts) >= _MOST_HOSTS:
            self._hosts.pop(next(iter(self._hosts)))
        host = self._hosts.setdefault(name, _Host())
        host.failures += 1
        host.last = failure
        if host.failures < OPEN_AFTER:
            return failure
        host.next_probe = max(host.next_probe, self._now() + PROBE_EVERY)
        return _like(failure)


def host_of(url: str) -> str:
    """Scheme, host and port, by which hosts are told apart."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def _like(failure: CallError) -> CallError:
    return TransientError(str(failure), code=failure.code, billing=failure.billing, max_attempts=1)
