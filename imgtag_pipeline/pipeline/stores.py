"""The verbs about a tag store: what it holds, what it has cost, merging its small parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from imgtag_pipeline.checkpoint import store as checkpoint
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.core.filesystems import file_errors
from imgtag_pipeline.core.redaction import hide_secrets
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.pipeline import records as money
from imgtag_pipeline.spend import ledger as ledgers


@hide_secrets
def status(store: str, *, storage_options: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """What a tag store holds, one entry per identity, as plain data; `ConfigError` where there is none."""
    check_store(store, storage_options=storage_options)
    return [asdict(summary) for summary in checkpoint.describe(store, storage_options=storage_options)]


@hide_secrets
def compact(store: str, *, storage_options: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Merge the small parts of a tag store; what was merged, one entry per identity; `ConfigError` without a store."""
    check_store(store, storage_options=storage_options)
    merged = checkpoint.compact(store, storage_options=storage_options, clock=SystemClock())
    return [asdict(each) for each in merged]


def check_store(store: str, *, storage_options: Mapping[str, Any] | None = None) -> None:
    """`ConfigError` where no run has had its checkpoint, and where the place cannot be looked at."""
    try:
        with file_errors(store, "opened as a tag store"):
            is_store = checkpoint.is_store(store, storage_options=storage_options)
    except StoreError as error:
        raise ConfigError(str(error)) from None
    if not is_store:
        raise ConfigError(
            f"there is no tag store at {store!r}; give the folder or URL that a run had as its checkpoint"
        )


@hide_secrets
def ledger(store: str, *, storage_options: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The paid calls of a tag store's runs by account, action and month of China: billed yes, no, unknown, and yuan."""
    check_store(store, storage_options=storage_options)
    return [ledgers.plain(row) for row in money.read_ledger(store, storage_options)]
