"""The tag store: what is known about each image of one identity, kept in a folder that runs share, or in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from imgtag_pipeline.checkpoint.catalog import Known
from imgtag_pipeline.checkpoint.layout import Identity, local_path
from imgtag_pipeline.checkpoint.memory import MemoryStore
from imgtag_pipeline.checkpoint.open import Opening, Tuning, open_at
from imgtag_pipeline.checkpoint.respelling import KeyOf
from imgtag_pipeline.checkpoint.status import StoreSummary, describe, is_store, outcomes
from imgtag_pipeline.checkpoint.upkeep import Compacted, compact
from imgtag_pipeline.checkpoint.writer import FlushPolicy
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.model import Job, Outcome

__all__ = [
    "Compacted",
    "FlushPolicy",
    "StoreSummary",
    "TagStore",
    "Tuning",
    "compact",
    "describe",
    "is_store",
    "loss_bound",
    "open_store",
    "outcomes",
]


class TagStore(Protocol):
    """What is known about images, by key. A coroutine that returns has written what it says."""

    @property
    def possibly_billed(self) -> list[str]:
        """Keys that a dead run had sent and that had no outcome when that was found."""
        ...

    @property
    def recovered(self) -> Mapping[str, int]:
        """What was found in the journals of dead runs: segments, frames, outcomes, bytes_dropped, frames_missing."""
        ...

    def tell_sealed(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the rows of each segment that becomes a part, on another thread."""
        ...

    def lookup(self, keys: Sequence[str], *, retry_failed: bool = False) -> list[Known | None]:
        """What is known of each key, None for ask. With `retry_failed`, failures of earlier runs are asked again."""
        ...

    def jobs(self, keys: Sequence[str]) -> dict[str, Job]:
        """The unfinished vendor jobs of these keys."""
        ...

    def attempts(self, key: str) -> int:
        """How many outcomes this image has had, in all runs."""
        ...

    def take(self, keys: Sequence[str]) -> pa.RecordBatch:
        """`schema.OUTCOME`: row i is the winning outcome of keys[i]; all keys must be known. Safe from any thread."""
        ...

    async def mark_sent(self, keys: Sequence[str]) -> None:
        """Written before a call that may cost money."""
        ...

    async def clear_sent(self, keys: Sequence[str]) -> None:
        """The call is known to have cost nothing, and another is not under way."""
        ...

    async def save(self, outcomes: Sequence[Outcome]) -> None:
        """Returns when written; StoreError when the journal cannot be written, and ever after."""
        ...

    async def save_job(self, key: str, job: Job) -> None:
        """Returns when written."""
        ...

    async def claim(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """The keys that this process may ask about: unknown, and claimed by no other living process of this host.

        Hosts do not see each other's claims, nor what others have put since this store was opened or refreshed: two
        that work on the same rows of a remote store at the same time may both ask about an image.
        """
        ...

    async def release(self, keys: Sequence[str]) -> None:
        """Claimed keys that will not be asked about after all."""
        ...

    async def wait_for(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """Waits while others have claims on the keys; returns those that have an outcome, the rest may be claimed."""
        ...

    async def refresh(self) -> None:
        """Read what other processes have written since."""
        ...

    async def flush(self) -> None:
        """Returns when everything saved is on the disk, and put where the store is remote."""
        ...

    async def close(self) -> None:
        """Seal what is journaled. Idempotent; loses nothing; StoreError when something is left for a later run."""
        ...


def open_store(
    url: str | None,
    *,
    identity: Mapping[str, Any],
    run_id: str,
    clock: Clock,
    storage_options: Mapping[str, Any] | None = None,
    spool: Path | None = None,
    tuning: Tuning | None = None,
    key_of: KeyOf | None = None,
) -> TagStore:
    """The store of `identity` in the folder `url`, made if it is not there; None for one in memory.

    `key_of` gives the key of a reference (and, of an older version's key, the key of today), so that what was stored
    under another spelling is found.

    Where `url` is not on this machine's disk, the journal and what is not yet put lie in `spool`. Reads what is there,
    which may take a second per million images: better called off the event loop.
    """
    if url is None:
        return MemoryStore(run_id=run_id, clock=clock)
    opening = Opening(Identity.of(identity), run_id, clock, tuning or Tuning(), key_of)
    return open_at(os.fspath(url), opening, storage_options=storage_options, spool=spool)


def loss_bound(url: str | None, *, put_every: float) -> str | None:
    """What a lost host costs a run on the store at `url`; None where the store is on this machine or in memory."""
    if url is None or local_path(url) is not None:
        return None
    return (
        f"the checkpoint is behind a URL: when this host is lost with its disk, the next run asks again about the last "
        f"{FlushPolicy().parts_every:g} s of answers and lists them as possibly billed, but for calls sent in the last "
        f"{put_every:g} s and one put (of a put that takes longer: two puts)"
    )
