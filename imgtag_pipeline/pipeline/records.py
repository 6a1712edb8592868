"""Where the books of calls of a store lie, and who opens them: for the stages of a run, for a plan, for the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.layout import local_path
from imgtag_pipeline.checkpoint.outbox import spool_folder
from imgtag_pipeline.checkpoint.remote import RemoteFolder
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.core.filesystems import open_filesystem
from imgtag_pipeline.errors import ImgtagError, StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.options import Options
from imgtag_pipeline.providers.contract import Provider
from imgtag_pipeline.spend import FileRecord, MemoryRecord, SpendGuard, SpendRecord, ledger, pricing
from imgtag_pipeline.spend.redis import RedisRecord
from imgtag_pipeline.urls import unsigned_url

log = logging.getLogger("imgtag_pipeline")


def books_folder(
    store: str, storage_options: Mapping[str, Any] | None, spool: str | os.PathLike[str] | None = None
) -> Path:
    """The folder of the store's books on this host: in the store, or in the spool of one that lies elsewhere."""
    path = local_path(store)
    return (
        path if path is not None else spool_folder(store, storage_options, None if spool is None else Path(spool))
    ) / ledger.FOLDER


def read_ledger(
    store: str,
    storage_options: Mapping[str, Any] | None = None,
    spool: str | os.PathLike[str] | None = None,
) -> list[ledger.Row]:
    """All rows that are known here: of this host, and of the others as they last left them."""
    return ledger.read(books_folder(store, storage_options, spool), _copies(store, storage_options))


def billed_before(options: Options, provider: Provider, clock: Clock) -> int:
    """The calls of this month, as far as the store's ledger knows, that count for the price's tiers."""
    if options.checkpoint is None:
        return 0
    rows = read_ledger(options.checkpoint, options.storage_options, options.spool)
    return ledger.counted(rows, key=provider.quota.key, address=provider.address, month=pricing.month_of(clock.now()))


async def open_guard(options: Options, provider: Provider, price: Price | None, clock: Clock) -> SpendGuard:
    """The spend guard of a run, with its place in the allotment where it names a cap."""
    kept = _kept_book(options, provider)
    shared = _redis_book(options, provider)
    spend_guard = SpendGuard(
        price,
        options.max_calls,
        None if options.budget is None else round(options.budget * pricing.MICRO),
        billed_before=await asyncio.to_thread(_elsewhere, options, provider, clock),
        book=shared or kept or MemoryRecord(),
        record=kept if shared is not None else None,
        job=options.job,
        budget_per=options.budget_per,
        clock=clock,
    )
    try:
        await spend_guard.open()
    except BaseException:
        await spend_guard.close()
        raise
    return spend_guard


async def close_guard(spend_guard: SpendGuard, options: Options, provider: Provider) -> None:
    """Give the place up; of a store elsewhere, leave there what this host's ledger says."""
    await spend_guard.close()
    kept = _kept_book(options, provider)
    if kept is None or options.checkpoint is None:
        return
    try:
        shared = _shared(options.checkpoint, options.storage_options)
        if shared is not None:
            await asyncio.to_thread(ledger.leave_copy, shared, kept.path)
    except (OSError, ImgtagError) as error:
        log.warning("event=ledger_not_left detail=%s", type(error).__name__)


def _kept_book(options: Options, provider: Provider) -> FileRecord | None:
    if options.checkpoint is None:
        return None
    key, address = provider.quota.key, provider.address
    folder = books_folder(options.checkpoint, options.storage_options, options.spool)
    return FileRecord(folder, ledger.name_of(key, address), key=key, address=address)


def _redis_book(options: Options, provider: Provider) -> SpendRecord | None:
    if options.redis_url is None:
        return None
    key, address = provider.quota.key, provider.address
    store = options.checkpoint
    where = "" if store is None or local_path(store) is not None else unsigned_url(store).rstrip("/")
    name = f"{ledger.name_of(key, address)}-{hashlib.sha256(where.encode()).hexdigest()[:8]}"
    return RedisRecord(options.redis_url, name, key=key, address=address)


def _elsewhere(options: Options, provider: Provider, clock: Clock) -> int:
    """What other hosts' ledgers add to this month. Redis knows all hosts by itself."""
    if options.checkpoint is None or options.redis_url is not None:
        return 0
    store = options.checkpoint
    folder = books_folder(store, options.storage_options, options.spool)
    rows = ledger.read_elsewhere(folder, _copies(store, options.storage_options))
    return ledger.counted(rows, key=provider.quota.key, address=provider.address, month=pricing.month_of(clock.now()))


def _copies(store: str, storage_options: Mapping[str, Any] | None) -> list[bytes]:
    shared = _shared(store, storage_options)
    if shared is None:
        return []
    try:
        return list(ledger.copies(shared))
    except OSError as error:
        raise StoreError(
            f"the ledger in {unsigned_url(store)} cannot be read ({error}), so the month's calls are not known; "
            "see that the store can be reached, and run again"
        ) from None


def _shared(store: str, storage_options: Mapping[str, Any] | None) -> RemoteFolder | None:
    if local_path(store) is not None:
        return None
    filesystem, root = open_filesystem(store, storage_options)
    return RemoteFolder(filesystem, root, Files()).child(ledger.FOLDER)
