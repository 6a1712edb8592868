"""How a reply goes out over aiohttp: whole, or broken in one of the ways that a fault asks for."""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

from aiohttp import web

from imgtag_pipeline.emulator.faults import Fault
from imgtag_pipeline.emulator.gateway import WireReply

_SLICE: Final = 64 << 10
_PAGE: Final = b"<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>"


def page(status: int, title: str) -> WireReply:
    """A web page as a proxy or a portal sends it instead of the vendor's answer."""
    text = title.encode()
    return WireReply(status, _PAGE % (text, text), content_type="text/html; charset=utf-8", code=f"HTTP{status}")


def drop(request: web.BaseRequest) -> web.StreamResponse:
    """Drop the connection at once (a reset, not a close); what is returned goes nowhere."""
    transport = request.transport
    if transport is not None:
        transport.abort()
    return web.Response()


async def send(request: web.BaseRequest, reply: WireReply) -> web.StreamResponse:
    """Send the reply whole; returns once the last byte was handed to the operating system."""
    headers = dict(reply.headers)
    if reply.is_chunked and request.method != "HEAD":
        return await _send_chunked(request, reply, headers)
    if reply.length is not None:
        headers["Content-Length"] = str(reply.length)
    if reply.content_type:
        headers["Content-Type"] = reply.content_type
    response = web.Response(status=reply.status, body=reply.body or None, headers=headers)
    await response.prepare(request)
    await response.write_eof()
    return response


async def _send_chunked(request: web.BaseRequest, reply: WireReply, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers={**headers, "Content-Type": reply.content_type})
    response.enable_chunked_encoding()
    await response.prepare(request)
    for at in range(0, len(reply.body), _SLICE):
        await response.write(reply.body[at : at + _SLICE])
    await response.write_eof()
    return response


async def send_broken(request: web.BaseRequest, reply: WireReply, fault: Fault) -> web.StreamResponse:
    """Send the reply as the fault asks."""
    if fault.kind == "reset-after":
        return drop(request)
    if fault.kind == "slow":
        return await _send_slowly(request, reply, fault.number(2.0))
    if fault.kind == "endless":
        return await _send_endlessly(request, reply)
    if fault.kind == "cut":
        return await _send_half(request, reply)
    if fault.kind == "garbage":
        reply.body = reply.body[: max(1, len(reply.body) // 2)]
    if fault.kind == "bomb":
        reply.body = gzip.compress(bytes(int(fault.number(256)) << 20), 9)
        reply.headers = {**reply.headers, "Content-Encoding": "gzip"}
    return await send(request, reply)


def _stream(reply: WireReply) -> web.StreamResponse:
    headers = {**reply.headers, "Content-Type": reply.content_type}
    return web.StreamResponse(status=reply.status, headers=headers)


async def _send_slowly(request: web.BaseRequest, reply: WireReply, seconds: float) -> web.StreamResponse:
    response = _stream(reply)
    response.content_length = len(reply.body)
    await response.prepare(request)
    pieces = 20
    step = max(1, len(reply.body) // pieces)
    for at in range(0, len(reply.body), step):
        await asyncio.sleep(seconds / pieces)
        await response.write(reply.body[at : at + step])
    await response.write_eof()
    return response


async def _send_endlessly(request: web.BaseRequest, reply: WireReply) -> web.StreamResponse:
    response = _stream(reply)
    response.enable_chunked_encoding()
    await response.prepare(request)
    while request.transport is not None and not request.transport.is_closing():
        await response.write(b" " * 64)
        await asyncio.sleep(0.005)
    return response


async def _send_half(request: web.BaseRequest, reply: WireReply) -> web.StreamResponse:
    response = _stream(reply)
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
