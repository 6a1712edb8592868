"""What the moving part of a run needs of the tag store, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from imgtag_pipeline.model import Job, Outcome


class Store(Protocol):
    """What the conductor needs of the tag store."""

    def lookup(self, keys: Sequence[str], *, retry_failed: bool = False) -> Sequence[str | None]:
        """For each key its status, None where it has to be asked."""
        ...

    def jobs(self, keys: Sequence[str]) -> Mapping[str, Job]:
        """Unfinished vendor jobs."""
        ...

    async def save(self, outcomes: Sequence[Outcome]) -> None:
        """Journal these outcomes; returns when they are written."""
        ...

    def take(self, keys: Sequence[str]) -> pa.RecordBatch:
        """The outcomes of these keys, in order."""
        ...

    async def clear_sent(self, keys: Sequence[str]) -> None:
        """The calls about these cost nothing."""
        ...

    async def claim(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """Those of the keys that this process may ask about."""
        ...

    async def release(self, keys: Sequence[str]) -> None:
        """Claimed keys that are not asked about after all."""
        ...

    async def wait_for(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """Wait until others are done with these keys; those that are answered now."""
        ...
