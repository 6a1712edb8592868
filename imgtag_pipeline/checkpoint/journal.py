"""This process's journal: appends to segments, adopts segments of dead writers, hands full ones to the sealer.

Plain and synchronous, used by one thread at a time. The operating system's errors pass through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.claims import claims_lock
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.frames import Kind
from imgtag_pipeline.checkpoint.hash import digest
from imgtag_pipeline.checkpoint.index import Index
from imgtag_pipeline.checkpoint.mark_uploads import Unput
from imgtag_pipeline.checkpoint.other_writers import LeftByDead, OtherWriters
from imgtag_pipeline.checkpoint.rows import microseconds, outcomes_to_batch
from imgtag_pipeline.checkpoint.sealer import Sealer, Task
from imgtag_pipeline.checkpoint.segment import SUFFIX, OpenMarks, Segment, marks, write_jobs
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.model import Job, Outcome

_FRAME_ROWS: Final = 4096


@dataclass(slots=True)
class Group:
    """What is to be written together."""

    sent: list[str] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    jobs: dict[str, Job] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    released: list[str] = field(default_factory=list)


class Journal:
    """Writes one journal, segment after segment. `submit` runs work on the sealer's thread."""

    def __init__(
        self,
        folder: Path,
        *,
        token: str,
        facts: Mapping[str, Any],
        seed: int,
        shelf: Catalog,
        sealer: Sealer,
        submit: Callable[[Callable[[], None]], None],
        clock: Clock,
        files: Files,
        unput: Unput | None = None,
    ) -> None:
        self.notes = OpenMarks()
        self.possibly_billed: list[str] = []
        self._sent_elsewhere: dict[str, int] = {}
        self.claimed_elsewhere: frozenset[bytes] = frozenset()
        self.peers = OtherWriters(folder, own=token, seed=seed, shelf=shelf, files=files)
        self.rows = 0
        self._folder = folder
        self.token = token
        self.run = str(facts["run"])
        self._facts = facts
        self._seed = seed
        self._shelf = shelf
        self._sealer = sealer
        self._submit = submit
        self._clock = clock
        self._files = files
        self._unput = unput
        self._segment: Segment | None = None
        self._source = 0
        self._number = 0
        self._last_at = 0

    @property
    def size(self) -> int:
        """Bytes in the open segment."""
        return self._segment.size if self._segment else 0

    @property
    def has_segment(self) -> bool:
        """Something was written and is not sealed yet."""
        return self._segment is not None

    # --- writing ---

    def record(self, group: Group) -> None:
        """Hand it all to the operating system, then let it count."""
        now = self._now()
        sent = self._sent(group.sent, now)
        batches = [
            self._batch(group.outcomes[i : i + _FRAME_ROWS], now) for i in range(0, len(group.outcomes), _FRAME_ROWS)
        ]
        frames: list[tuple[Kind, bytes]] = []
        if sent:
            frames.append((Kind.SENT, marks(sent)))
        if group.cleared:
            frames.append((Kind.CLEARED, msgspec.json.encode(group.cleared)))
        if group.jobs:
            frames.append((Kind.JOB, write_jobs(group.jobs)))
        frames += [(Kind.OUTCOME, bytes(batch.serialize())) for batch in batches]
        released = [digest(key) for key in group.released]
        if released:
            frames.append((Kind.RELEASE, b"".join(released)))
        if not frames:
            return
        self._opened().append(frames)
        self.notes.sent.update(sent)
        for key in group.cleared:
            self.notes.sent.pop(key, None)
        self.notes.jobs.update(group.jobs)
        self.notes.claims.difference_update(released)
        if self._unput and (sent or group.jobs):
            self._unput.on_sent()
        self._list_elsewhere(sent)
        for batch in batches:
            keys = batch.column("key").to_pylist()
            if self._unput:
                self._unput.answered(keys, self.notes)
            self.notes.answered(keys)
            self._shelf.append(self._source, batch)
            self.rows += batch.num_rows

    def _sent(self, keys: Sequence[str], now: int) -> dict[str, int]:
        """Time stamps of sent marks, always later than the key's last outcome, even if the clock went back."""
        earlier = self._shelf.index.find(keys).at.tolist()
        before = self._sent_elsewhere
        return {key: max(now, at + 1, before.get(key, 0)) for key, at in zip(keys, earlier, strict=True)}

    def _list_elsewhere(self, sent: Mapping[str, int]) -> None:
        """Another host has sent these, too, and whether it lives or is lost, no answer of it was found."""
        if self._sent_elsewhere:
            self.possibly_billed += [key for key in sent if self._sent_elsewhere.pop(key, None) is not None]

    def _batch(self, outcomes: Sequence[Outcome], now: int) -> pa.RecordBatch:
        keys = [outcome.key for outcome in outcomes]
        found = self._shelf.index.find(keys)
        sent, lost = self.notes.sent, self.notes.lost
        at = [
            max(now, earlier + 1, sent.get(key, 0), lost.get(key, 0))
            for key, earlier in zip(keys, found.at.tolist(), strict=True)
        ]
        before = found.attempts.astype(np.int64).tolist()
        attempts = [more + outcome.attempts for more, outcome in zip(before, outcomes, strict=True)]
        return outcomes_to_batch(outcomes, run=self.run, at=at, attempts=attempts)

    def _now(self) -> int:
        self._last_at = max(self._last_at, microseconds(self._clock.now()))
        return self._last_at

    def sync(self) -> None:
        """Return when all that was recorded outlives the machine."""
        if self._segment:
            self._segment.sync()

    def _opened(self) -> Segment:
        if self._segment is None:
            self._begin()
        assert self._segment is not None
        return self._segment

    def _begin(self) -> None:
        self._number += 1
        name = f"{self.token}-{self._number:06d}{SUFFIX}"
        header = {**self._facts, "started": self._clock.now().isoformat(timespec="seconds")}
        path = self._folder / name
        self._segment = Segment(path, seed=self._seed, header=header, notes=self.notes, files=self._files)
        self._source = self._shelf.new_source()
        self.rows = 0

    def rotate(self) -> None:
        """Go on in a new segment and have the old one sealed; until that is done the old one is what there is."""
        if self._segment:
            self._segment.sync()
            self._hand_over(self._segment)

    def _hand_over(self, old: Segment) -> None:
        source = self._source
        self._begin()
        self._submit(partial(self._sealer.seal, Task(old, source)))

    def finish(self) -> None:
        """Have everything sealed; what nobody answered stays behind as a small segment for the next run."""
        self.notes.claims.clear()
        drop_answered(self.notes, self._shelf.index)
        self.peers.close()
        last = self._segment
        if last is None:
            return
        with suppress(OSError):  # where it is sealed, the part counts; where that fails too, the sealer says so
            last.sync()
        if self.notes.is_empty():
            self._submit(partial(self._sealer.seal, Task(last, self._source)))
        else:
            if self.rows or not last.is_sound:
                self._hand_over(last)
            self._submit(self._opened().close)
        self._segment = None

    def abandon(self) -> None:
        """Leave the open segment as it is, for a later run to adopt."""
        self.peers.close()
        if self._segment:
            self._segment.close()
            self._segment = None

    # --- the others ---

    def open(self) -> None:
        """Read everything that is there. Journals first: whatever is sealed meanwhile is found among the parts."""
        dead = self.peers.look()
        self._shelf.read_parts()
        self._adopt(dead)

    def look(self) -> None:
        """See what the other writers of this folder have done; adopt what the dead ones left."""
        self._adopt(self.peers.look())
        self.claimed_elsewhere = frozenset(self.peers.claims())

    def _adopt(self, dead: LeftByDead) -> None:
        if not dead.estates:
            return
        for estate in dead.estates:
            estate.reader.sync()
        self.inherit(dead.notes)
        for estate in dead.estates:
            self._submit(partial(self._sealer.seal, Task(estate.reader, estate.source)))

    def inherit(self, left: OpenMarks) -> None:
        """Take over what a dead process left unanswered, durably."""
        drop_answered(left, self._shelf.index)
        self.possibly_billed += [key for key in left.lost if key not in self.notes.lost]
        if not left.is_empty():
            self._opened().append(left.frames())
            self.sync()
            self.notes.inherit(left)

    def take_sent_elsewhere(self, marks: Mapping[str, int]) -> None:
        """What hosts have sent that may live: it is listed once it is sent from here, too."""
        left = OpenMarks(lost=dict(marks))
        drop_answered(left, self._shelf.index)
        self._sent_elsewhere = left.lost

    def claim(self, keys: Sequence[str], *, retry_failed: bool) -> set[str] | None:
        """Those of the keys that nobody has answered or is asking about: from now on they are ours to ask.

        None when another process is claiming at this moment.
        """
        with claims_lock(self._folder) as is_ours:
            if not is_ours:
                return None
            self.look()
            known = self._shelf.known(keys, retry_failed=retry_failed)
            free = {
                key: hashed
                for key, status in zip(keys, known, strict=True)
                if status is None and (hashed := digest(key)) not in self.claimed_elsewhere
            }
            new = [hashed for hashed in free.values() if hashed not in self.notes.claims]
            if new:
                self._opened().append([(Kind.CLAIM, b"".join(new))])
                self.notes.claims.update(new)
        return set(free)


def drop_answered(notes: OpenMarks, index: Index) -> None:
    """Forget the marks and jobs that an outcome of any process has answered since."""
    since = {key: microseconds(job.submitted_at) for key, job in notes.jobs.items()}
    since.update({**notes.sent, **notes.lost})
    keys = list(since)
    found = index.find(keys)
    answered = (found.status >= 0) & (found.at >= np.array(list(since.values()), np.int64))
    notes.answered(keys[i] for i in np.flatnonzero(answered))
