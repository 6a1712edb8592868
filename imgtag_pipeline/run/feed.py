"""Cuts the caller's rows into windows and queues the images that nobody knows for the workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from imgtag_pipeline.model import Image, Outcome
from imgtag_pipeline.run.batches import MOST_SPELLINGS, Pending, Seen, Window, cut, slices
from imgtag_pipeline.run.first_look import FirstLook
from imgtag_pipeline.run.in_flight import InFlight
from imgtag_pipeline.run.known import Known
from imgtag_pipeline.run.report import Tally
from imgtag_pipeline.run.spellings import is_refused_url
from imgtag_pipeline.run.store import Store
from imgtag_pipeline.run.worker_pool import WorkerPool

LOOK_AHEAD = 8192
PART_ROWS = 512
WINDOWS_AHEAD = 4


@dataclass(slots=True, eq=False, repr=False)
class Feed:
    """Cuts rows into windows, looks their images up, and claims those that are to be asked about.

    At most `WINDOWS_AHEAD` windows are ahead of the reader, who says `release()` after each, and about `window_rows`
    images wait for a worker. Images that are `passing` failed earlier in this run.
    """

    store: Store
    tally: Tally
    pending: Pending
    flights: InFlight
    crew: WorkerPool
    passing: dict[str, Outcome]
    threads: ThreadPoolExecutor
    key_of: Callable[[str], str]
    references: Callable[[pa.RecordBatch], tuple[pa.Array, pa.Array | None]]
    strip: Callable[[pa.RecordBatch], pa.RecordBatch]
    is_stopping: Callable[[], bool]
    window_rows: int
    retry_failed: bool
    is_offline: bool
    keeps_rows: bool
    retry_codes: frozenset[str] = frozenset()
    first_look: FirstLook | None = None
    windows: asyncio.Queue[Window | None] = field(default_factory=asyncio.Queue)
    _seen: Seen = field(default_factory=Seen)
    _looked: Seen = field(default_factory=Seen)
    _pairs: Seen = field(default_factory=Seen)
    _tries: dict[str, int] = field(default_factory=dict)
    _ahead: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WINDOWS_AHEAD))

    @property
    def _known(self) -> Known:
        return Known(self.store, self.retry_failed, self.retry_codes)

    def release(self) -> None:
        """The reader is done with a window."""
        self._ahead.release()

    async def feed(self, batches: Iterator[pa.RecordBatch]) -> None:
        """Put the windows of these batches into `windows`, in order, and None after the last."""
        loop = asyncio.get_running_loop()
        ahead = slices(batches, LOOK_AHEAD)
        try:
            while (rows := await loop.run_in_executor(self.threads, next, ahead, None)) is not None:
                if self.is_stopping() and not self.keeps_rows:
                    break
                window = await loop.run_in_executor(self.threads, self._cut, rows)
                await self._look(window)
                if await self._asks(window) <= self.window_rows:
                    await self._admit(window)
                    continue
                for part in slices(iter([rows]), max(self.window_rows, PART_ROWS)):
                    await self._admit_part(part)
            if self.first_look is not None:
                self.first_look.end()
            await self.crew.followed()
        except BaseException:
            self.crew.leave()
            raise
        finally:
            self.pending.close()
            self.windows.put_nowait(None)

    async def _admit_part(self, rows: pa.RecordBatch) -> None:
        """In one piece where little of it is asked about, else in windows."""
        loop = asyncio.get_running_loop()
        window = await loop.run_in_executor(self.threads, self._cut, rows)
        if rows.num_rows <= self.window_rows or await self._asks(window) <= self.window_rows:
            await self._admit(window)
            return
        for piece in slices(iter([rows]), self.window_rows):
            await self._admit(await loop.run_in_executor(self.threads, self._cut, piece))

    def _cut(self, rows: pa.RecordBatch) -> Window:
        references, keys = self.references(rows)
        return cut(self.strip(rows), references, keys, self.key_of)

    async def _look(self, window: Window) -> None:
        if self.first_look is None or self.first_look.is_over or self.is_offline:
            return
        keys = [image.key for image in window.images]
        statuses = await self._lookup(keys)
        new = [
            (image, status is not None)
            for image, status, is_first in zip(window.images, statuses, self._looked.first_time(keys), strict=True)
            if is_first
        ]
        await self.first_look.look(window.rows.num_rows, [image for image, _ in new], [known for _, known in new])

    async def _lookup(self, keys: Sequence[str]) -> list[str | None]:
        if not self.retry_codes:
            return self._known.lookup(keys)
        return await asyncio.get_running_loop().run_in_executor(self.threads, self._known.lookup, keys)

    async def _asks(self, window: Window) -> int:
        return 0 if self.is_offline else (await self._lookup([image.key for image in window.images])).count(None)

    async def _admit(self, window: Window) -> None:
        keys = [image.key for image in window.images]
        known = self.store.lookup(keys)
        wanted = await self._lookup(keys) if self._known.retries and not self.is_offline else known
        new: list[Image] = []
        firsts = self._seen.first_time(keys)
        if window.pairs:
            self.tally.other_urls += sum(self._pairs.first_time(window.pairs)) - sum(firsts)
        for place, (image, is_first) in enumerate(zip(window.images, firsts, strict=True)):
            self.tally.images += is_first
            if self.flights.join(image, window):
                continue
            if (wanted if is_first else known)[place] is not None:
                if is_first:
                    window.known.add(image.key)
            elif image.key in self.passing and not self._tries_again(image):
                window.unanswered.add(image.key)
            elif self.is_stopping() or self.is_offline or not (is_first or image.key in self.passing):
                self.tally.unanswered += is_first
                window.unanswered.add(image.key)
            else:
                self.flights.begin(image, window)
                new.append(image)
        self.tally.rows_seen += window.rows.num_rows
        window.settle(0)
        await self._claim(new)
        await self._ahead.acquire()
        self.windows.put_nowait(window)
        await self.pending.lowered(self.window_rows)

    def _tries_again(self, image: Image) -> bool:
        """Whether a signed URL was refused earlier in this run, and here is another one of the same image."""
        refused = self.passing[image.key]
        tries = self._tries.get(image.key, 0)
        if self.is_stopping() or self.is_offline or tries >= MOST_SPELLINGS or not is_refused_url(refused):
            return False
        if image.url == refused.url and not image.others:
            return False
        self._tries[image.key] = tries + 1
        return True

    async def _claim(self, images: Sequence[Image]) -> None:
        """Queue what nobody else is asking about; wait for the others' answers to the rest."""
        if not images:
            return
        granted = await self.store.claim([image.key for image in images], retry_failed=self._known.retries)
        if self.is_stopping():
            self.flights.give_up(images)
            return
        self.pending.put([image for image in images if image.key in granted])
        others = [image for image in images if image.key not in granted]
        if others:
            self.crew.follow(self._follow(others), lambda: self.flights.give_up(others))

    async def _follow(self, left: list[Image]) -> None:
        """Empties `left` as these get an answer or are ours to ask about."""
        while left and not self.is_stopping():
            keys = [image.key for image in left]
            for key in await self.store.wait_for(keys, retry_failed=self._known.retries):
                self.flights.land(key, is_known=True)
            left[:] = [image for image in left if image.key in self.flights]
            granted = await self.store.claim([image.key for image in left], retry_failed=self._known.retries)
            if self.is_stopping():
                return
            self.pending.put([image for image in left if image.key in granted])
            left[:] = [image for image in left if image.key not in granted]
