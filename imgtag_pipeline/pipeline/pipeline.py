"""The conductor: the only place that knows the order of the stages and puts them together."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from imgtag_pipeline.checkpoint.store import is_store
from imgtag_pipeline.core.clock import Clock, SystemClock
from imgtag_pipeline.core.table import ImageColumn, Source
from imgtag_pipeline.errors import (
    CapReached,
    ConfigError,
    FatalError,
    ImgtagError,
    Interrupted,
    RowsFailed,
    RunStopped,
    StoreError,
)
from imgtag_pipeline.model import Price
from imgtag_pipeline.options import Options
from imgtag_pipeline.pipeline import expand, features
from imgtag_pipeline.pipeline import records as money
from imgtag_pipeline.pipeline.shaping import Shaper
from imgtag_pipeline.pipeline.stages import RunResources, RunSpec, checker, opened, threads_of
from imgtag_pipeline.providers.contract import Computing, Featuring, Provider, mended_codes
from imgtag_pipeline.run import Answered, Run
from imgtag_pipeline.run.known import Known
from imgtag_pipeline.run.plan import Basis, Plan, make_plan
from imgtag_pipeline.run.report import LISTED_IMAGES, RunReport
from imgtag_pipeline.run.watch import Observer
from imgtag_pipeline.source.tables import image_column, url_column
from imgtag_pipeline.spend import pricing
from imgtag_pipeline.urls import redact


@dataclass(slots=True, eq=False)
class Pipeline:
    """One labelling of one source, from rows to shaped batches. Iterate `batches()` to its end; then `report` is there.

    `keeps_rows`: after a stop go on to the last row, unanswered images marked as not asked (a table), or end at once
    (a stream).
    """

    source: Source
    column: str
    options: Options
    provider: Provider
    keeps_rows: bool = True
    bar: Observer | None = None
    clock: Clock = field(default_factory=SystemClock)
    report: RunReport | None = None
    stopped: BaseException | None = None
    run_id: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}")
    _run: Run | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)  # a signal handler may come while it is held

    def __post_init__(self) -> None:
        self._check()

    def _check(self) -> None:
        options = self.options
        shown = self.kept_names if options.shape == "long" else self.source.names
        expand.check_columns(shown, shape=options.shape, vocabulary=options.vocabulary)
        if self.features_size is not None:
            features.check(options.shape, shown)
        if options.budget is not None and self.price is None:
            raise ConfigError(
                f"the price of {self.provider.address} is not published, so budget= cannot be kept; give price= too"
            )
        if "bytes" not in self.provider.facts.image_as and self.source.holds_pictures(self.column):
            raise ConfigError(
                f"the column {self.column!r} holds pictures, and {self.provider.address} takes no bytes; "
                "give references"
            )
        if self.shaper.is_open and self.source.is_lazy:
            raise ConfigError(
                "a wide stream needs its columns before the first row: give vocabulary=, or pass a table, not a reader"
            )

    @property
    def kept_names(self) -> list[str]:
        """The caller's columns that stand first in a long table: the key, then those to keep.

        An image column called `url` is not among them: it is the long table's own `url`.
        """
        named = [*([] if self.options.key is None else [self.options.key]), *self.options.keep]
        resolved = [self.source.resolve(name) for name in dict.fromkeys(named)]
        return [name for name in resolved if not name == self.column == "url"]

    @property
    def key(self) -> str | None:
        """The column that identifies an image; None where that is the image column, whose signatures do not count."""
        key = None if self.options.key is None else self.source.identifying(self.options.key)
        return None if key == self.column else key

    def _kept(self) -> pa.Schema:
        return self.source.kept(self.options.shape, self.kept_names)

    @property
    def features_size(self) -> int | None:
        """Numbers of a feature vector, None where the result has no such column."""
        return self.provider.features_size if isinstance(self.provider, Featuring) else None

    @property
    def price(self) -> Price | None:
        """What one call costs: the caller's word, else the provider's; None where nobody knows."""
        return self.provider.price if self.options.price is None else pricing.flat(self.options.price)

    @property
    def shaper(self) -> Shaper:
        """How the answers are shown."""
        options = self.options
        view = expand.View(options.min_confidence, options.top_k)
        drops_failed = options.errors == "drop"
        return Shaper(
            options.shape,
            self.provider.address,
            self._kept(),
            view,
            options.vocabulary,
            drops_failed,
            options.value,
            self.features_size,
        )

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches; of a wide table without vocabulary, the schema without tag columns."""
        return self.shaper.schema

    def stop(self, error: BaseException | None = None) -> None:
        """Stop sending, from any thread; a second time, give up the calls in flight as well."""
        with self._lock:
            run = self._run
            if run is None:
                self.stopped = self.stopped or error or Interrupted("interrupted before the first call")
        if run is not None:
            run.stop(error)

    def _stop_on_request(self) -> None:
        self.stop(Interrupted("stopped on request; run again to go on"))

    async def plan(self) -> Plan:
        """What the run would take, by the rows, the store and the provider's limits. No call is made."""
        options, provider = self.options, self.provider
        qps = options.qps or provider.quota.qps
        precheck = checker(options, provider)
        price_text = provider.facts.price if options.price is None else f"{options.price:g} yuan a call"
        before = await asyncio.to_thread(money.billed_before, options, provider, self.clock)
        basis = Basis(provider.address, self.price, price_text, qps, provider.batch_size, before, self.clock.now())
        if isinstance(provider, Computing):
            each = await asyncio.to_thread(provider.seconds_an_image)
            basis = replace(basis, compute_seconds=each, threads=threads_of(provider))
        return await self._planned(partial(make_plan, precheck=precheck, key_of=provider.key, basis=basis))

    async def _planned(self, make: Callable[..., Plan]) -> Plan:
        checkpoint, storage_options = self.options.checkpoint, self.options.storage_options
        if checkpoint is not None:  # one that is not there yet is not made by planning
            is_there = await asyncio.to_thread(is_store, checkpoint, storage_options=storage_options)
            checkpoint = checkpoint if is_there else None
        store = await asyncio.to_thread(
            opened,
            checkpoint,
            identity=self.provider.identity(),
            run_id=self.run_id,
            clock=self.clock,
            storage_options=storage_options,
            spool=None if self.options.spool is None else Path(self.options.spool),
            key_of=self.provider.key,
        )
        is_over = threading.Event()
        try:
            known = Known(store, self.options.retry_failed, mended_codes(self.provider))
            rows = _until(is_over, self._rows())
            return await asyncio.to_thread(make, rows, self.references, known.lookup, store.jobs)
        finally:
            is_over.set()
            await store.close()

    async def batches(self) -> AsyncGenerator[pa.RecordBatch, None]:
        """The shaped batches in order. What ended the run early is in `stopped` afterwards, not raised."""
        async with AsyncExitStack() as stack:
            if self.options.stop is not None:
                stack.enter_context(self.options.stop.stopping(self._stop_on_request))
            stages = await RunResources.open(self._order(), stack)
            try:
                shown = self._in_two_passes(stages) if self.shaper.is_open else self._in_one_pass(stages)
                async with contextlib.aclosing(shown) as batches:
                    async for batch in batches:
                        yield batch
            except StoreError as error:
                stages.run.stopped = stages.run.stopped or error
                raise
            finally:
                self.stopped = await _closed(stages)
                self.report = self._reported(stages)
                if isinstance(self.stopped, StoreError):
                    stages.watch.stopped(self.stopped)
                stages.watch.ended(self.report)
                if isinstance(self.stopped, StoreError):
                    self.stopped.report = self.report

    async def _in_one_pass(self, stages: RunResources) -> AsyncGenerator[pa.RecordBatch, None]:
        shaper = self.shaper
        async with contextlib.aclosing(self._answered(stages)) as answered:
            async for window in answered:
                yield shaper.batch(window)

    async def _in_two_passes(self, stages: RunResources) -> AsyncGenerator[pa.RecordBatch, None]:
        """First ask and count the tags, then show the same rows from the store with a column for each."""
        shaper = self.shaper
        counts: Counter[str] = Counter()
        async with contextlib.aclosing(self._answered(stages)) as answered:
            async for window in answered:
                counts += expand.tag_counts(window.outcomes, shaper.view)
        vocabulary = expand.in_order(counts)
        async with contextlib.aclosing(stages.replay().answered(self._rows())) as again:
            async for window in again:
                yield shaper.batch(window, vocabulary)

    async def _answered(self, stages: RunResources) -> AsyncGenerator[Answered, None]:
        with self._lock:
            self._run = stages.run
            stages.run.stopped = self.stopped
        async with contextlib.aclosing(stages.run.answered(self._rows())) as answered:
            async for window in answered:
                yield window

    def _order(self) -> RunSpec:
        return RunSpec(
            options=self.options,
            provider=self.provider,
            price=self.price,
            run_id=self.run_id,
            clock=self.clock,
            references=self.references,
            strip=self.strip,
            keeps_rows=self.keeps_rows or self.options.writes_unasked,
            total_rows=self.source.rows,
            observers=[observer for observer in (self.bar, self.options.observer) if observer is not None],
            is_lazy=self.source.is_lazy,
        )

    def _rows(self) -> Iterator[pa.RecordBatch]:
        columns = [ImageColumn(self.column), *self._kept().names, *([] if self.key is None else [self.key])]
        return self.source.batches(columns)

    def references(self, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array | None]:
        """The image references of these rows, and their keys where the caller named a column."""
        return image_column(rows, self.column), None if self.key is None else url_column(rows, self.key)

    def strip(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Only the columns that the result carries."""
        return rows.select(self._kept().names)

    def error(self, partial: Any = None) -> BaseException | None:
        """What the caller is to be told at the end: the error that ended the run, or failures with `errors="raise"`."""
        error = self.stopped
        if isinstance(error, CapReached) and self.options.on_cap == "write":
            error = None
        if isinstance(error, RunStopped | FatalError | StoreError):
            error.report, error.partial = self.report, partial
        elif error is None and self.options.errors == "raise" and self.report and self.report.failed_images:
            codes = ", ".join(f"{code}: {count:,}" for code, count in sorted(self.report.failed.items()))
            error = RowsFailed(
                f"{self.report.failed_images:,} images failed ({codes}); see .partial (the table) and .report",
                report=self.report,
                partial=partial,
            )
        return error

    def _reported(self, stages: RunResources) -> RunReport:
        tally, store = stages.tally, stages.store
        unknown = list(dict.fromkeys([*store.possibly_billed, *tally.unknown_keys]))
        cost = tally.cost_micro_yuan
        return RunReport(
            run=self.run_id,
            provider=self.provider.address,
            started=stages.started.isoformat(timespec="seconds"),
            elapsed=round(self.clock.monotonic() - stages.began, 3),
            rows=tally.rows,
            images=tally.images,
            known=tally.known,
            ok=tally.ok,
            empty=tally.empty,
            failed=dict(tally.failed),
            skipped=tally.skipped,
            unanswered=tally.unanswered,
            calls=tally.calls,
            billed=dict(tally.billed),
            yuan=None if cost is None else cost / pricing.MICRO,
            retries=tally.retries,
            throttled_seconds=round(stages.limiter.throttled_seconds, 3),
            quota_used_percent=stages.quota_used_percent(),
            possibly_billed=unknown[:LISTED_IMAGES],
            possibly_billed_count=len(unknown),
            recovered=stages.recovered(),
            checkpoint=redact(self.options.checkpoint) if self.options.checkpoint else None,
            stopped=None if self.stopped is None else f"{type(self.stopped).__name__}: {self.stopped}",
            exit_code=_exit_code(self.stopped),
            other_urls=tally.other_urls,
        )


def _until(is_over: threading.Event, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows, as long as somebody wants them: a thread cannot be cancelled."""
    for batch in rows:
        if is_over.is_set():
            return
        yield batch


async def _closed(stages: RunResources) -> BaseException | None:
    """What ended the run early, a store that could not be sealed included: the report is told all the same."""
    try:
        await stages.close()
    except StoreError as error:
        return stages.run.stopped or error
    return stages.run.stopped


def _exit_code(stopped: BaseException | None) -> int:
    if stopped is None:
        return 0
    if isinstance(stopped, ImgtagError):
        return stopped.exit_code
    return 130 if isinstance(stopped, KeyboardInterrupt | asyncio.CancelledError) else 1
