"""One pass over the rows: what comes in is asked about and goes out again in order, until the last row or a stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import Interrupted
from imgtag_pipeline.model import Outcome
from imgtag_pipeline.run.answered import STOPPED_BEFORE, Answered, with_unanswered
from imgtag_pipeline.run.batches import Pending, Window
from imgtag_pipeline.run.breaker import Breaker, BreakerLimits
from imgtag_pipeline.run.conversation import ConversationRunner
from imgtag_pipeline.run.feed import Feed
from imgtag_pipeline.run.first_look import FirstLook
from imgtag_pipeline.run.in_flight import InFlight
from imgtag_pipeline.run.places import WORKERS_PER_PLACE
from imgtag_pipeline.run.report import Tally
from imgtag_pipeline.run.store import Store
from imgtag_pipeline.run.watch import Watch
from imgtag_pipeline.run.worker import ImageWorker
from imgtag_pipeline.run.worker_pool import WorkerPool


@dataclass(slots=True, eq=False, repr=False)
class Run:
    """One pass of one input through one provider.

    `stop` may be called from any thread: nothing new is sent, calls in flight may finish within `grace` seconds. After
    the windows have been read, `stopped` holds the error that ended the run early, or None. With `is_offline`
    nothing is asked at all. After a stop, a run that `keeps_rows` goes on to the last row, the unanswered ones marked
    as not asked, with the code and sentence `not_asked`.
    """

    store: Store
    talker: ConversationRunner
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
    not_asked: tuple[str, str] = STOPPED_BEFORE
    total_rows: int | None = None
    watch: Watch | None = None
    retry_codes: frozenset[str] = frozenset()
    first_look: FirstLook | None = None
    stopped: BaseException | None = None
    passing: dict[str, Outcome] = field(default_factory=dict)
    _mended: set[str] = field(default_factory=set)
    _pending: Pending = field(default_factory=Pending)
    _crew: WorkerPool = field(default_factory=WorkerPool)
    _flights: InFlight = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "imgtag-rows"))

    def __post_init__(self) -> None:
        self._flights = InFlight(self.tally)

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
        """The windows in order, each when all its images have an outcome.

        Of a run that stops and keeps no rows, the windows behind the first gap are counted and not given out.
        """
        self._loop = asyncio.get_running_loop()
        intake = self._intake()
        self._crew.start(self.concurrency, self._asking().work, WORKERS_PER_PLACE * self.concurrency)
        feeder = asyncio.create_task(intake.feed(batches), name="imgtag-feeder")
        ticker = self._ticker()
        is_cut = False
        try:
            while (window := await intake.windows.get()) is not None:
                await window.is_complete.wait()
                is_cut = is_cut or (self.is_stopping() and bool(window.unanswered) and not self.keeps_rows)
                answered = await self._answer(window)
                if not is_cut:
                    yield answered
                intake.release()
            await feeder
            await self._crew.worked()
            self._tell(is_last=True)
        finally:
            try:
                await self._wind_up(feeder)
            finally:
                if ticker is not None:
                    ticker.cancel()
                    await asyncio.wait([ticker])

    def _intake(self) -> Feed:
        return Feed(
            store=self.store,
            tally=self.tally,
            pending=self._pending,
            flights=self._flights,
            crew=self._crew,
            passing=self.passing,
            threads=self._threads,
            key_of=self.key_of,
            references=self.references,
            strip=self.strip,
            is_stopping=self.is_stopping,
            window_rows=self.window_rows,
            retry_failed=self.retry_failed,
            is_offline=self.is_offline,
            keeps_rows=self.keeps_rows,
            retry_codes=self.retry_codes,
            first_look=self.first_look,
        )

    def _asking(self) -> ImageWorker:
        return ImageWorker(
            store=self.store,
            talker=self.talker,
            tally=self.tally,
            pending=self._pending,
            flights=self._flights,
            crew=self._crew,
            breaker=self.breaker,
            passing=self.passing,
            mended=self._mended,
            batch_size=self.batch_size,
            free=asyncio.Semaphore(max(1, self.concurrency)),
            clock=self.clock,
            stop=self._stop_now,
            tell=self._tell,
        )

    async def _answer(self, window: Window) -> Answered:
        window.unanswered -= self._mended
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
        return with_unanswered(window, outcomes, self.passing, self.not_asked)

    def _ticker(self) -> asyncio.Task[None] | None:
        if self.watch is None or not self.watch.is_heard():
            return None
        return asyncio.create_task(self.watch.ticks(self._tell), name="imgtag-ticker")

    def _tell(self, *, is_last: bool = False) -> None:
        if self.watch is not None:
            self.watch.progress(self.tally, self.total_rows, is_last=is_last)

    def _stop_or_cut(self, error: BaseException | None) -> None:
        if self.is_stopping():
            self._crew.cut()
        else:
            self._stop_now(error or Interrupted("interrupted; run again to go on"))

    def _stop_now(self, error: BaseException) -> None:
        if self.stopped is not None:
            return
        self.stopped = error
        if self.watch is not None:
            self.watch.stopped(error)
        self._flights.give_up(self._pending.close(drop=True))
        self._crew.stop()
        asyncio.get_running_loop().call_later(self.grace, self._crew.cut)

    async def _wind_up(self, feeder: asyncio.Task[None]) -> None:
        """Leave nothing running: called at the end, after a failure, and when the reader was dropped half way."""
        if self._crew.is_working:
            self._stop_now(Interrupted("the result was dropped before its end; run again to go on"))
        await self._crew.end(feeder)
        self._threads.shutdown(wait=False)
