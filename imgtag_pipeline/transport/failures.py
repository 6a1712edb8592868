"""What a failed request is called and what it may have cost, without a word of what was signed."""

from __future__ import annotations

import asyncio
import errno
import ssl
from dataclasses import dataclass

from imgtag_pipeline.errors import UNLESS_ALLOWED, Billing, CallError, PermanentError, RefusedHereError, TransientError
from imgtag_pipeline.transport.guard import AddressNotPublic, Guard
from imgtag_pipeline.transport.inflate import BadEncoding, TooLarge

# Returned, not raised, by what touches aiohttp: an exception that was never raised there holds none of its frames.
Failure = CallError | asyncio.CancelledError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may take, and how its failures are told."""

    timeout: float
    max_bytes: int
    billing: Billing = "unknown"  # after the request may have been read
    too_large: str = "ReplyTooLarge"
    guard: Guard | None = None
    is_image: bool = False


def failure(error: Exception, host: str, is_sent: bool, limits: Limits) -> CallError:
    """The error to raise for what aiohttp or the body's decoding raised; `is_sent`: the server may have read it."""
    if isinstance(error, AddressNotPublic):
        return RefusedHereError(f"{error}; {UNLESS_ALLOWED}", code="AddressNotPublic")
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


def _reason_after_sending(error: Exception, limits: Limits) -> tuple[str, str]:
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
