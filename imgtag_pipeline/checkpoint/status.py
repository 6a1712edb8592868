"""What a tag store holds, for people and for the ledger. Nothing is changed, and nothing that is alive is disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.compaction import row_names, rows_of
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.hash import digests
from imgtag_pipeline.checkpoint.index import EMPTY, FAILED, OK
from imgtag_pipeline.checkpoint.journal import drop_answered
from imgtag_pipeline.checkpoint.layout import Identity
from imgtag_pipeline.checkpoint.open import Held, Opening, Tuning, held, notes_elsewhere, said_plainly
from imgtag_pipeline.checkpoint.other_writers import LeftByDead, OtherWriters
from imgtag_pipeline.checkpoint.parts import joined
from imgtag_pipeline.checkpoint.row_blocks import PartGone
from imgtag_pipeline.core.clock import SystemClock

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """One identity's folder.

    `failed` counts images by their last code, `failed_attempts` counts the same images by how many outcomes each has
    had in all runs; `possibly_billed` are images that a dead run had sent and that nobody has answered since;
    `writers` live at this moment; `problem` says why the folder cannot be read, and then nothing is counted.
    """

    address: str
    identity: Mapping[str, Any]
    folder: str
    images: int = 0
    ok: int = 0
    empty: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)
    failed_attempts: Mapping[int, int] = field(default_factory=dict)
    parts: int = 0
    bytes: int = 0
    possibly_billed: tuple[str, ...] = ()
    unfinished_jobs: int = 0
    writers: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    problem: str | None = None


def describe(
    url: str, *, storage_options: Mapping[str, Any] | None = None, spool: Path | None = None
) -> list[StoreSummary]:
    """What the store holds, one entry for each identity; what this host has not put yet is counted too."""
    with said_plainly(url, "cannot be read", "nothing was changed"):
        return [_summary(found) for found in held(url, storage_options, spool, Files())]


def is_store(url: str, *, storage_options: Mapping[str, Any] | None = None, spool: Path | None = None) -> bool:
    """Whether a run has used this place as its checkpoint; no part is read."""
    with said_plainly(url, "cannot be read", "nothing was changed"):
        return any(True for _ in held(url, storage_options, spool, Files()))


def outcomes(
    url: str, *, storage_options: Mapping[str, Any] | None = None, spool: Path | None = None
) -> Iterator[tuple[Mapping[str, Any], pa.Table]]:
    """Every outcome that the store has kept, also those that a later one has beaten, with its identity; each once."""
    with said_plainly(url, "cannot be read", "nothing was changed"):
        for found in held(url, storage_options, spool, Files()):
            if not found.problem:
                for rows in _rows(found):
                    yield found.facts["identity"], rows


def _summary(found: Held) -> StoreSummary:
    identity = found.facts.get("identity", {})
    who = Identity.of(identity)
    if found.problem:
        return StoreSummary(who.address, identity, found.folder, problem=found.problem)
    shelf = Catalog(found.parts, cache_bytes=0)
    peers, dead = _looked(found, shelf)
    shelf.read_parts()
    writers = len(peers.tokens())
    notes = dead.notes
    if found.away:
        opening = Opening(who, "", SystemClock(), Tuning())
        notes.inherit(notes_elsewhere(found.away, found.home, opening, token="").read(peers.tokens()))
    _let_go(peers, dead)
    drop_answered(notes, shelf.index)
    sizes = {name: size for folder in found.parts for name, size in folder.sizes().items()}
    level = shelf.index.winners()
    counts = np.bincount(level.status, minlength=3)
    failed = level.pick(np.flatnonzero(level.status == FAILED))
    return StoreSummary(
        address=who.address,
        identity=identity,
        folder=found.folder,
        images=len(level),
        ok=int(counts[OK]),
        empty=int(counts[EMPTY]),
        failed=_by_code(shelf, failed.place),
        failed_attempts=_by_number(failed.attempts),
        parts=len(sizes),
        bytes=sum(sizes.values()),
        possibly_billed=tuple(notes.lost),
        unfinished_jobs=len(notes.jobs),
        writers=writers,
        oldest=_moment(level.at.min()) if len(level) else None,
        newest=_moment(level.at.max()) if len(level) else None,
    )


def _looked(found: Held, shelf: Catalog) -> tuple[OtherWriters, LeftByDead]:
    seed = Identity.of(found.facts["identity"]).seed
    peers = OtherWriters(found.journal, own="", seed=seed, shelf=shelf, files=Files())
    return peers, peers.look()


def _let_go(peers: OtherWriters, dead: LeftByDead) -> None:
    peers.close()
    for estate in dead.estates:
        estate.reader.close()


def _by_code(shelf: Catalog, places: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for start in range(0, len(places), 65_536):
        codes = shelf.rows_at(np.sort(places)[start : start + 65_536]).column("error_code")
        for entry in pc.value_counts(pc.fill_null(codes, "unknown")).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return dict(sorted(counts.items()))


def _by_number(attempts: Any) -> dict[int, int]:
    numbers, counts = np.unique(attempts, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))


def _moment(at: Any) -> datetime:
    return _EPOCH + timedelta(microseconds=int(at))


def _rows(found: Held) -> Iterator[pa.Table]:
    shelf = Catalog([], cache_bytes=0)
    peers, dead = _looked(found, shelf)
    _let_go(peers, dead)
    journaled = [batch for number in shelf.sources() for batch in shelf.rows(number)]
    fresh = joined(journaled)
    names = digests(row_names(fresh))
    seen: set[str] = set()
    for folder in found.parts:
        for name in folder.sizes():
            if name in seen:
                continue
            seen.add(name)
            try:
                rows = rows_of(folder, name)
            except PartGone:
                continue
            if len(names):
                is_known = np.isin(names, digests(row_names(rows)))
                fresh, names = fresh.filter(pa.array(~is_known)), names[~is_known]
            yield rows
    if fresh.num_rows:
        yield fresh
