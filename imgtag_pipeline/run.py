"""The moving part of a run: windows of rows in, the same windows with their outcomes out, in the caller's order.

A fixed number of workers pulls distinct images from one queue; everything between is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from imgtag_pipeline.answered import Answered, with_unanswered
from imgtag_pipeline.batcher import Pending, Seen, Window, cut, slices
from imgtag_pipeline.breaker import Breaker, BreakerLimits
from imgtag_pipeline.clock import Clock
from imgtag_pipeline.crew import Crew
from imgtag_pipeline.errors import Interrupted, StoreError
from imgtag_pipeline.exchange import Talker
from imgtag_pipeline.flights import Flights
from imgtag_pipeline.model import Image, Outcome
from imgtag_pipeline.report import Progress, Spent, Tally
from imgtag_pipeline.run_store import Store

LOOK_AHEAD = 8192
WINDOWS_AHEAD = 4


@dataclass(slots=True, eq=False, repr=False)
class Run:
    """One pass of one input through one provider.

    `stop` may be called from any thread: nothing new is sent, calls in flight may finish within `grace` seconds. After
    the windows have been read, `stopped` holds the error that ended the run early, or None. With `is_offline`
    nothing is asked at all. After a stop, a run that `keeps_rows` goes on to the last row, the unanswered ones marked
    as not asked.
    """

    store: Store
    talker: Talker
    tally: Tally
    clock: Clock
    key_of: Callable[[str], str]
    references: Callable[[pa.RecordBatch], tuple[pa.Array, pa.Array | None]]
    strip: Callable[[pa.RecordBatch], pa.RecordBatch]
    concurrency: int
    breaker: Breaker = field(default_factory=lambda: Breaker(BreakerLimits()))
    batch_size: int = 1
    window_rows: int = 1024
    retry_failed: bool = False
    grace: float = 10.0
    is_offline: bool = False
    keeps_rows: bool = True
    total_rows: int | None = None
    observer: Callable[[Progress], None] | None = None
    stopped: BaseException | None = None
    passing: dict[str, Outcome] = field(default_factory=dict)
    _pending: Pending = field(default_factory=Pending)
    _seen: Seen = field(default_factory=Seen)
    _flights: Flights = field(default_factory=Flights)
    _crew: Crew = field(default_factory=Crew)
    _room: asyncio.Event = field(default_factory=asyncio.Event)
    _ahead: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(WINDOWS_AHEAD))
    _loop: asyncio.AbstractEventLoop | None = None
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "imgtag-rows"))
    _told: float = float("-inf")

    def is_stopping(self) -> bool:
        """Whether nothing more may be sent."""
        return self.stopped is not None

    def on_sending(self, change: int) -> None:
        """The running task has a call in flight (or an answer on its way to the journal): a stop lets it finish."""
        self._crew.on_sending(change)

    def stop(self, error: BaseException | None = None) -> None:
        """Stop sending, from any thread. A second stop gives the calls in flight no more time."""
        loop = self._loop
        if loop is None:
            self.stopped = self.stopped or error or Interrupted("interrupted before the first call")
        elif not loop.is_closed():
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._stop_or_cut, error)

    async def answered(self, batches: Iterator[pa.RecordBatch]) -> AsyncGenerator[Answered, None]:
        """The windows in order, each when all its images have an outcome."""
        self._loop = asyncio.get_running_loop()
        windows: asyncio.Queue[Window | None] = asyncio.Queue()
        self._crew.start(self.concurrency, self._work)
        feeder = asyncio.create_task(self._feed(batches, windows), name="imgtag-feeder")
        try:
            while (window := await windows.get()) is not None:
                await window.is_complete.wait()
                if self.is_stopping() and window.unanswered and not self.keeps_rows:
                    break
                yield await self._answer(window)
                self._ahead.release()
            await feeder
            await self._crew.worked()
            self._tell(is_last=True)
        finally:
            await self._wind_up(feeder)

    async def _feed(self, batches: Iterator[pa.RecordBatch], windows: asyncio.Queue[Window | None]) -> None:
        loop = asyncio.get_running_loop()
        ahead = slices(batches, LOOK_AHEAD)
        try:
            while (rows := await loop.run_in_executor(self._threads, next, ahead, None)) is not None:
                if self.is_stopping() and not self.keeps_rows:
                    break
                window = await loop.run_in_executor(self._threads, self._cut, rows)
                if self._asks(window) <= self.window_rows:
                    await self._admit(window, windows)
                    continue
                for piece in slices(iter([rows]), self.window_rows):
                    await self._admit(await loop.run_in_executor(self._threads, self._cut, piece), windows)
            await self._crew.followed()
        finally:
            self._pending.close()
            windows.put_nowait(None)

    def _cut(self, rows: pa.RecordBatch) -> Window:
        references, keys = self.references(rows)
        return cut(self.strip(rows), references, keys, self.key_of)

    def _asks(self, window: Window) -> int:
        keys = [image.key for image in window.images]
        return 0 if self.is_offline else list(self.store.lookup(keys, retry_failed=self.retry_failed)).count(None)

    async def _admit(self, window: Window, windows: asyncio.Queue[Window | None]) -> None:
        keys = [image.key for image in window.images]
        known = self.store.lookup(keys)
        wanted = self.store.lookup(keys, retry_failed=True) if self.retry_failed else known
        new: list[Image] = []
        for place, (image, is_first) in enumerate(zip(window.images, self._seen.first_time(keys), strict=True)):
            self.tally.images += is_first
            if self._flights.join(image.key, window):
                continue
            if (wanted if is_first else known)[place] is not None:
                if is_first:
                    window.known.add(image.key)
            elif image.key in self.passing:
                window.unanswered.add(image.key)
            elif self.is_stopping() or self.is_offline or not is_first:
                self.tally.unanswered += is_first
                window.unanswered.add(image.key)
            else:
                self._flights.begin(image.key, window)
                new.append(image)
        window.settle(0)
        await self._claim(new)
        await self._ahead.acquire()
        windows.put_nowait(window)
        while len(self._pending) > self.window_rows and not self.is_stopping():
            self._room.clear()
            await self._room.wait()

    async def _claim(self, images: Sequence[Image]) -> None:
        """Queue what nobody else is asking about; wait for the others' answers to the rest."""
        if not images:
            return
        granted = await self.store.claim([image.key for image in images], retry_failed=self.retry_failed)
        if self.is_stopping():
            self._give_up(images)
            return
        self._pending.put([image for image in images if image.key in granted])
        others = [image for image in images if image.key not in granted]
        if others:
            self._crew.follow(self._follow(others))

    async def _follow(self, images: Sequence[Image]) -> None:
        left = list(images)
        try:
            while left and not self.is_stopping():
                keys = [image.key for image in left]
                for key in await self.store.wait_for(keys, retry_failed=self.retry_failed):
                    self._flights.land(key, is_known=True)
                left = [image for image in left if image.key in self._flights]
                granted = await self.store.claim([image.key for image in left], retry_failed=self.retry_failed)
                if self.is_stopping():
                    return
                self._pending.put([image for image in left if image.key in granted])
                left = [image for image in left if image.key not in granted]
        finally:
            self._give_up(left)

    async def _work(self) -> None:
        while images := await self._pending.take(self.batch_size):
            self._room.set()
            todo = [images]
            while todo:
                part = todo.pop()
                try:
                    is_split = not await self._ask(part)
                except BaseException as error:
                    self._give_up(part)
                    for rest in todo:
                        self._give_up(rest)
                    if isinstance(error, asyncio.CancelledError):
                        return
                    self._stop_now(error)
                    return
                if is_split:
                    middle = len(part) // 2
                    todo += [part[middle:], part[:middle]]

    async def _ask(self, images: Sequence[Image]) -> bool:
        keys = [image.key for image in images]
        spent = Spent()
        try:
            outcomes = await self.talker.outcomes(images, self.store.jobs(keys), spent)
        except BaseException:
            await self._part_with(keys, spent)
            raise
        if outcomes is None:
            return False
        self.on_sending(1)
        try:
            await self._keep(outcomes)
        except BaseException:
            if spent.billed != "no":
                self.tally.unknown_keys.extend(keys)
            raise
        finally:
            self.on_sending(-1)
        for outcome in outcomes:
            self.tally.outcome(outcome)
            if (opened := self.breaker.note(outcome)) is not None:
                self._stop_now(opened)
            if outcome.billed == "unknown":
                self.tally.unknown_keys.append(outcome.key)
            self._flights.land(outcome.key)
        self._tell()
        return True

    async def _part_with(self, keys: Sequence[str], spent: Spent) -> None:
        """These stay without an answer: say so where that may have cost something, take the marks back where not."""
        if spent.billed == "no" and spent.is_marked:
            with contextlib.suppress(StoreError):
                await self.store.clear_sent(keys)
        elif spent.billed != "no" and not spent.has_job:
            self.tally.unknown_keys.extend(keys)

    async def _keep(self, outcomes: Sequence[Outcome]) -> None:
        """Journal what is final; a passing failure stays in this run only, and the next one asks again."""
        if final := [outcome for outcome in outcomes if outcome.is_final]:
            await self.store.save(final)
        for outcome in outcomes:
            if not outcome.is_final:
                self.passing[outcome.key] = outcome
                if outcome.billed == "no":
                    await self.store.clear_sent([outcome.key])
                await self.store.release([outcome.key])

    def _give_up(self, images: Sequence[Image]) -> None:
        self.tally.unanswered += self._flights.give_up(images)

    async def _answer(self, window: Window) -> Answered:
        window.unanswered.update(image.key for image in window.images if image.key in self.passing)
        answered = [image.key for image in window.images if image.key not in window.unanswered]
        outcomes = await asyncio.get_running_loop().run_in_executor(self._threads, self.store.take, answered)
        self.tally.rows += window.rows.num_rows
        self.tally.skipped += window.index.null_count
        if window.known:
            columns = (outcomes.column("status").to_pylist(), outcomes.column("error_code").to_pylist())
            for key, status, code in zip(answered, *columns, strict=True):
                if key in window.known:
                    self.tally.known_status(status, code)
        self._tell()
        return with_unanswered(window, outcomes, self.passing)

    def _tell(self, *, is_last: bool = False) -> None:
        if self.observer is None or (self.clock.monotonic() - self._told < 0.1 and not is_last):
            return
        self._told = self.clock.monotonic()
        self.observer(self.tally.progress(self.total_rows))

    def _stop_or_cut(self, error: BaseException | None) -> None:
        if self.is_stopping():
            self._crew.cut()
        else:
            self._stop_now(error or Interrupted("interrupted; every answer that had arrived is kept"))

    def _stop_now(self, error: BaseException) -> None:
        if self.stopped is not None:
            return
        self.stopped = error
        self._give_up(self._pending.close(drop=True))
        self._room.set()
        self._crew.stop()
        asyncio.get_running_loop().call_later(self.grace, self._crew.cut)

    async def _wind_up(self, feeder: asyncio.Task[None]) -> None:
        """Leave nothing running: called at the end, after a failure, and when the reader was dropped half way."""
        if self._crew.is_working:
            self._stop_now(Interrupted("the result was dropped before its end; every answer that had arrived is kept"))
        await self._crew.end(feeder)
        self._threads.shutdown(wait=False)
