"""Stores the state of the caps: here in memory, in a locked file (`files`) or in Redis (`redis`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from imgtag_pipeline.spend.state import State

T = TypeVar("T")


class SpendRecord(Protocol):
    """Stores one `State`, and tells which of the runs that stand in it are alive."""

    @property
    def beat(self) -> float | None:
        """Seconds after which a process with a place has to visit again, None where its lock shows that it lives."""
        ...

    @property
    def where(self) -> str:
        """Where it lies, for a person."""
        ...

    async def update(self, change: Callable[[State], T]) -> T:
        """Run `change(state)` with nobody else in the book; it may run again when others were quicker.

        What it changed is written when this returns. A cancellation does not cut it short: that comes at the caller's
        next wait. Raises `StoreError` when the book cannot be read or written.
        """
        ...

    def now(self, here: float) -> float:
        """The moment `here` (seconds since 1970, by this host's clock) on the clock that all who share the book use."""
        ...

    def announce(self, token: str) -> None:
        """Show that this process is alive, until `vanish` or its end. May block; raises `OSError`."""
        ...

    def withdraw(self, token: str) -> None:
        """Clear away the sign of life of this process, or of a dead one. May block."""
        ...

    def is_alive(self, token: str, seen: float) -> bool:
        """Whether the process with this token, last seen at `seen` (seconds since 1970), shows a sign of life."""
        ...

    async def close(self) -> None:
        """Let go of the book; what it says is on the disk. Raises `StoreError` when it is not."""
        ...


class MemoryRecord:
    """The state of one process without a store."""

    beat = None
    where = "in memory"

    def __init__(self) -> None:
        self.state = State()
        self._tokens: set[str] = set()

    async def update(self, change: Callable[[State], T]) -> T:
        """Nobody else is here."""
        self.state.version += 1
        return change(self.state)

    def now(self, here: float) -> float:
        """There is one clock."""
        return here

    def announce(self, token: str) -> None:
        """Remembered."""
        self._tokens.add(token)

    def withdraw(self, token: str) -> None:
        """Forgotten."""
        self._tokens.discard(token)

    def is_alive(self, token: str, seen: float) -> bool:
        """Whoever appeared here."""
        return token in self._tokens

    async def close(self) -> None:
        """Nothing to let go of."""
