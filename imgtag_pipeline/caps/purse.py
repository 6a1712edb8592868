"""The purse of one run: what a call may cost is set aside before it is sent, so that no cap is ever passed."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from imgtag_pipeline.caps import state as books
from imgtag_pipeline.caps.shelf import Book, MemoryBook
from imgtag_pipeline.caps.state import Month, State, Ticket, month_of
from imgtag_pipeline.clock import Clock, SystemClock
from imgtag_pipeline.errors import Billing, CapReached, ImgtagError, StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.pricing import MICRO

log = logging.getLogger("imgtag_pipeline")

_LONGEST_WAIT: Final = 60.0


@dataclass(slots=True)
class Purse:
    """Guards `max_calls` (paid calls sent) and `budget_micro_yuan` for all processes that share `book`.

    A call is set aside at the most that it may cost and settled at what it came to: nothing where the vendor does not
    bill it, the month's marginal price where it does or may. A run that names a cap has a place in the book's
    allotment from `open` to `close`; see `caps.state` for how long that lasts. A run that names none is bound by none,
    but its calls count for the others. Every call is entered in the month's counts, of `record` where the ledger is
    another book than the shared one.
    """

    price: Price | None
    max_calls: int | None = None
    budget_micro_yuan: int | None = None
    billed_before: int = 0
    book: Book = field(default_factory=MemoryBook)
    record: Book | None = None
    clock: Clock = field(default_factory=SystemClock)
    token: str = field(default_factory=lambda: f"{os.getpid()}-{secrets.token_hex(6)}")
    _place: str | None = None
    _open: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _beat: asyncio.Task[None] | None = None
    _recorded: dict[Ticket, list[Ticket]] = field(default_factory=dict)

    async def open(self) -> None:
        """Take a place in the allotment, when a cap was named."""
        if self._place is not None or (self.max_calls is None and self.budget_micro_yuan is None):
            return
        try:
            await asyncio.to_thread(self.book.appear, self.token)
        except OSError as error:
            raise StoreError(
                f"a sign of life cannot be set beside the book of calls ({error.strerror}), so caps cannot be kept"
            ) from None
        heir_of = await self.book.visit(self._join)
        self._place = self.token
        if heir_of is not None:
            await asyncio.to_thread(self.book.vanish, heir_of)
        if self.book.beat is not None:
            self._beat = asyncio.create_task(self._live(self.book.beat), name="imgtag-purse")

    async def reserve(self) -> Ticket:
        """Set one call aside; raises `CapReached` when a cap leaves no room for it.

        Where only calls still open are in the way, which may turn out cheaper, their end is waited for.
        """
        await self.open()
        while True:
            reserved = await self.book.visit(self._reserve)
            if isinstance(reserved, Ticket):
                self._open += 1
                await self._note(reserved)
                return reserved
            if reserved == "max_calls" or self._open == 0 or not await self._is_something_settled():
                raise await self._refusal(reserved)

    async def settle(self, ticket: Ticket, billed: Billing) -> int | None:
        """What the call came to in micro-yuan; None where the price is unknown. Where it cannot be entered, it stays
        set aside."""
        try:
            cost = await self.book.visit(lambda state: self._settle(state, ticket, billed))
            if (noted := self._noted(ticket)) is not None and self.record is not None:
                await self.record.visit(lambda state: self._settle(state, noted, billed))
            return cost
        except ImgtagError as error:
            log.warning("event=unsettled detail=%s", error)
            return 0 if billed == "no" else ticket.most
        finally:
            self._closed_one()

    async def cancel(self, ticket: Ticket) -> None:
        """The call was not sent after all."""
        try:
            await self.book.visit(lambda state: books.cancel(state, ticket))
            if (noted := self._noted(ticket)) is not None and self.record is not None:
                await self.record.visit(lambda state: books.cancel(state, noted))
        except ImgtagError as error:
            log.warning("event=unsettled detail=%s", error)
        finally:
            self._closed_one()

    async def counted(self) -> int:
        """The calls of this month that count for tiers."""
        month = month_of(self.clock.now())
        return self.billed_before + await self.book.visit(lambda state: state.months.get(month, Month()).counted)

    async def close(self) -> None:
        """Give the place up and let go of the book. Idempotent."""
        if self._beat is not None:
            self._beat.cancel()
        try:
            if self._place is not None:
                self._place = None
                await self.book.visit(lambda state: books.leave(state, self.token))
                await asyncio.to_thread(self.book.vanish, self.token)
        except ImgtagError as error:
            log.warning("event=place_kept detail=%s", error)
        finally:
            await self.book.close()
            if self.record is not None:
                await self.record.close()

    # --- what is done in the book ---------------------------------------------------------------------------------

    def _join(self, state: State) -> str | None:
        return books.join(
            state,
            self.token,
            self.clock.now().timestamp(),
            max_calls=self.max_calls,
            budget=self.budget_micro_yuan,
            is_alive=self.book.is_alive,
        )

    def _reserve(self, state: State) -> Ticket | str:
        now = self.clock.now()
        return books.reserve(
            state, self.price, month_of(now), before=self.billed_before, token=self._place, now=now.timestamp()
        )

    def _settle(self, state: State, ticket: Ticket, billed: Billing) -> int | None:
        return books.settle(state, ticket, billed, self.price, before=self.billed_before)

    async def _note(self, ticket: Ticket) -> None:
        if self.record is None:
            return
        note: Callable[[State], Ticket | str] = lambda state: books.reserve(state, self.price, ticket.month)  # noqa: E731
        noted = await self.record.visit(note)
        if isinstance(noted, Ticket):
            self._recorded.setdefault(ticket, []).append(noted)

    def _noted(self, ticket: Ticket) -> Ticket | None:
        entries = self._recorded.get(ticket)
        if not entries:
            return None
        noted = entries.pop()
        if not entries:
            del self._recorded[ticket]
        return noted

    async def _live(self, every: float) -> None:
        """Show that this run lives also while it makes no calls."""
        while True:
            await self.clock.sleep(every)
            now = self.clock.now().timestamp()
            try:
                await self.book.visit(lambda state, now=now: self._seen(state, now))  # type: ignore[misc]
            except ImgtagError as error:
                log.warning("event=no_heartbeat detail=%s", error)

    def _seen(self, state: State, now: float) -> None:
        if self.token in state.places:
            state.places[self.token] = now

    # --- waiting --------------------------------------------------------------------------------------------------

    def _closed_one(self) -> None:
        self._open -= 1
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _is_something_settled(self) -> bool:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        done, _ = await asyncio.wait({future}, timeout=_LONGEST_WAIT)
        return bool(done)

    async def _refusal(self, cap: str) -> CapReached:
        calls, limit, committed, budget, shared = await self.book.visit(
            lambda state: (state.calls, state.max_calls, state.committed, state.budget, len(state.places))
        )
        others = f", shared with {shared - 1} other runs that go on or died" if shared > 1 else ""
        if cap == "max_calls":
            return CapReached(
                f"max_calls={limit:,} is used up ({calls:,} sent{others}); every answer is kept, "
                "run again with new max_calls to go on"
            )
        return CapReached(
            f"budget={(budget or 0) / MICRO:g} yuan is used up ({committed / MICRO:.4f} spent or set aside{others}); "
            "every answer is kept, run again with another budget to go on"
        )
