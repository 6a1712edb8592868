"""One call until it is answered for good: paced, marked in the journal, reserved under caps, signed for each try."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import (
    Billing,
    CallError,
    ClockSkewError,
    CredentialsExpiredError,
    FatalError,
    PermanentError,
    ThrottledError,
)
from imgtag_pipeline.model import Call, Moment, Quota, Reply, Request
from imgtag_pipeline.run.report import Spent, Tally
from imgtag_pipeline.run.retry_policy import RetryPolicy, RetryState

READ_ATTEMPTS = 3
MENDS = 2


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


class SpendGuard(Protocol):
    """Guards the caps: reserves before a call is sent, settles after."""

    async def reserve(self) -> Any:
        """Set one call aside; raises `CapReached` when there is none left."""
        ...

    async def settle(self, reservation: Any, billed: Billing) -> int | None:
        """What the call came to, in micro-yuan (None: price unknown); a cancellation comes at the next wait."""
        ...

    async def cancel(self, reservation: Any) -> None:
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


class Stopping(BaseException):
    """Inside the pipeline only: the run is stopping, nothing more is sent. Nobody takes it for a failed call."""


@dataclass(slots=True)
class Caller:
    """Sends the calls of one run. `qps` is the caller's share of the quota named `share_of`."""

    provider: Signer
    send: Callable[..., Awaitable[Reply]]
    fetch: Callable[..., Awaitable[bytes]]
    pacer: Pacer
    spend_guard: SpendGuard
    mark_sent: Callable[[Sequence[str]], Awaitable[None]]
    clock: Clock
    policy: RetryPolicy
    tally: Tally
    is_stopping: Callable[[], bool]
    on_sending: Callable[[int], None] = lambda change: None
    on_trouble: Callable[[CallError], None] = lambda error: None
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
            await self._rest(call.wait, spent)
        trouble, mends = RetryState(self.policy, spent, self.random), 0
        while True:
            before = (self.skew, self.renewals)
            try:
                return await self._once(call, keys, spent, trouble)
            except PermanentError:
                raise
            except FatalError as error:
                if mends >= MENDS or not await self._is_mended(error, before):
                    raise
                self.on_trouble(error)
                mends += 1
            except ThrottledError as error:
                self.tally.throttled += 1
                self.on_trouble(error)
                trouble.throttled(error, self.clock.monotonic())
            except CallError as error:
                seconds = trouble.failed(error, self.clock.monotonic())
                self.on_trouble(error)
                await self._rest(seconds, spent)
            self.tally.retries += 1
            spent.retries += 1

    async def read(self, url: str, spent: Spent, *, max_bytes: int, timeout: float) -> bytes:
        """The bytes of an image, through the given `fetch`; passing troubles are waited out a few times."""
        trouble = RetryState(self.policy, spent, self.random, most_attempts=READ_ATTEMPTS)
        while True:
            self._raise_when_stopping()
            try:
                return await self.fetch(url, max_bytes=max_bytes, timeout=timeout)
            except PermanentError:
                raise
            except CallError as error:
                await self._rest(trouble.failed(error, self.clock.monotonic()), spent)

    async def _rest(self, seconds: float, spent: Spent) -> None:
        """Wait before the next attempt; meanwhile others go on."""
        await (self.clock.sleep if spent.rest is None else spent.rest)(seconds)

    async def _once(self, call: Call, keys: Sequence[str], spent: Spent, trouble: RetryState) -> Reply:
        self._raise_when_stopping()
        slot = await self.pacer.acquire(call.quota)
        reservation = None
        try:
            self._raise_when_stopping()
            trouble.raise_when_late(self.clock.monotonic())
            if call.is_billable:
                reservation = await self.spend_guard.reserve()
                self.on_sending(1)  # what is set aside is sent, also when another worker finds the cap used up
                if spent.is_marked:
                    await asyncio.sleep(0)  # a stop that came while the spend guard was busy cuts here
                else:
                    spent.is_marked = True  # also when the wait is cut short: the mark may be written all the same
                    await self.mark_sent(keys)
            request = self._signed(call)
            while not slot.sent():
                slot = await self.pacer.acquire(call.quota)
                self._raise_when_stopping()
                trouble.raise_when_late(self.clock.monotonic())
                request = self._signed(call)
        except BaseException:
            slot.unused()
            if reservation is not None:
                self.on_sending(-1)
                await self.spend_guard.cancel(reservation)
            raise
        return await self._exchange(call, request, slot, reservation, spent)

    async def _exchange(self, call: Call, request: Request, slot: Slot, reservation: Any, spent: Spent) -> Reply:
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
            if call.is_billable and call.is_settled_later and billed == "yes":
                spent.unsettled.append(reservation)
            elif call.is_billable:
                await self._settle(reservation, billed, spent)
            self.on_sending(-1)
        return reply

    async def settle(self, billed: Billing, spent: Spent) -> None:
        """What the calls that are settled later came to."""
        while spent.unsettled:
            await self._settle(spent.unsettled.pop(), billed, spent)

    async def _settle(self, reservation: Any, billed: Billing, spent: Spent) -> None:
        cost = await self.spend_guard.settle(reservation, billed)
        spent.pay(billed, cost)
        self.tally.paid(billed, cost)

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
    except (ValueError, OverflowError):
        return None
