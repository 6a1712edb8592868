"""HTTP, the only home of aiohttp's client: sends a signed request, downloads an image, says what a failure may cost.

aiohttp's exceptions show signed URLs and headers. They are turned into our own inside a frame that then ends, so that
they are neither cause nor context nor traceback of what leaves.
"""

from __future__ import annotations

import asyncio
import errno
import io
import ssl
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import quote, urljoin

from imgtag_pipeline.errors import Billing, CallError, PermanentError, TransientError
from imgtag_pipeline.model import Pairs, Reply, Request
from imgtag_pipeline.transport.guard import AddressNotPublic, Guard, GuardedResolver
from imgtag_pipeline.transport.inflate import BadEncoding, Body, TooLarge
from imgtag_pipeline.urls import ascii_url

if TYPE_CHECKING:
    import aiohttp
    import yarl

USER_AGENT: Final = "imgtag_pipeline"
MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_BODY_AS_FILE: Final = 512 << 10  # larger bodies are written in pieces, so that they do not hold the loop
_LOST: Final = "the transport is not open; use `async with Transport() as transport`"

# Returned, not raised, by what touches aiohttp: an exception that was never raised there holds none of its frames.
_Failure = CallError | asyncio.CancelledError


@dataclass(slots=True)
class _Progress:
    """How far one request came: from its first byte on a connection, the server may have read it."""

    is_sent: bool = False


_PROGRESS: Final[ContextVar[_Progress]] = ContextVar("progress")


@dataclass(frozen=True, slots=True)
class _Limits:
    """What one request may take, and how its failures are told."""

    timeout: float
    max_bytes: int
    billing: Billing = "unknown"  # after the request may have been read
    too_large: str = "ReplyTooLarge"
    guard: Guard | None = None
    is_image: bool = False


class Transport:
    """One pool of connections; an async context manager.

    Nothing is retried and no redirect is followed by itself, no cookie is kept, no proxy is taken from the
    environment. With `public_only` (or a `guard` of one's own) downloads connect to addresses of the public network
    only; calls to providers are not restricted.
    """

    def __init__(
        self,
        *,
        connections: int = 64,
        connect_timeout: float = 10.0,
        public_only: bool = False,
        guard: Guard | None = None,
        user_agent: str = USER_AGENT,
    ) -> None:
        self._connections = connections
        self._connect_timeout = connect_timeout
        self._guard = guard or (Guard() if public_only else None)
        self._user_agent = user_agent
        self._calls: aiohttp.ClientSession | None = None
        self._downloads: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._calls = self._open(None)
        self._downloads = self._open(self._guard) if self._guard else self._calls
        return self

    async def __aexit__(self, *_: object) -> None:
        sessions = (self._calls, self._downloads)
        self._calls = self._downloads = None
        for session in sessions:
            if session is not None:
                await session.close()

    def _open(self, guard: Guard | None) -> aiohttp.ClientSession:
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
            connector=aiohttp.TCPConnector(limit=self._connections, resolver=resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            request_class=SentOnce,
        )

    async def send(self, request: Request, *, timeout: float, max_bytes: int) -> Reply:
        """Send once and return the complete reply, whatever its status.

        Raises a `CallError` whose `billing` is "no" when the request cannot have been read, else "unknown".
        `max_bytes` caps the decompressed body, `timeout` the whole time.
        """
        if self._calls is None:
            raise RuntimeError(_LOST)
        limits = _Limits(timeout, max_bytes)
        outcome = await _exchange(self._calls, request, self._headers(request.headers), limits)
        if isinstance(outcome, Reply):
            return outcome
        raise outcome

    async def download(self, url: str, *, max_bytes: int, timeout: float) -> bytes:
        """An image's bytes by http or https, after at most `MAX_REDIRECTS` redirects, each of them checked anew.

        Raises a `PermanentError` ("HTTP404", "ImageTooLarge", "AddressNotPublic") or a `TransientError`; never
        billed. What the bytes are is not looked at.
        """
        if self._downloads is None:
            raise RuntimeError(_LOST)
        limits = _Limits(timeout, max_bytes, "no", "ImageTooLarge", self._guard, is_image=True)
        outcome = await _follow(self._downloads, url, self._headers(()), limits)
        del url  # it may be signed, and this frame is in the traceback
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    def _headers(self, given: Pairs) -> Pairs:
        names = {name.lower() for name, _ in given}
        ours = (("Accept-Encoding", "gzip, deflate"), ("User-Agent", self._user_agent))
        return given + tuple(pair for pair in ours if pair[0].lower() not in names)


async def _follow(session: aiohttp.ClientSession, url: str, headers: Pairs, limits: _Limits) -> bytes | _Failure:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.timeout
    for _ in range(MAX_REDIRECTS + 1):
        reply = await _exchange(session, Request("GET", url), headers, limits, deadline - loop.time())
        if not isinstance(reply, Reply):
            return reply
        target = reply.headers.get("location")
        if reply.status not in _REDIRECTS or target is None:
            return reply.body if reply.status // 100 == 2 else _refusal(reply)
        try:
            url = urljoin(url, target)
        except ValueError:
            return PermanentError("the image's server redirects to a malformed URL", code="BadUrl")
    return PermanentError(
        f"the image's server redirects more than {MAX_REDIRECTS} times; give the final URL", code="TooManyRedirects"
    )


def _refusal(reply: Reply) -> CallError:
    code = f"HTTP{reply.status}"
    message = f"the image's server answered {reply.status} ({responses.get(reply.status, 'unknown status')})"
    if reply.status < 500 and reply.status not in (408, 425, 429):
        return PermanentError(message, code=code)
    wait = reply.headers.get("retry-after", "")
    return TransientError(message, code=code, retry_after=float(wait) if wait.isascii() and wait.isdigit() else None)


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


async def _exchange(
    session: aiohttp.ClientSession, request: Request, headers: Pairs, limits: _Limits, timeout: float | None = None
) -> Reply | _Failure:
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
        return _failure(error, host, progress.is_sent, limits)


async def _read(response: aiohttp.ClientResponse, limits: _Limits) -> bytes:
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


def _failure(error: Exception, host: str, is_sent: bool, limits: _Limits) -> CallError:
    if isinstance(error, AddressNotPublic):
        return PermanentError(f"{error}; only such are downloaded from here", code="AddressNotPublic")
    if isinstance(error, TooLarge):
        message = f"the reply of {host} is larger than the {limits.max_bytes} bytes allowed"
        return PermanentError(message, code=limits.too_large, billing=limits.billing)
    if is_sent:
        code, what = _reason_after_sending(error, limits)
        return TransientError(f"no complete reply from {host}: {what}", code=code, billing=limits.billing)
    if isinstance(error, ValueError):
        return PermanentError(f"the request to {host} cannot be sent: its URL or a header is malformed", code="BadUrl")
    code, what = _reason_before_sending(error)
    return TransientError(f"no connection to {host}: {what}", code=code)


def _reason_after_sending(error: Exception, limits: _Limits) -> tuple[str, str]:
    import aiohttp

    if isinstance(error, TimeoutError):
        return "ReadTimeout", f"nothing complete within {limits.timeout:g} s"
    if isinstance(error, BadEncoding):
        return "BadEncoding", str(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return "BodyCut", "the body stopped before its announced end"
    if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
        return "ConnectionReset", "the connection was closed"
    return "BadReply", "the answer is not valid HTTP"


def _reason_before_sending(error: Exception) -> tuple[str, str]:
    import aiohttp

    if isinstance(error, TimeoutError):
        return "ConnectTimeout", "not connected in time"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "DnsError", "the name was not resolved"
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch, ssl.SSLError)):
        return "TlsError", "the TLS handshake failed"
    if isinstance(error, OSError) and error.errno == errno.ECONNREFUSED:
        return "ConnectionRefused", "refused"
    name = errno.errorcode.get(error.errno or 0, "closed") if isinstance(error, OSError) else type(error).__name__
    return "ConnectionFailed", name
