"""The tag store: what is known about each image of one identity, kept in a folder that runs share, or in memory."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from imgtag_pipeline.clock import Clock
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Job, Outcome
from imgtag_pipeline.store_desk import Desk
from imgtag_pipeline.store_files import Files, sweep, write_whole
from imgtag_pipeline.store_journaled import JournaledStore
from imgtag_pipeline.store_layout import (
    JOURNAL,
    MANIFEST,
    PARTS,
    Identity,
    check_manifest,
    local_path,
    manifest_of,
    new_token,
    package_version,
    read_manifest,
)
from imgtag_pipeline.store_memory import MemoryStore
from imgtag_pipeline.store_parts import LocalParts
from imgtag_pipeline.store_peers import Recovered
from imgtag_pipeline.store_rows import microseconds
from imgtag_pipeline.store_sealer import Sealer, Worker
from imgtag_pipeline.store_shelf import Known, Shelf
from imgtag_pipeline.store_writer import Pace, Writer


class TagStore(Protocol):
    """What is known about images, by key. A coroutine that returns has written what it says."""

    @property
    def possibly_billed(self) -> list[str]:
        """Keys that a dead run had sent and that had no outcome when that was found."""
        ...

    @property
    def recovered(self) -> Recovered:
        """What was found in the journals of dead runs."""
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
        """The keys that this process may ask about: unknown, and claimed by no other living process."""
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


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes and times that seldom need a change; `files` lets a test break the disk."""

    pace: Pace = field(default_factory=Pace)
    cache_bytes: int = 256 << 20
    files: Files = field(default_factory=Files)


def open_store(
    url: str | None,
    *,
    identity: Mapping[str, Any],
    run_id: str,
    clock: Clock,
    storage_options: Mapping[str, Any] | None = None,
    spool: Path | None = None,
    tuning: Tuning | None = None,
) -> TagStore:
    """The store of `identity` in the folder `url`, made if it is not there; None for one in memory.

    Reads what is there, which may take a second per million images: better called off the event loop.
    """
    if url is None:
        return MemoryStore(run_id=run_id, clock=clock)
    tuning = tuning or Tuning()
    who = Identity.of(identity)
    path = local_path(os.fspath(url))
    if path is None:
        raise StoreError(f"a tag store behind {url} is not supported yet")
    return _open_local(path / who.slug, who, run_id, clock, tuning)


def _open_local(home: Path, who: Identity, run_id: str, clock: Clock, tuning: Tuning) -> JournaledStore:
    try:
        for folder in (home, home / PARTS, home / JOURNAL):
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
        _settle_manifest(home, who, clock, tuning.files)
        shelf = Shelf([LocalParts(home / PARTS, tuning.files)], cache_bytes=tuning.cache_bytes)
        return _open_journal(home, who, run_id, clock, tuning, shelf)
    except OSError as error:
        raise StoreError(f"the tag store {home} cannot be opened: {error.strerror or error}") from error


def _settle_manifest(home: Path, who: Identity, clock: Clock, files: Files) -> None:
    path = home / MANIFEST
    if not path.exists():
        write_whole(files, path, manifest_of(who, clock.now()))
    check_manifest(read_manifest(path.read_bytes(), str(home)), who, str(home))


def _open_journal(home: Path, who: Identity, run_id: str, clock: Clock, tuning: Tuning, shelf: Shelf) -> JournaledStore:
    parts = LocalParts(home / PARTS, tuning.files)
    sealer = Sealer(shelf, parts, run=run_id, max_bytes=1 << 40)
    worker = Worker("imgtag-sealer")
    token = new_token(clock.now())
    facts = {
        "run": run_id,
        "identity": who.slug,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "version": package_version(),
    }
    desk = Desk(
        home / JOURNAL,
        token=token,
        facts=facts,
        seed=who.seed,
        shelf=shelf,
        sealer=sealer,
        submit=worker.submit,
        clock=clock,
        files=tuning.files,
    )
    desk.open()
    shelf.mark_opened(microseconds(clock.now()))
    writer = Writer(desk, worker, pace=tuning.pace, place=str(home))
    return JournaledStore(shelf=shelf, desk=desk, writer=writer, sealer=sealer, clock=clock, place=str(home / JOURNAL))
