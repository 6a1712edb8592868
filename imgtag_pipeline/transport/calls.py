"""One HTTP request and its complete reply, through aiohttp.

aiohttp's exceptions show signed URLs and headers. They are turned into our own inside a frame that then ends, so that
they are neither cause nor context nor traceback of what leaves.
"""

from __future__ import annotations

import asyncio
import io
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from imgtag_pipeline.model import Pairs, Reply, Request
from imgtag_pipeline.transport.failures import Failure, Limits, failure
from imgtag_pipeline.transport.guard import Guard, GuardedResolver
from imgtag_pipeline.transport.inflate import Body, TooLarge
from imgtag_pipeline.urls import ascii_url

if TYPE_CHECKING:
    import aiohttp
    import yarl

_BODY_AS_FILE: Final = 512 << 10  # larger bodies are written in pieces, so that they do not hold the loop


@dataclass(slots=True)
class _Progress:
    """How far one request came: from its first byte on a connection, the server may have read it."""

    is_sent: bool = False


_PROGRESS: Final[ContextVar[_Progress]] = ContextVar("progress")


def open_session(guard: Guard | None, *, connections: int, connect_timeout: float) -> aiohttp.ClientSession:
    """A pool of connections; with a guard it connects only to what that allows."""
    import aiohttp

    class SentOnce(aiohttp.ClientRequest):
        """aiohttp sends an idempotent request again by itself when a kept connection was closed.

        That could be paid twice and would repeat the nonce.
        """

        async def send(self, conn: Any) -> aiohttp.ClientResponse:
            progress = _PROGRESS.get()
            if progress.is_sent:
                raise aiohttp.ServerDisconnectedError
            progress.is_sent = True
            return await super().send(conn)

    resolver = cast("aiohttp.abc.AbstractResolver", GuardedResolver(guard)) if guard else None
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        request_class=SentOnce,
    )


def _wire_url(request: Request) -> yarl.URL:
    """The URL as it is sent: the query escaped exactly once, all but A-Z a-z 0-9 - _ . ~."""
    import yarl

    text = ascii_url(request.url)
    if request.query:
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in request.query)
        text += ("&" if "?" in text else "?") + query
    url = yarl.URL(text, encoded=True)
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("not an http or https URL")
    _ = url.port  # raises for a port that is none
    return url


def _refuse_line_breaks(headers: Pairs) -> None:
    # aiohttp refuses them too, but only when it has a connection and the call would have to count as sent.
    if any(mark in text for pair in headers for text in pair for mark in "\r\n\0"):
        raise ValueError("a header has a line break")


async def exchange(
    session: aiohttp.ClientSession, request: Request, headers: Pairs, limits: Limits, timeout: float | None = None
) -> Reply | Failure:
    """Send once and read the whole reply; what fails is returned, not raised. `timeout`, else that of `limits`."""
    progress = _Progress()
    _PROGRESS.set(progress)
    host = "the server"
    try:
        url = _wire_url(request)
        _refuse_line_breaks(headers)
        host = f"{url.raw_host}:{url.port}"
        if limits.guard is not None:
            limits.guard.check(url.raw_host or "")  # a literal address never reaches the resolver
        body = io.BytesIO(request.body) if len(request.body) > _BODY_AS_FILE else request.body or None
        async with (
            asyncio.timeout(limits.timeout if timeout is None else timeout),
            session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as response,
        ):
            try:
                content = await _read(response, limits)
            except BaseException:
                response.close()
                raise
            return Reply(response.status, _reply_headers(response), content)
    except asyncio.CancelledError:
        return asyncio.CancelledError()
    except Exception as error:  # every one of them may hold the signed URL, so none may pass
        return failure(error, host, progress.is_sent, limits)


async def _read(response: aiohttp.ClientResponse, limits: Limits) -> bytes:
    if limits.is_image and response.status // 100 != 2:
        response.close()
        return b""
    body = Body(response.headers.get("Content-Encoding", ""), limits.max_bytes)
    if (response.content_length or 0) > limits.max_bytes and "Content-Encoding" not in response.headers:
        raise TooLarge
    async for piece in response.content.iter_any():
        body.feed(piece)
    return body.finish()


def _reply_headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        if not value.isascii():  # aiohttp keeps undecodable bytes as surrogates, which no file or table accepts
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
