"""How a request is written to a connection, and how its reply is read from it."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from typing import TYPE_CHECKING, Final

from imgtag_pipeline.core.signing.escaping import escape
from imgtag_pipeline.model import Pairs, Reply, Request
from imgtag_pipeline.transport.failures import Limits
from imgtag_pipeline.transport.inflate import Body, TooLarge
from imgtag_pipeline.urls import ascii_url, escaped_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yarl
    from aiohttp.client_proto import ResponseHandler

_LINE: Final = re.compile(r"[^\r\n\0]*")
_PIECE: Final = 64 << 10  # larger bodies go in pieces, so that they do not hold the loop


def url_of(request: Request) -> yarl.URL:
    """The URL as it is sent: the query escaped exactly once, all but A-Z a-z 0-9 - _ . ~. Raises `ValueError`."""
    import yarl

    is_signed = bool(request.query) or any(name.lower() == "authorization" for name, _ in request.headers)
    text = escaped_url(request.url) if is_signed else ascii_url(request.url)
    if request.query:
        query = "&".join([f"{escape(name)}={escape(value)}" for name, value in request.query])
        text += ("&" if "?" in text else "?") + query
    url = yarl.URL(text, encoded=True)
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("not an http or https URL")
    _ = url.port  # raises for a port that is none
    return url


def headers_of(request: Request, url: yarl.URL, user_agent: str) -> Pairs:
    """The request's headers, and those that every request needs. Raises `ValueError` for one that has a line break."""
    names = set()
    for name, value in request.headers:
        names.add(name.lower())
        if not _LINE.fullmatch(name) or not _LINE.fullmatch(value):
            raise ValueError("a header has a line break")
    added: list[tuple[str, str]] = []
    if "host" not in names:
        host = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host or ""
        added.append(("Host", host if url.is_default_port() else f"{host}:{url.port}"))
    if "accept-encoding" not in names:
        added.append(("Accept-Encoding", "gzip, deflate"))
    if "user-agent" not in names:
        added.append(("User-Agent", user_agent))
    if url.user is not None and "authorization" not in names:
        secret = b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
        added.append(("Authorization", f"Basic {secret}"))
    if "content-length" not in names and (request.body or request.method not in ("GET", "HEAD")):
        added.append(("Content-Length", str(len(request.body))))
    return (*added, *request.headers)


async def converse(protocol: ResponseHandler, request: Request, url: yarl.URL, headers: Pairs, limits: Limits) -> Reply:
    """Write the request and read the whole reply, which may come before a large body is written."""
    line = f"{request.method} {url.raw_path_qs} HTTP/1.1"
    protocol.set_response_params(read_until_eof=True, auto_decompress=False)
    if len(request.body) <= _PIECE:
        await _write(protocol, line, headers, request.body)
        return await _read(protocol, limits)
    writing = asyncio.create_task(_write(protocol, line, headers, request.body))
    try:
        return await _read(protocol, limits)
    finally:
        if not writing.done():
            writing.cancel()
            protocol.force_close()
            if protocol.transport is not None:
                protocol.transport.abort()  # else it would wait for a server that takes the rest of the body
        await asyncio.gather(writing, return_exceptions=True)  # what broke it has broken the reading as well


async def _write(protocol: ResponseHandler, line: str, headers: Pairs, body: bytes) -> None:
    from aiohttp.http_writer import StreamWriter
    from multidict import CIMultiDict

    writer = StreamWriter(protocol, asyncio.get_running_loop())
    await writer.write_headers(line, CIMultiDict(headers))
    if len(body) <= _PIECE:
        await writer.write_eof(body)
        return
    whole = memoryview(body)
    for start in range(0, len(body), _PIECE):
        await writer.write(whole[start : start + _PIECE])
    await writer.write_eof()


async def _read(protocol: ResponseHandler, limits: Limits) -> Reply:
    message, payload = await protocol.read()
    while 100 <= message.code < 200 and message.code != 101:  # "continue" and the like come before the answer
        message, payload = await protocol.read()
    headers = _headers(message.headers)
    if limits.is_image and message.code // 100 != 2:
        return Reply(message.code, headers, b"")  # the connection is closed then, for its body was not read
    encoding = headers.get("content-encoding", "")
    length = headers.get("content-length", "")
    if not encoding and length.isdigit() and int(length) > limits.max_bytes:
        raise TooLarge
    body = Body(encoding, limits.max_bytes)
    while piece := await payload.readany():
        body.feed(piece)
    return Reply(message.code, headers, body.finish())


def _headers(received: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in received.items():
        if not value.isascii():  # aiohttp keeps undecodable bytes as surrogates, which no file or table accepts
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
