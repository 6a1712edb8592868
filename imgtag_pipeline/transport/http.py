"""HTTP, the only home of aiohttp's client: sends a signed request, downloads an image, says what a failure may cost."""

from __future__ import annotations

from typing import Final, Self

from imgtag_pipeline.model import Reply, Request
from imgtag_pipeline.transport.calls import Pool, exchange
from imgtag_pipeline.transport.circuit import HostCircuit
from imgtag_pipeline.transport.downloads import follow
from imgtag_pipeline.transport.failures import Limits
from imgtag_pipeline.transport.guard import Guard

USER_AGENT: Final = "imgtag_pipeline"
_LOST: Final = "the transport is not open; use `async with Transport() as transport`"


class Transport:
    """One pool of connections; an async context manager.

    Nothing is retried and no redirect is followed by itself, no cookie is kept, no proxy is taken from the
    environment. Downloads connect to addresses of the public network only (or to what a `guard` of one's own allows)
    unless `allow_private`; calls to providers go where the caller configured them, and are not restricted.
    """

    def __init__(
        self,
        *,
        connections: int = 64,
        connect_timeout: float = 10.0,
        allow_private: bool = False,
        guard: Guard | None = None,
        user_agent: str = USER_AGENT,
    ) -> None:
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._guard = guard or (None if allow_private else Guard())
        self._user_agent = user_agent
        self._circuit = HostCircuit()
        self._calls: Pool | None = None
        self._downloads: Pool | None = None

    async def __aenter__(self) -> Self:
        self._calls = self._open(None)
        self._downloads = self._open(self._guard) if self._guard else self._calls
        return self

    async def __aexit__(self, *_: object) -> None:
        pools = (self._calls, self._downloads)
        self._calls = self._downloads = None
        for pool in pools:
            if pool is not None:
                await pool.close()

    def _open(self, guard: Guard | None) -> Pool:
        return Pool(
            guard,
            connections=self._connections,
            connect_timeout=self._connect_timeout,
            user_agent=self._user_agent,
        )

    async def send(self, request: Request, *, timeout: float, max_bytes: int) -> Reply:
        """Send once and return the complete reply, whatever its status.

        Raises a `CallError` whose `billing` is "no" when the request cannot have been read, else "unknown".
        `max_bytes` caps the decompressed body, `timeout` the whole time.
        """
        if self._calls is None:
            raise RuntimeError(_LOST)
        outcome = await exchange(self._calls, request, Limits(timeout, max_bytes))
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    async def download(self, url: str, *, max_bytes: int, timeout: float) -> bytes:
        """An image's bytes by http or https, after at most `MAX_REDIRECTS` redirects, each of them checked anew.

        Raises a `PermanentError` ("HTTP404", "ImageTooLarge"; `RefusedHereError` for "AddressNotPublic") or a
        `TransientError`; never billed. What the bytes are is not looked at.
        """
        if self._downloads is None:
            raise RuntimeError(_LOST)
        limits = Limits(timeout, max_bytes, "no", "ImageTooLarge", self._guard, is_image=True)
        outcome = await follow(self._downloads, url, limits, self._circuit)
        del url  # it may be signed, and this frame is in the traceback
        if isinstance(outcome, bytes):
            return outcome
        raise outcome
