"""The caps of a run: what a call may cost is set aside before it is sent, so that no cap is ever passed."""

from __future__ import annotations

from dataclasses import dataclass

from imgtag_pipeline.errors import Billing, CapReached
from imgtag_pipeline.model import Price
from imgtag_pipeline.pricing import MICRO, added, dearest


@dataclass(slots=True)
class Purse:
    """Guards `max_calls` (calls sent) and `budget` (micro-yuan) of one process; both may be None.

    A call is reserved at the dearest tier's price and settled at what it came to: nothing where the vendor does not
    bill it, the month's marginal price where it does or may. `billed_before` are the calls already billed in this
    month.
    """

    price: Price | None
    max_calls: int | None = None
    budget_micro_yuan: int | None = None
    billed_before: int = 0
    calls: int = 0
    reserved: int = 0
    spent: int = 0
    billed_calls: int = 0

    async def reserve(self) -> int:
        """Set one call aside; raises `CapReached` when a cap leaves no room for it."""
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise CapReached(
                f"max_calls={self.max_calls:,} is used up; every answer is kept, run again with new max_calls to go on"
            )
        most = 0 if self.price is None else dearest(self.price)
        if self.budget_micro_yuan is not None and self.spent + self.reserved + most > self.budget_micro_yuan:
            raise CapReached(
                f"budget={self.budget_micro_yuan / MICRO:g} yuan is used up ({self.spent / MICRO:.4f} spent); "
                "every answer is kept, run again with another budget to go on"
            )
        self.calls += 1
        self.reserved += most
        return most

    async def settle(self, ticket: int, billed: Billing) -> int | None:
        """What the call came to in micro-yuan; None where the price is unknown."""
        self.reserved -= ticket
        if billed == "no":
            return 0
        if self.price is None:
            return None
        cost = added(self.price, self.billed_before + self.billed_calls, 1)
        self.billed_calls += 1
        self.spent += cost
        return cost
