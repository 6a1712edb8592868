"""What passes between the emulator's core and its families of APIs: a request as received, a reply to send.

A family describes one vendor's gateway. The core owns everything that all gateways share: the socket, quotas, faults,
latency, the clock, and the ledger of what was billed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any, Protocol
from urllib.parse import unquote_plus


@dataclass(slots=True)
class WireRequest:
    """One HTTP request as received: nothing is decoded, neither path nor query nor body.

    `path` is raw and without the query; `query` is raw and without the question mark; `headers` compare without case
    (the first of equal names counts). `host` is the Host header in lower case, without a port; `authority` the same
    as sent. `arrived` is the clock's monotonic time at arrival.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    arrived: float
    host: str
    authority: str


@dataclass(slots=True)
class WireReply:
    """One HTTP reply to send; `code` is the vendor's code for the ledger ("ok" for a success).

    With `is_chunked` the body goes out in chunks without a Content-Length. A Content-Encoding among the headers says
    that the body is encoded already. A HEAD request sends the headers only; its Content-Length is `length`.
    """

    status: int
    body: bytes = b""
    content_type: str = "application/json;charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = "ok"
    request_id: str = ""
    is_billed: bool = False
    is_chunked: bool = False
    length: int | None = None


@dataclass(slots=True)
class Admission:
    """A request whose signature was right: who asks what about which images.

    `account` is the account's name, never a secret; `images` are references without signatures ("oss://bucket/key",
    a URL, "sha256:..." for bytes). A call that is not `is_limited` counts towards no quota (polls, object storage).
    `about` is the object that a call on object storage names. `memo` is whatever the family wants to find again in
    `answer`.
    """

    account: str
    action: str
    images: tuple[str, ...] = ()
    is_limited: bool = True
    memo: Any = None
    about: str = ""


class Refused(Exception):
    """A family refuses a request with one of its documented codes; the core has the family word it as its vendor does.

    `message` replaces the documented message; `details` are further fields of the error body (StringToSign);
    `retry_after` is seconds that a throttled caller is told to wait.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        details: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.details = dict(details or {})
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Documented:
    """An error that a vendor documents: its code, the HTTP status it comes with, and the message."""

    code: str
    status: int
    message: str


class Family(Protocol):
    """One vendor's gateway. The core calls `matches`, then `admit`, then `answer`; `refuse` words every error."""

    name: str
    # code -> how it is worded; every code here can be asked for as a fault: `error:<code>`
    codes: Mapping[str, Documented]
    # the family's code for what all vendors have: "throttle", "arrears", "clock", "internal"
    common: Mapping[str, str]

    def matches(self, request: WireRequest) -> bool:
        """Whether this request is meant for this gateway, decided by method, path, host and names alone."""
        ...

    def admit(self, request: WireRequest) -> Admission:
        """Check signature, clock and nonce and read what is asked, without answering. Raises `Refused`."""
        ...

    async def answer(self, request: WireRequest, admission: Admission) -> WireReply:
        """The answer, `is_billed` included. Raises `Refused`."""
        ...

    def refuse(self, request: WireRequest, refusal: Refused) -> WireReply:
        """The vendor's own form of an error, with `code` and `is_billed` set; must do for requests of any shape."""
        ...


def request_id() -> str:
    """A new request id in the vendors' form: a UUID in upper case."""
    digits = f"{getrandbits(128):032X}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-A{digits[17:20]}-{digits[20:]}"


def pairs(encoded: str) -> list[tuple[str, str]]:
    """The decoded pairs of a query or a form, blank values included, in the order received."""
    if not encoded:
        return []
    found = []
    for pair in encoded.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            found.append((_decoded(name), _decoded(value)))
    return found


def _decoded(text: str) -> str:
    if "%" in text or "+" in text:
        return unquote_plus(text)
    return text
