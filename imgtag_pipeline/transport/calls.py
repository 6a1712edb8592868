"""One HTTP request and its complete reply, by aiohttp's connector and parser.

They are used without aiohttp's session, which takes three times as long for a call and sends some requests a second
time by itself: that could be paid twice and would repeat the nonce. aiohttp's exceptions show signed URLs and headers.
They are turned into our own inside a frame that then ends, so that they are neither cause nor context nor traceback of
what leaves.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from imgtag_pipeline.model import Reply, Request
from imgtag_pipeline.transport import wire
from imgtag_pipeline.transport.failures import Failure, Limits, failure
from imgtag_pipeline.transport.guard import Guard, GuardedResolver

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from aiohttp.connector import Connection

_KNOWN_SERVERS: Final = 256


class Pool:
    """Connections to servers, kept and used again; with a guard only to what that allows."""

    def __init__(self, guard: Guard | None, *, connections: int, connect_timeout: float, user_agent: str) -> None:
        import aiohttp

        self.user_agent = user_agent
        resolver = cast("aiohttp.abc.AbstractResolver", GuardedResolver(guard)) if guard else None
        self._connector = aiohttp.TCPConnector(limit=connections, resolver=resolver)
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._servers: dict[tuple[str, str | None, int | None], aiohttp.ClientRequest] = {}

    async def connect(self, url: yarl.URL) -> Connection:
        """A connection to the URL's server, for the caller to release or close."""
        key = (url.scheme, url.raw_host, url.port)
        server = self._servers.get(key)
        if server is None:
            import aiohttp

            if len(self._servers) >= _KNOWN_SERVERS:
                self._servers.clear()
            # The connector knows a server by a request to it; this one is never sent.
            server = aiohttp.ClientRequest("GET", url.origin(), loop=asyncio.get_running_loop())
            self._servers[key] = server
        return await self._connector.connect(server, traces=[], timeout=self._timeout)

    async def close(self) -> None:
        """Close all connections."""
        await self._connector.close()


@dataclass(slots=True)
class _Progress:
    """How far one request came: from its first byte on a connection, the server may have read it."""

    host: str = "the server"
    is_sent: bool = False


async def exchange(pool: Pool, request: Request, limits: Limits, timeout: float | None = None) -> Reply | Failure:
    """Send once and read the whole reply; what fails is returned, not raised. `timeout`, else that of `limits`."""
    progress = _Progress()
    try:
        async with asyncio.timeout(limits.timeout if timeout is None else timeout):
            return await _exchange(pool, request, limits, progress)
    except asyncio.CancelledError:
        return asyncio.CancelledError()
    except Exception as error:  # every one of them may hold the signed URL, so none may pass
        return failure(error, progress.host, progress.is_sent, limits)


async def _exchange(pool: Pool, request: Request, limits: Limits, progress: _Progress) -> Reply:
    url = wire.url_of(request)
    progress.host = f"{url.raw_host}:{url.port}"
    headers = wire.headers_of(request, url, pool.user_agent)
    if limits.guard is not None:
        limits.guard.check(url.raw_host or "")  # a literal address never reaches the resolver
    connection = await pool.connect(url)
    try:
        assert connection.protocol is not None
        progress.is_sent = True
        reply = await wire.converse(connection.protocol, request, url, headers, limits)
    except BaseException:
        if connection.transport is not None:
            connection.transport.abort()  # `close` would wait for a server that takes the rest of the request
        connection.close()
        raise
    connection.release()  # and close it, unless the server keeps it and all of the reply was read
    return reply
