"""Downloads of images: redirects are followed by hand, each target checked anew."""

from __future__ import annotations

import asyncio
from http.client import responses
from typing import Final
from urllib.parse import urljoin

from imgtag_pipeline.errors import CallError, PermanentError, TransientError
from imgtag_pipeline.model import Reply, Request
from imgtag_pipeline.transport.calls import Pool, exchange
from imgtag_pipeline.transport.circuit import HostCircuit
from imgtag_pipeline.transport.failures import Failure, Limits

MAX_REDIRECTS: Final = 5
_REDIRECTS: Final = (301, 302, 303, 307, 308)


async def follow(pool: Pool, url: str, limits: Limits, circuit: HostCircuit) -> bytes | Failure:
    """The bytes at the end of at most `MAX_REDIRECTS` redirects, or what to raise."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.timeout
    for _ in range(MAX_REDIRECTS + 1):
        if (refused := circuit.refusal(url)) is not None:
            return refused
        reply = await exchange(pool, Request("GET", url), limits, deadline - loop.time())
        if isinstance(reply, asyncio.CancelledError):
            return reply
        failure = circuit.note(url, reply if isinstance(reply, CallError) else None)
        if failure is not None:
            return failure
        assert isinstance(reply, Reply)
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
