"""The tag store on a disk: a journal that is written at once, and parts that are sealed from it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from typing import Final

import pyarrow as pa

from imgtag_pipeline.checkpoint.catalog import Catalog, Known
from imgtag_pipeline.checkpoint.hash import digest
from imgtag_pipeline.checkpoint.journal import Journal
from imgtag_pipeline.checkpoint.outbox import Outbox
from imgtag_pipeline.checkpoint.sealer import Sealer
from imgtag_pipeline.checkpoint.writer import Writer
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Job, Outcome

log = logging.getLogger("imgtag_pipeline")

_LOOK_EVERY: Final = 0.2
_TELL_AFTER: Final = 10.0
_PATIENCE: Final = 30.0
_PAUSE: Final = 0.002


class JournaledStore:
    """A store that outlives the process. Reading is safe from any thread; the coroutines from any event loop."""

    def __init__(
        self,
        *,
        shelf: Catalog,
        journal: Journal,
        writer: Writer,
        sealer: Sealer,
        clock: Clock,
        place: str,
        way: Outbox | None,
    ) -> None:
        self._shelf = shelf
        self._journal = journal
        self._writer = writer
        self._sealer = sealer
        self._clock = clock
        self._place = place
        self._way = way
        self._closed: Future[None] | None = None
        self._problem: str | None = None

    @property
    def possibly_billed(self) -> list[str]:
        """Images that a dead run had sent and that had no answer when that was found."""
        return self._journal.possibly_billed

    @property
    def recovered(self) -> dict[str, int]:
        """What was found in the journals of dead runs: segments, frames, outcomes, bytes_dropped, frames_missing."""
        return asdict(self._journal.peers.recovered)

    def tell_sealed(self, tell: Callable[[int], None]) -> None:
        """Call `tell` with the rows of each segment that becomes a part, on the sealer's thread."""
        self._sealer.on_sealed = tell

    def lookup(self, keys: Sequence[str], *, retry_failed: bool = False) -> list[Known | None]:
        """What is known of each key; None means ask."""
        return self._shelf.known(keys, retry_failed=retry_failed)

    def jobs(self, keys: Sequence[str]) -> dict[str, Job]:
        """The vendor jobs of these keys that have not been answered."""
        jobs = self._journal.notes.jobs
        return {key: job for key in keys if (job := jobs.get(key))}

    def attempts(self, key: str) -> int:
        """How many outcomes this image has had."""
        return int(self._shelf.index.find([key]).attempts[0])

    def take(self, keys: Sequence[str]) -> pa.RecordBatch:
        """The winning outcome of each key, in order; may read a part, so better called off the event loop."""
        return self._shelf.take(keys)

    async def mark_sent(self, keys: Sequence[str]) -> None:
        """Returns when it is written that these are about to be sent."""
        await self._writer.record(lambda group: group.sent.extend(keys))

    async def clear_sent(self, keys: Sequence[str]) -> None:
        """The sent marks of these no longer stand: what was sent is known to have cost nothing."""
        await self._writer.record(lambda group: group.cleared.extend(keys))

    async def save(self, outcomes: Sequence[Outcome]) -> None:
        """Returns when these outcomes are written; StoreError when they cannot be, and ever after."""
        await self._writer.record(lambda group: group.outcomes.extend(outcomes))

    async def save_job(self, key: str, job: Job) -> None:
        """Returns when it is written that this job is under way."""
        await self._writer.record(lambda group: group.jobs.update({key: job}))

    async def claim(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """Those of the keys that nobody has answered or is asking about: nobody else on this host will be granted them.

        A claim ends with an outcome, with `release`, and with this process. Others claim for milliseconds; one that
        was stopped in the middle holds up the claims, and nothing else.
        """
        give_up = time.monotonic() + _PATIENCE
        while True:
            claim = partial(self._journal.claim, keys, retry_failed=retry_failed)
            granted: set[str] | None = await self._writer.run(claim)
            if granted is not None:
                return granted
            if time.monotonic() > give_up:
                raise StoreError(
                    f"another process has been claiming images in {self._place} for {_PATIENCE:g} s; see whether it "
                    "is stopped, let it go on or end it, and run again to continue"
                )
            await asyncio.sleep(_PAUSE)

    async def release(self, keys: Sequence[str]) -> None:
        """Others may ask about these."""
        await self._writer.record(lambda group: group.released.extend(keys))

    async def wait_for(self, keys: Sequence[str], *, retry_failed: bool = False) -> set[str]:
        """Returns when none of the keys is claimed by another process: those that have an outcome now."""
        tell_at = self._clock.monotonic() + _TELL_AFTER
        while True:
            await self._writer.run(self._journal.look)
            known = self.lookup(keys, retry_failed=retry_failed)
            claimed = self._journal.claimed_elsewhere
            waiting = [
                key for key, status in zip(keys, known, strict=True) if status is None and digest(key) in claimed
            ]
            if not waiting:
                return {key for key, status in zip(keys, known, strict=True) if status is not None}
            if self._clock.monotonic() >= tell_at:
                tell_at += _TELL_AFTER
                whose = ",".join(sorted(f"{who.get('host')}:{who.get('pid')}" for who in self._journal.peers.writers()))
                log.info("event=waiting_for_claims images=%d writers=%s", len(waiting), whose)
            await self._clock.sleep(_LOOK_EVERY)

    async def refresh(self) -> None:
        """Read what other processes have written since."""
        await self._writer.run(self._journal.look)
        if self._way:
            await asyncio.to_thread(self._shelf.read_parts)

    async def flush(self) -> None:
        """Returns when everything saved is on the disk."""
        await self._writer.run(self._journal.sync)
        if self._way:
            await self._writer.run(self._writer.put)
            await self._writer.after_sealing()
            if problem := self._unput():
                raise StoreError(problem)

    async def close(self) -> None:
        """Seal what is journaled; accept nothing any more. What cannot be sealed stays in the journal: StoreError."""
        await asyncio.shield(asyncio.wrap_future(self._end()))
        self._report()

    def close_now(self) -> None:
        """The same, for callers without an event loop."""
        self._end().result()
        self._report()

    def _end(self) -> Future[None]:
        if self._closed is None:
            self._closed = Future()
            self._writer.end(self._last)
        return self._closed

    def _last(self) -> None:
        """On the sealer's thread, when all is sealed that could be."""
        assert self._closed is not None
        try:
            if self._sealer.error:
                self._sealer.retry()
            error, left = self._sealer.error, self._sealer.close()
            if left:
                self._problem = (
                    f"{len(left)} journal segments could not be sealed ({error}); nothing is lost: they lie in "
                    f"{self._place}, and a further run continues from them"
                )
            elif self._writer.unfinished:
                self._problem = (
                    f"the journal could not be finished ({self._writer.unfinished}); nothing is lost: it lies in "
                    f"{self._place}, and a further run continues from it"
                )
            if self._way:
                self._way.finish()
                self._problem = self._problem or self._unput()
        finally:
            self._closed.set_result(None)

    def _report(self) -> None:
        problem, self._problem = self._problem, None
        if problem:
            raise StoreError(problem)

    def _unput(self) -> str | None:
        error = self._way.error if self._way else None
        if self._way is None or error is None:
            return None
        return (
            f"{self._way.waiting()} parts could not be put into the store ({error}); nothing is lost: they lie in the "
            f"spool {self._place}, and a further run on this host continues from there"
        )
