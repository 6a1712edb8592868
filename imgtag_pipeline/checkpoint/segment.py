"""One journal segment: a locked, append-only file of frames that one process writes and anybody may read.

What a segment says is kept as `OpenMarks`: the sent marks, jobs and claims that no outcome has answered.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import pyarrow as pa

from imgtag_pipeline.checkpoint.files import TEMPORARY, Files, lock, write_all
from imgtag_pipeline.checkpoint.frames import FORMAT, Frame, Kind, encode, foreign_format, scan
from imgtag_pipeline.checkpoint.hash import HASH_BYTES, digest
from imgtag_pipeline.checkpoint.respelling import SPELLING, KeyOf, key_today
from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Job

SUFFIX: Final = ".journal"
Value = TypeVar("Value")

_MARKS: Final = pa.schema([("key", pa.string()), ("at", pa.int64())])


@dataclass(slots=True)
class OpenMarks:
    """What a run's journal says beyond its outcomes: everything here still waits for an answer.

    `sent` and `lost` are key to time (microseconds): sent by this run; sent by a run that died. `key_of` is set where
    an older version wrote: its keys are taken in as they are spelled today, but for claims, of which only hashes stand.
    """

    sent: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    claims: set[bytes] = field(default_factory=set)
    key_of: KeyOf | None = None

    def apply(self, frame: Frame) -> pa.RecordBatch | None:
        """Take in one frame, in order; an outcome frame's rows are returned."""
        if frame.kind is Kind.OUTCOME:
            batch = pa.ipc.read_record_batch(pa.py_buffer(frame.payload), schema.OUTCOME)
            self.answered(batch.column("key").to_pylist())
            return batch
        if frame.kind is Kind.SENT:
            self.sent.update(self._today(read_marks(frame.payload)))
        elif frame.kind is Kind.LOST:
            self.lost.update(self._today(read_marks(frame.payload)))
        elif frame.kind is Kind.CLEARED:
            for key in self._today(dict.fromkeys(msgspec.json.decode(frame.payload, type=list[str]))):
                self.sent.pop(key, None)
        elif frame.kind is Kind.JOB:
            self.jobs.update(self._today(_read_jobs(frame.payload)))
        elif frame.kind is Kind.CLAIM:
            self.claims.update(split_hashes(frame.payload))
        elif frame.kind is Kind.RELEASE:
            self.claims.difference_update(split_hashes(frame.payload))
        return None

    def _today(self, facts: Mapping[str, Value]) -> Mapping[str, Value]:
        if self.key_of is None:
            return facts
        return {key_today(key, self.key_of): value for key, value in facts.items()}

    def answered(self, keys: Iterable[str]) -> None:
        """An outcome has come for these."""
        for key in keys:
            if self.key_of is not None:
                self.claims.discard(digest(key))
                key = key_today(key, self.key_of)
            self.sent.pop(key, None)
            self.lost.pop(key, None)
            self.jobs.pop(key, None)
            if self.claims:
                self.claims.discard(digest(key))

    def inherit(self, dead: OpenMarks) -> None:
        """Take over what a dead run left unanswered; its claims end."""
        self.lost.update(dead.lost)
        self.lost.update(dead.sent)
        self.jobs.update(dead.jobs)

    def is_empty(self) -> bool:
        """Nothing waits for an answer."""
        return not (self.sent or self.lost or self.jobs)

    def frames(self) -> list[tuple[Kind, bytes]]:
        """The frames that say the same."""
        said: list[tuple[Kind, bytes]] = []
        if self.lost:
            said.append((Kind.LOST, marks(self.lost)))
        if self.sent:
            said.append((Kind.SENT, marks(self.sent)))
        if self.jobs:
            said.append((Kind.JOB, write_jobs(self.jobs)))
        if self.claims:
            said.append((Kind.CLAIM, b"".join(sorted(self.claims))))
        return said


def marks(moments: Mapping[str, int]) -> bytes:
    """The payload of a sent or lost frame."""
    columns = [pa.array(moments.keys(), pa.string()), pa.array(moments.values(), pa.int64())]
    return bytes(pa.RecordBatch.from_arrays(columns, schema=_MARKS).serialize())


def read_marks(payload: bytes) -> dict[str, int]:
    """Key to microseconds."""
    batch = pa.ipc.read_record_batch(pa.py_buffer(payload), _MARKS)
    return dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))


def write_jobs(jobs: Mapping[str, Job]) -> bytes:
    """The payload of a job frame."""
    return msgspec.json.encode([(key, job.job_id, job.submitted_at) for key, job in jobs.items()])


def _read_jobs(payload: bytes) -> dict[str, Job]:
    rows = msgspec.json.decode(payload, type=list[tuple[str, str, datetime]])
    return {key: Job(job_id, submitted_at) for key, job_id, submitted_at in rows}


def split_hashes(payload: bytes) -> list[bytes]:
    """The key hashes of a claim or release frame."""
    return [payload[i : i + HASH_BYTES] for i in range(0, len(payload), HASH_BYTES)]


class Segment:
    """A segment that this process writes. Its lock is held from before it can be seen until it is closed.

    It opens with all that its writer's earlier segments left unanswered (`notes`), so that the last segment of a
    writer says everything that still waits.
    """

    def __init__(self, path: Path, *, seed: int, header: Mapping[str, Any], notes: OpenMarks, files: Files) -> None:
        self.path = path
        self._seed = seed
        self._files = files
        self._sequence = 0
        self.size = 0
        self.is_sound = True
        aside = path.with_name(TEMPORARY + path.name)
        self._handle = files.create(aside)
        try:
            lock(self._handle, wait=True)
            self.append([(Kind.HEADER, msgspec.json.encode({"format": FORMAT, **header})), *notes.frames()])
            self.sync()
            files.rename(aside, path)
            files.sync_folder(path.parent)
        except BaseException:
            self.close()
            for name in (aside, path):  # a rename whose reply was lost has happened
                name.unlink(missing_ok=True)
            raise

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(SUFFIX)

    def append(self, frames: Sequence[tuple[Kind, bytes]]) -> None:
        """Hand these frames to the operating system, in order; they outlive the process from here on."""
        data = b"".join(
            encode(kind, self._sequence + i, payload, seed=self._seed) for i, (kind, payload) in enumerate(frames, 1)
        )
        write_all(self._files, self._handle, data)
        self._sequence += len(frames)
        self.size += len(data)

    def sync(self) -> None:
        """Return when everything appended outlives the machine. After one failure no success can be trusted."""
        try:
            self._files.sync(self._handle)
        except OSError:
            self.is_sound = False
            raise

    def remove(self) -> None:
        """Delete the file; what it said stands elsewhere."""
        self._files.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Give up the lock: from here on the segment is anybody's to adopt."""
        if self._handle >= 0:
            handle, self._handle = self._handle, -1
            with suppress(OSError):  # what counts was synced
                os.close(handle)


class SegmentReader:
    """Reads a segment piece by piece. A living one is never adopted; a dead one is, by the one who got its lock."""

    def __init__(self, path: Path, *, seed: int, files: Files, key_of: KeyOf | None = None) -> None:
        self.path = path
        self._files = files
        self._key_of = key_of
        self.notes = OpenMarks()
        self.header: dict[str, Any] = {}
        self.frames = self.outcomes = self.dropped = self.missing = 0
        self._seed = seed
        self._after = 0
        self._file = path.open("r+b" if os.access(path, os.W_OK) else "rb", buffering=0)
        self._offset = 0
        self.is_owned = False

    def adopt(self) -> bool:
        """True when the writer is dead and the segment, still in its place, is now ours."""
        if not self.is_owned and lock(self._file.fileno(), wait=False):
            self.is_owned = True
        return self.is_owned and self.is_in_place()

    def is_in_place(self) -> bool:
        """The file that was opened still stands under its name."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def read(self) -> list[pa.RecordBatch]:
        """The outcomes that were appended since the last reading; the notes are brought up to date."""
        self._file.seek(self._offset)
        data = self._file.read()
        if self._offset == 0 and (version := foreign_format(data, seed=self._seed)) is not None:
            raise ConfigError(
                f"journal {self.path.name} has format version {version}; this version reads {FORMAT} only: "
                "finish it with the version that wrote it, or use another checkpoint folder"
            )
        found = scan(data, seed=self._seed, after=self._after, is_final=self.is_owned)
        self._offset += found.consumed
        self.dropped += found.dropped
        self.missing += found.missing
        batches = []
        for frame in found.frames:
            self._after = frame.sequence
            self.frames += 1
            if frame.kind is Kind.HEADER:
                self.header = msgspec.json.decode(frame.payload)
                self.notes.key_of = None if SPELLING in self.header else self._key_of
            elif (batch := self.notes.apply(frame)) is not None:
                self.outcomes += batch.num_rows
                batches.append(batch)
        return batches

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.name.removesuffix(SUFFIX)

    def sync(self) -> None:
        """Return when it outlives the machine, for which a killed writer had no time."""
        self._files.sync(self._file.fileno())

    def remove(self) -> None:
        """Delete an adopted segment; what it said stands elsewhere."""
        self._files.unlink(self.path)
        self.close()

    def close(self) -> None:
        """Let go of the file, and of its lock if we have it."""
        self._file.close()
