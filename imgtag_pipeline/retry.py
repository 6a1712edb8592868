"""One call until it is answered for good: paced, marked, signed anew, and repeated by what a repetition may cost.

Not billed: again within a time limit. Unknown: at most `max_paid_attempts`, counted as paid. Billed: never.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from imgtag_pipeline.clock import Clock
from imgtag_pipeline.errors import (
    Billing,
    CallError,
    ClockSkewError,
    ConfigError,
    CredentialsExpiredError,
    FatalError,
    PermanentError,
    ThrottledError,
)
from imgtag_pipeline.model import Call, Moment, Quota, Reply, Request
from imgtag_pipeline.report import Spent, Tally

READ_ATTEMPTS = 3
MENDS = 2


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long and how often one image is tried; seconds.

    Unbilled failures are repeated until `time_limit` after the first one, throttled ones until `throttle_limit`; a call
    that may have been billed is made at most `max_paid_attempts` times. Waits have full jitter: uniform between 0 and
    `base * 2**n`, at most `cap`.
    """

    max_paid_attempts: int = 2
    time_limit: float = 60.0
    throttle_limit: float = 900.0
    base: float = 0.5
    cap: float = 20.0

    def __post_init__(self) -> None:
        if self.max_paid_attempts < 1:
            raise ConfigError(f"max_paid_attempts is {self.max_paid_attempts}; allowed: 1 or more")
        if not 0 <= self.time_limit <= 86_400:
            raise ConfigError(f"time_limit is {self.time_limit}; allowed: 0 to 86,400 seconds")


class Slot(Protocol):
    """The leave to send one call now."""

    def sent(self) -> bool:
        """The bytes leave now. False: this leave has lapsed, ask for another."""
        ...

    def unused(self) -> None:
        """No call was made with it."""
        ...

    def replied(self) -> None:
        """The reply is here, or there will be none."""
        ...


class Pacer(Protocol):
    """Gives leave to send, so that a quota is never passed."""

    async def acquire(self, quota: Quota) -> Slot:
        """Wait until one call may be sent."""
        ...

    def throttled(self, quota: Quota, retry_after: float | None = None, *, slot: Slot | None = None) -> None:
        """The vendor said: too fast."""
        ...

    def succeeded(self, quota: Quota, *, slot: Slot | None = None) -> None:
        """The vendor took the call."""
        ...


class Purse(Protocol):
    """Guards the caps: reserves before a call is sent, settles after."""

    async def reserve(self) -> Any:
        """Set one call aside; raises `CapReached` when there is none left."""
        ...

    async def settle(self, ticket: Any, billed: Billing) -> int | None:
        """What the call came to, in micro-yuan (None: price unknown)."""
        ...

    async def cancel(self, ticket: Any) -> None:
        """The call was not sent after all."""
        ...


class Signer(Protocol):
    """The part of a provider that this stage needs."""

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its signature."""
        ...

    def check(self, call: Call, reply: Reply) -> None:
        """Raise what the reply's code stands for."""
        ...


class Stopping(Exception):
    """Inside the pipeline only: the run is stopping, nothing more is sent."""


@dataclass(slots=True)
class Caller:
    """Sends the calls of one run. `qps` is the caller's share of the quota named `share_of`."""

    provider: Signer
    send: Callable[..., Awaitable[Reply]]
    fetch: Callable[..., Awaitable[bytes]]
    pacer: Pacer
    purse: Purse
    mark_sent: Callable[[Sequence[str]], Awaitable[None]]
    clock: Clock
    policy: RetryPolicy
    tally: Tally
    is_stopping: Callable[[], bool]
    on_sending: Callable[[int], None] = lambda change: None
    refresh: Callable[[], Awaitable[bool]] | None = None
    qps: float | None = None
    share_of: str | None = None
    random: Callable[[], float] = random.random
    nonce: Callable[[], str] = lambda: uuid.uuid4().hex
    skew: timedelta | None = None
    renewals: int = 0
    _renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def call(self, call: Call, keys: Sequence[str], spent: Spent) -> Reply:
        """The reply of a successful call. Raises the last `CallError`, `CapReached`, or `Stopping`."""
        if self.qps is not None and call.quota.key == self.share_of:
            call = replace(call, quota=replace(call.quota, qps=self.qps))
        if call.wait:
            await self.clock.sleep(call.wait)
        attempts = mends = 0
        failing_since: float | None = None
        while True:
            before = (self.skew, self.renewals)
            try:
                return await self._once(call, keys, spent)
            except ThrottledError as error:
                failing_since = failing_since or self.clock.monotonic()
                self._raise_when_late(error, failing_since, self.policy.throttle_limit)
            except PermanentError:
                raise
            except FatalError as error:
                if mends >= MENDS or not await self._is_mended(error, before):
                    raise
                mends += 1
            except CallError as error:
                attempts += 1
                failing_since = failing_since or self.clock.monotonic()
                self._raise_when_spent(error, attempts, failing_since, spent)
                await self._back_off(error, attempts, failing_since)
            self.tally.retries += 1
            spent.retries += 1

    async def read(self, url: str, *, max_bytes: int, timeout: float) -> bytes:
        """The bytes of an image, through the given `fetch`; passing troubles are waited out a few times."""
        began = self.clock.monotonic()
        attempts = 0
        while True:
            self._raise_when_stopping()
            try:
                return await self.fetch(url, max_bytes=max_bytes, timeout=timeout)
            except PermanentError:
                raise
            except CallError as error:
                attempts += 1
                if attempts >= READ_ATTEMPTS:
                    raise
                self._raise_when_late(error, began, self.policy.time_limit)
                await self._back_off(error, attempts, began)

    async def _once(self, call: Call, keys: Sequence[str], spent: Spent) -> Reply:
        self._raise_when_stopping()
        slot = await self.pacer.acquire(call.quota)
        ticket = None
        try:
            self._raise_when_stopping()
            if call.is_billable:
                ticket = await self.purse.reserve()
                self.on_sending(1)  # what is set aside is sent, also when another worker finds the cap used up
                if not spent.is_marked:
                    spent.is_marked = True  # also when the wait is cut short: the mark may be written all the same
                    await self.mark_sent(keys)
            request = self._signed(call)
            while not slot.sent():
                slot = await self.pacer.acquire(call.quota)
                self._raise_when_stopping()
                request = self._signed(call)
        except BaseException:
            slot.unused()
            if ticket is not None:
                self.on_sending(-1)
                await self.purse.cancel(ticket)
            raise
        return await self._exchange(call, request, slot, ticket, spent)

    async def _exchange(self, call: Call, request: Request, slot: Slot, ticket: Any, spent: Spent) -> Reply:
        billed: Billing = "unknown"
        self.tally.calls += 1
        spent.calls += 1
        self.on_sending(1)
        try:
            reply = await self.send(request, timeout=call.timeout, max_bytes=call.max_reply_bytes)
            self._check(call, reply)
            billed = "yes"
            slot.replied()
            self.pacer.succeeded(call.quota, slot=slot)
        except CallError as error:
            billed = error.billing
            slot.replied()
            if isinstance(error, ThrottledError):
                self.pacer.throttled(call.quota, error.retry_after, slot=slot)
            raise
        except BaseException:
            slot.replied()
            raise
        finally:
            if call.is_billable:
                cost = await self.purse.settle(ticket, billed)
                spent.pay(billed, cost)
                self.tally.paid(billed, cost)
            self.on_sending(-1)
        return reply

    def _signed(self, call: Call) -> Request:
        if not call.is_signed:
            return call.request
        return self.provider.sign(call.request, Moment(self.clock.now() + (self.skew or timedelta()), self.nonce()))

    def _check(self, call: Call, reply: Reply) -> None:
        try:
            self.provider.check(call, reply)
        except ClockSkewError as error:
            error.server_date = reply.headers.get("date")
            raise

    def _raise_when_stopping(self) -> None:
        if self.is_stopping():
            raise Stopping

    def _raise_when_late(self, error: CallError, began: float, limit: float) -> None:
        if self.clock.monotonic() - began > limit:
            raise error

    def _raise_when_spent(self, error: CallError, attempts: int, began: float, spent: Spent) -> None:
        self._raise_when_late(error, began, self.policy.time_limit)
        if error.billing == "yes" or (error.max_attempts is not None and attempts >= error.max_attempts):
            raise error
        if error.billing == "unknown" and spent.paid_attempts >= self.policy.max_paid_attempts:
            raise error

    async def _back_off(self, error: CallError, attempts: int, began: float) -> None:
        ceiling = min(self.policy.cap, self.policy.base * 2 ** (attempts - 1))
        if error.retry_after and self.clock.monotonic() + error.retry_after - began > self.policy.time_limit:
            raise error
        await self.clock.sleep(max(error.retry_after or 0.0, ceiling * self.random()))

    async def _is_mended(self, error: FatalError, before: tuple[timedelta | None, int]) -> bool:
        """Whether what the call was refused for is put right, by this call or by another one since it began."""
        skew, renewals = before
        if isinstance(error, ClockSkewError):
            server = _parsed_date(error.server_date)
            if self.skew is None and server is not None:
                self.skew = server - self.clock.now()
            return self.skew != skew
        if isinstance(error, CredentialsExpiredError) and self.refresh is not None:
            async with self._renewing:
                if self.renewals == renewals and await self.refresh():
                    self.renewals += 1
            return self.renewals != renewals
        return False


def _parsed_date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except ValueError:
        return None
