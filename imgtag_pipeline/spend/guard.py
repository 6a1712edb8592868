"""Reserves the price of a call before it is sent, so that no cap can be passed."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from imgtag_pipeline.core.clock import Clock, SystemClock
from imgtag_pipeline.core.shielded import shielded
from imgtag_pipeline.errors import Billing, CapReached, ImgtagError, StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.spend import jobs
from imgtag_pipeline.spend import state as books
from imgtag_pipeline.spend.pricing import MICRO, day_of, month_of
from imgtag_pipeline.spend.record import MemoryRecord, SpendRecord
from imgtag_pipeline.spend.state import Period, Refusal, Reservation, State

T = TypeVar("T")
log = logging.getLogger("imgtag_pipeline")

_LONGEST_WAIT: Final = 60.0


@dataclass(slots=True)
class SpendGuard:
    """Keeps `max_calls` (paid calls sent) and `budget_micro_yuan` for all processes that share `book`.

    A call is set aside at the most that it may cost and settled at what it came to: nothing where the vendor does not
    bill it, the month's marginal price where it does or may. A run that names a cap stands in the allotment of `book`
    from `open` to `close`; see `state` for how long that lasts. A run without caps is not limited, but its calls count
    towards the caps of others. Every call is entered in the month's counts, of `record` where the ledger is another
    record than the shared one. With a `job` the run spends from the allotment of that name, which outlives its
    runs. With `budget_per` the budget is for all calls of a day or month that stand in the book. `billed_before` are
    calls of this month that stand in neither.
    """

    price: Price | None
    max_calls: int | None = None
    budget_micro_yuan: int | None = None
    billed_before: int = 0
    job: str | None = None
    budget_per: Period | None = None
    book: SpendRecord = field(default_factory=MemoryRecord)
    record: SpendRecord | None = None
    clock: Clock = field(default_factory=SystemClock)
    token: str = field(default_factory=lambda: f"{os.getpid()}-{secrets.token_hex(6)}")
    _month: str = ""
    _place: str | None = None
    _has_joined: bool = False
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _born: str = ""
    _version: int = -1
    _open: int = 0
    _own: int = 0
    _settled: int = 0
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)
    _beat: asyncio.Task[None] | None = None
    _recorded: dict[Reservation, list[Reservation]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._month = month_of(self.clock.now())

    async def open(self) -> None:
        """Take a place in the allotment, when a cap was named."""
        async with self._opening:
            if not self._has_joined and not (self.job is None and self.budget_per is None):
                await self._update(self._join_shared)
                self._has_joined = True
            is_bound = self.max_calls is not None or self._own_budget is not None
            if is_bound and self.job is None and self._place is None:
                await self._take_place()

    @property
    def _is_capped(self) -> bool:
        return not (self.max_calls is None and self.budget_micro_yuan is None and self.job is None)

    @property
    def _own_budget(self) -> int | None:
        """The budget of this run or job; None where it is for a day or month."""
        return self.budget_micro_yuan if self.budget_per is None else None

    @property
    def _period(self) -> tuple[Period, int] | None:
        budget = self.budget_micro_yuan
        return None if self.budget_per is None or budget is None else (self.budget_per, budget)

    async def _take_place(self) -> None:
        try:
            await shielded(asyncio.to_thread(self.book.announce, self.token))
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreError(
                f"a sign of life cannot be set beside the book of calls {self.book.where} ({reason}), so caps cannot "
                "be kept and nothing is sent; make room or give access, and run again"
            ) from None
        try:
            predecessor = await self._update(self._join)
        except BaseException:
            self.book.withdraw(self.token)
            raise
        self._place = self.token
        if predecessor is not None:
            await asyncio.to_thread(self.book.withdraw, predecessor)
        if self.book.beat is not None:
            self._beat = asyncio.create_task(self._live(self.book.beat), name="imgtag-purse")

    async def reserve(self) -> Reservation:
        """Set one call aside; raises `CapReached` when a cap leaves no room for it.

        Where only calls of this run are in the way that are still open, and may turn out cheaper, their end is waited
        for.
        """
        await self.open()
        while True:
            settled = self._settled
            self._open += 1  # before it is known: others who are refused meanwhile wait for it
            try:
                reserved = await self._update(self._reserve)
            except BaseException:
                self._refused_one()
                raise
            if isinstance(reserved, Reservation):
                self._own += 1
                await self._note(reserved)
                return reserved
            self._refused_one()
            if reserved in ("budget", "period") and (settled != self._settled or await self._is_something_settled()):
                continue
            raise await self._refusal(reserved)

    async def settle(self, reservation: Reservation, billed: Billing) -> int | None:
        """What the call came to in micro-yuan; None where the price is unknown. Where it cannot be entered, it stays
        set aside. A cancellation comes at the caller's next wait."""
        cost = 0 if billed == "no" else reservation.most
        for update, entered in self._entries(reservation):
            try:
                cost = await update(lambda state, entered=entered: self._settle(state, entered, billed))
            except ImgtagError as error:
                log.warning("event=unsettled detail=%s", error)
        self._settled_one()
        return cost

    async def cancel(self, reservation: Reservation) -> None:
        """The call was not sent after all. A cancellation comes at the caller's next wait."""
        for update, entered in self._entries(reservation):
            try:
                await update(lambda state, entered=entered: books.cancel(state, entered))
            except ImgtagError as error:
                log.warning("event=unsettled detail=%s", error)
        self._own -= 1
        self._settled_one()

    async def close(self) -> None:
        """Give the place up and let go of the book, also when cancelled. Idempotent; what fails is told in the log."""
        await shielded(self._close())

    async def _close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            await asyncio.wait({self._beat})
        if self._place is not None:
            self._place = None
            try:
                await self.book.update(lambda state: books.leave(state, self.token))
            except ImgtagError as error:
                log.warning("event=place_kept detail=%s", error)
            self.book.withdraw(self.token)
        for book in (self.book, self.record):
            try:
                if book is not None:
                    await book.close()
            except ImgtagError as error:
                log.warning("event=book_unsynced detail=%s", error)

    # --- what is done in the book ---------------------------------------------------------------------------------

    async def _update(self, change: Callable[[State], T]) -> T:
        """With a cap: see first that nothing is missing which this run has seen in the book before."""
        if not self._is_capped:
            return await self.book.update(change)
        seen = (self._born, self._version)

        def watched(state: State) -> T:
            nonlocal seen
            if self._born and (state.born != self._born or state.version < self._version):
                state.is_lost = True
            result = change(state)
            seen = (state.born, state.version + 1)
            return result

        result = await self.book.update(watched)
        if self._born in ("", seen[0]):
            self._born, self._version = seen[0], max(self._version, seen[1])
        return result

    def _join(self, state: State) -> str | None:
        return books.join(
            state,
            self.token,
            self._now(),
            max_calls=self.max_calls,
            budget=self._own_budget,
            is_alive=self.book.is_alive,
        )

    def _join_shared(self, state: State) -> None:
        books.join_shared(state, self.job, self._now(), max_calls=self.max_calls, budget=self._own_budget)

    def _reserve(self, state: State) -> Reservation | Refusal:
        now = self.clock.now()
        month = month_of(now)
        before = self._before(month)
        return books.reserve(
            state,
            self.price,
            month,
            before=before,
            token=self._place,
            now=self._now(),
            job=self.job,
            day=day_of(now),
            period=self._period,
        )

    def _now(self) -> float:
        return self.book.now(self.clock.now().timestamp())

    def _settle(self, state: State, reservation: Reservation, billed: Billing) -> int | None:
        return books.settle(state, reservation, billed, self.price, before=self._before(reservation.month))

    def _before(self, month: str) -> int:
        """A run that lasts into the next month starts its tiers anew."""
        return self.billed_before if month == self._month else 0

    async def _note(self, reservation: Reservation) -> None:
        """Enter the call in the ledger, where that is another book."""
        if self.record is None:
            return
        price = self.price
        try:
            month, day = reservation.month, reservation.day
            noted = await self.record.update(lambda state: books.reserve(state, price, month, day=day))
        except BaseException:
            await self.cancel(reservation)
            raise
        if isinstance(noted, Reservation):
            self._recorded.setdefault(reservation, []).append(noted)

    def _entries(self, reservation: Reservation) -> list[tuple[Callable[..., Any], Reservation]]:
        """Where the call stands: in the ledger, if that is another book, and in the shared book."""
        noted = self._recorded.get(reservation, [])
        entries = [(self.record.update, noted.pop())] if noted and self.record is not None else []
        if not noted:
            self._recorded.pop(reservation, None)
        return [*entries, (self._update, reservation)]

    async def _live(self, every: float) -> None:
        """Show that this run lives also while it makes no calls."""
        while True:
            await self.clock.sleep(every)
            try:
                await self._update(self._seen)
            except ImgtagError as error:
                log.warning("event=no_heartbeat detail=%s", error)

    def _seen(self, state: State) -> None:
        """Also when somebody took the place for a dead one's: this run goes on, bound by the same allotment."""
        state.places[self.token] = self._now()

    # --- waiting --------------------------------------------------------------------------------------------------

    def _settled_one(self) -> None:
        self._settled += 1
        self._open -= 1
        self._wake()

    def _refused_one(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _is_something_settled(self) -> bool:
        if self._open == 0:
            return False
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        done, _ = await asyncio.wait({future}, timeout=_LONGEST_WAIT)
        return bool(done)

    async def _refusal(self, why: Refusal) -> ImgtagError:
        if why == "lost":
            return StoreError(
                f"the book of calls {self.book.where} was lost or put back to an older state while this run used it, "
                "so caps cannot be kept and nothing more is sent; let all runs that share it end, and run again"
            )
        if why == "period" and self._period is not None:
            per, micro = self._period
            return CapReached(
                f"budget={micro / MICRO:g} yuan a {per} is used up by the calls of this {per} (China's calendar), of "
                f"all runs of this operation and account on {self.book.where}; run again when the next {per} begins, "
                "or with another budget"
            )
        if self.job is not None:
            return await self._job_refusal(self.job, why)
        calls, limit, committed, budget, shared = await self.book.update(
            lambda state: (state.calls, state.max_calls, state.committed, state.budget, len(state.places))
        )
        here = f", {self._own:,} of them here" if self._own < calls else ""
        others = f"; shared with {shared - 1} other runs that go on or died" if shared > 1 else ""
        if why == "max_calls":
            return CapReached(
                f"max_calls={limit:,} is used up ({calls:,} sent{here}{others}); "
                "run again with another max_calls to go on"
            )
        spent = f"{committed / MICRO:.4f} spent or set aside for {calls:,} calls{here}{others}"
        return CapReached(
            f"budget={(budget or 0) / MICRO:g} yuan is used up ({spent}); run again with another budget to go on"
        )

    async def _job_refusal(self, job: str, why: Refusal) -> CapReached:
        found = await self.book.update(lambda state: jobs.named(state.jobs, job, self._now()))
        here = f", {self._own:,} of them here" if self._own < found.calls else ""
        ways = f"all runs of job {job!r} share it; name a larger {why}, or another job, to go on"
        if why == "max_calls":
            return CapReached(f"max_calls={found.max_calls:,} is used up ({found.calls:,} sent{here}); {ways}")
        return CapReached(
            f"budget={(found.budget or 0) / MICRO:g} yuan is used up ({found.committed / MICRO:.4f} spent or set aside "
            f"for {found.calls:,} calls{here}); {ways}"
        )
