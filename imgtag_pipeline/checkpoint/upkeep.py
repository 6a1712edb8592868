"""`compact`: adopts what dead runs left in a store and merges its small parts, also while others read and write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from imgtag_pipeline.checkpoint.compaction import merge, small_groups
from imgtag_pipeline.checkpoint.layout import Identity, new_token
from imgtag_pipeline.checkpoint.open import Held, Opening, Tuning, held, open_at, said_plainly
from imgtag_pipeline.checkpoint.remote import OBJECT_BYTES, RemoteParts
from imgtag_pipeline.core.clock import Clock, SystemClock

LOCAL_BYTES: Final = 32 << 20


@dataclass(frozen=True, slots=True)
class Compacted:
    """What compaction did to one identity's folder; `problem` says why nothing could be done."""

    address: str
    folder: str
    parts_before: int = 0
    parts_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    problem: str | None = None


def compact(
    url: str,
    *,
    storage_options: Mapping[str, Any] | None = None,
    spool: Path | None = None,
    clock: Clock | None = None,
    tuning: Tuning | None = None,
) -> list[Compacted]:
    """Merge the small parts of every identity. Every outcome is kept, and nothing that is readable stops being so."""
    clock, tuning = clock or SystemClock(), tuning or Tuning()
    done = []
    with said_plainly(url, "cannot be compacted", "every outcome is still there, and a further try goes on"):
        for found in list(held(url, storage_options, spool, tuning.files)):
            who = Identity.of(found.facts.get("identity", {}))
            if found.problem:
                done.append(Compacted(who.address, found.folder, problem=found.problem))
                continue
            run = f"compact-{new_token(clock.now())}"
            open_at(url, Opening(who, run, clock, tuning), storage_options=storage_options, spool=spool).close_now()
            done.append(_merged(found, who, run))
    return done


def _merged(found: Held, who: Identity, run: str) -> Compacted:
    folder = found.parts[-1]
    target = OBJECT_BYTES if isinstance(folder, RemoteParts) else LOCAL_BYTES
    before = folder.sizes()
    for number, names in enumerate(small_groups(before, target=target)):
        merge(folder, names, stem=f"{run.removeprefix('compact-')}-c{number:05d}", run=run, max_bytes=target)
    after = folder.sizes()
    return Compacted(who.address, found.folder, len(before), len(after), sum(before.values()), sum(after.values()))
