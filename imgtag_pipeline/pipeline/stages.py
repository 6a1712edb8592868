"""Opens the resources of one run in the order of their dependence, and closes them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.checkpoint import FlushPolicy, TagStore, Tuning, loss_bound, open_store
from imgtag_pipeline.core import references
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.core.filesystems import file_errors
from imgtag_pipeline.errors import ConfigError, PermanentError, StoreError
from imgtag_pipeline.images import ImageReader, check_before
from imgtag_pipeline.limiter import Limiter
from imgtag_pipeline.model import Price
from imgtag_pipeline.options import Options, failed_limit
from imgtag_pipeline.pipeline import records as money
from imgtag_pipeline.providers.contract import (
    Computing,
    Prechecking,
    Preparing,
    Provider,
    ReadingImages,
    may_read_files,
    mended_codes,
)
from imgtag_pipeline.run import Run
from imgtag_pipeline.run.answered import NOT_ASKED_YET, STOPPED_BEFORE
from imgtag_pipeline.run.breaker import Breaker
from imgtag_pipeline.run.call import Caller
from imgtag_pipeline.run.conversation import ConversationRunner
from imgtag_pipeline.run.events import RunStart, Sealed
from imgtag_pipeline.run.first_look import FirstLook
from imgtag_pipeline.run.report import Tally
from imgtag_pipeline.run.watch import Observer, Watch
from imgtag_pipeline.spend import SpendGuard
from imgtag_pipeline.transport import Transport
from imgtag_pipeline.urls import redact

log = logging.getLogger("imgtag_pipeline")

MOST_IN_FLIGHT: Final = 256
MOST_WINDOW: Final = 1024
LEAST_WINDOW: Final = 64
WINDOW_SECONDS: Final = 30
READ_AHEAD_SECONDS: Final = 5.0
LEAST_READ_AHEAD: Final = 16
MOST_READ_AHEAD: Final = 256
# Windows of a reader that may be paid for and not read: WINDOWS_AHEAD, one in the bridge, one on its way there, and two
# that a reader with several threads (DuckDB) takes before it has read the first.
WINDOWS_PAID_AHEAD: Final = 8


@dataclass(frozen=True, slots=True)
class RunSpec:
    """The specification of one run; `references` and `strip` read the caller's rows, `price` is that of one call."""

    options: Options
    provider: Provider
    price: Price | None
    run_id: str
    clock: Clock
    references: Callable[[pa.RecordBatch], tuple[pa.Array, pa.Array | None]]
    strip: Callable[[pa.RecordBatch], pa.RecordBatch]
    keeps_rows: bool
    total_rows: int | None
    observers: Sequence[Observer]
    is_lazy: bool = False


@dataclass(slots=True, eq=False)
class RunResources:
    """The resources of one run, opened together and closed together."""

    order: RunSpec
    store: TagStore
    limiter: Limiter
    run: Run
    tally: Tally
    watch: Watch
    began: float
    started: datetime

    @classmethod
    async def open(cls, order: RunSpec, stack: AsyncExitStack) -> RunResources:
        """Open what a run needs, in an order in which each may rely on the ones before; closed by the stack."""
        options, provider, clock = order.options, order.provider, order.clock
        began, started = clock.monotonic(), clock.now()
        concurrency = concurrency_of(options, provider)
        if isinstance(provider, Preparing) and not options.offline:
            await asyncio.to_thread(provider.prepare)
        store = await asyncio.to_thread(
            opened,
            options.checkpoint,
            identity=provider.identity(),
            run_id=order.run_id,
            clock=clock,
            storage_options=options.storage_options,
            spool=None if options.spool is None else Path(options.spool),
            tuning=Tuning(pace=FlushPolicy(put_every=options.put_every)),
            key_of=provider.key,
        )
        stack.push_async_callback(store.close)
        limiter = Limiter(clock=clock, redis_url=options.redis_url)
        stack.push_async_callback(limiter.aclose)
        transport = await stack.enter_async_context(
            Transport(connections=max(concurrency, 16), allow_private=options.allow_private)
        )
        cores = threads_of(provider)
        threads = ThreadPoolExecutor(cores, "imgtag-compute")
        stack.callback(threads.shutdown, wait=False, cancel_futures=True)
        reader = ImageReader(
            transport.download,
            storage_options=options.storage_options,
            allow_private=options.allow_private,
            allow_local=may_read_files(provider, options.allow_local),
        )
        tally = Tally()
        watch = Watch(
            clock,
            order.run_id,
            order.observers,
            partial(limiter.pace, provider.quota, options.qps),
            options.max_calls,
            options.budget,
        )
        told = partial(_tell_sealed, watch)
        store.tell_sealed(_told_on(asyncio.get_running_loop(), told))
        if options.offline:
            spend_guard = SpendGuard(order.price)
        else:
            spend_guard = await money.open_guard(options, provider, order.price, clock)
            stack.push_async_callback(money.close_guard, spend_guard, options, provider)
        caller = Caller(
            provider=provider,
            send=transport.send,
            fetch=reader.read,
            pacer=limiter,
            spend_guard=spend_guard,
            mark_sent=store.mark_sent,
            clock=clock,
            policy=options.policy,
            tally=tally,
            is_stopping=lambda: run.is_stopping(),
            on_sending=lambda change: run.on_sending(change),
            on_trouble=watch.troubled,
            refresh=_refresher(provider),
            qps=options.qps,
            share_of=provider.quota.key,
        )
        talker = ConversationRunner(
            provider, caller.call, caller.read, store.save_job, caller.settle, threads, clock, cores
        )
        run = Run(
            store=store,
            talker=talker,
            tally=tally,
            clock=clock,
            key_of=provider.key,
            references=order.references,
            strip=order.strip,
            concurrency=0 if options.offline else concurrency,
            breaker=_breaker(options),
            batch_size=provider.batch_size,
            window_rows=_window_rows(order),
            retry_failed=options.retry_failed,
            grace=options.grace,
            keeps_rows=order.keeps_rows,
            not_asked=NOT_ASKED_YET if options.writes_unasked else STOPPED_BEFORE,
            is_offline=options.offline,
            total_rows=order.total_rows,
            watch=watch,
            retry_codes=mended_codes(provider),
            first_look=FirstLook(checker(options, provider), order.total_rows),
        )
        if bound := loss_bound(None if options.offline else options.checkpoint, put_every=options.put_every):
            log.info("event=loss_bound put_every=%g detail=%s", options.put_every, bound)
        watch.tell(
            RunStart(
                run=order.run_id,
                provider=provider.address,
                rows=order.total_rows,
                concurrency=concurrency,
                qps=watch.pace(),
                checkpoint=redact(options.checkpoint) if options.checkpoint else None,
            )
        )
        return cls(order, store, limiter, run, tally, watch, began, started)

    def replay(self) -> Run:
        """The same rows once more, nothing asked: everything is in the store by now."""
        first = self.run
        return Run(
            store=first.store,
            talker=first.talker,
            tally=Tally(),
            clock=first.clock,
            key_of=first.key_of,
            references=first.references,
            strip=first.strip,
            concurrency=0,
            is_offline=True,
            not_asked=first.not_asked,
            passing=first.passing,
        )

    async def close(self) -> None:
        """Seal the store while its figures can still be told."""
        await asyncio.shield(asyncio.ensure_future(self.store.close()))

    def quota_used_percent(self) -> float | None:
        """The share of the quota that the run's calls used, None where nothing is limited."""
        used = self.limiter.used(self.order.provider.quota)
        return None if used is None else round(100 * used, 1)

    def recovered(self) -> dict[str, Any]:
        """What was found of earlier runs that did not end well."""
        return dict(self.store.recovered)


def _tell_sealed(watch: Watch, rows: int) -> None:
    watch.tell(Sealed(run=watch.run, rows=rows))


def _told_on(loop: asyncio.AbstractEventLoop, tell: Callable[[int], None]) -> Callable[[int], None]:
    """`tell` for another thread: it runs on the loop, or not at all once that is closed."""

    def later(rows: int) -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell, rows)

    return later


def checker(options: Options, provider: Provider) -> Callable[[str], PermanentError | None]:
    """A function that says why an image cannot succeed, found without a call; it may read the head of a local file."""

    def check(url: str) -> PermanentError | None:
        if (no_reference := references.problem(url)) is not None:
            return no_reference
        problem = provider.precheck(url) if isinstance(provider, Prechecking) else None
        if problem is not None or not isinstance(provider, ReadingImages) or not provider.reads(url):
            return problem
        allow_local = may_read_files(provider, options.allow_local)
        return check_before(provider, url, allow_private=options.allow_private, allow_local=allow_local)

    return check


def opened(url: str | None, **words: Any) -> TagStore:
    """The tag store; `ConfigError` for whatever keeps it from being opened."""
    try:
        with file_errors(str(url), "opened as a tag store"):
            return open_store(url, **words)
    except StoreError as error:
        raise ConfigError(str(error)) from None


def _breaker(options: Options) -> Breaker:
    if options.stop_failed is None:
        return Breaker(options.breaker)
    most = partial(failed_limit, options.stop_failed, name="stop_failed")
    return Breaker(options.breaker, lambda images: most(images) or 0.0, str(options.stop_failed))


def usable_cores() -> int:
    """The cores that this process may run on: so many threads compute at a time."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def threads_of(provider: Provider) -> int:
    """Computations at a time: the provider's word, else one for each core."""
    return (provider.threads if isinstance(provider, Computing) else None) or usable_cores()


def concurrency_of(options: Options, provider: Provider) -> int:
    """Exchanges in flight: the caller's word, else the provider's number, which grows with a share above its quota."""
    quota = provider.quota.qps
    if options.concurrency is not None or options.qps is None or quota is None or options.qps <= quota:
        return options.concurrency or provider.concurrency
    return max(provider.concurrency, min(MOST_IN_FLIGHT, math.ceil(provider.concurrency * options.qps / quota)))


def _refresher(provider: Provider) -> Callable[[], Awaitable[bool]] | None:
    return partial(asyncio.to_thread, provider.refresh) if isinstance(provider, Preparing) else None


def _window_rows(order: RunSpec) -> int:
    """Rows of a window: half a minute's; for a reader so few that what is ahead of it stays within `read_ahead`."""
    qps = order.options.qps or order.provider.quota.qps
    is_free = order.price is not None and not any(price for _, price in order.price.tiers)
    if order.is_lazy and (order.options.read_ahead is not None or not is_free):
        default = MOST_READ_AHEAD if qps is None else max(LEAST_READ_AHEAD, int(READ_AHEAD_SECONDS * qps))
        return max(1, (order.options.read_ahead or min(MOST_READ_AHEAD, default)) // WINDOWS_PAID_AHEAD)
    if qps is None:
        return MOST_WINDOW
    return max(LEAST_WINDOW, min(MOST_WINDOW, int(qps * WINDOW_SECONDS)))
