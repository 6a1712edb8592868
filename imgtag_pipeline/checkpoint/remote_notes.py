"""What one host tells the others through a remote store: marks and jobs whose answers are not in the store yet.

One small object for each process, put anew when it changes and every few minutes while the process lives; an object
that has grown old, or whose process on this host is gone, speaks for a dead one. Claims are not among it: they hold
between the processes of one host.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from imgtag_pipeline.checkpoint.frames import FORMAT, Kind, encode, scan
from imgtag_pipeline.checkpoint.remote import RemoteFolder
from imgtag_pipeline.checkpoint.respelling import NORMAL, SPELLING, KeyOf
from imgtag_pipeline.checkpoint.segment import OpenMarks
from imgtag_pipeline.core.clock import Clock

SUFFIX: Final = ".open"
HEARTBEAT: Final = timedelta(minutes=5)
DEAD_AFTER: Final = timedelta(minutes=15)


class RemoteMarks:
    """The notes of all hosts in `folder`; `spool` tells processes of this host apart."""

    def __init__(
        self,
        folder: RemoteFolder,
        *,
        token: str,
        spool: str,
        seed: int,
        clock: Clock,
        key_of: KeyOf | None = None,
    ) -> None:
        self._folder = folder
        self._key_of = key_of
        self._name = token + SUFFIX
        self._here = [socket.gethostname(), spool]
        self._seed = seed
        self._clock = clock
        self._said: list[tuple[Kind, bytes]] | None = []  # None: a put or its reply was lost
        self._said_at: datetime | None = None
        self._inherited: list[str] = []
        self.sent_elsewhere: dict[str, int] = {}

    def read(self, living: set[str]) -> OpenMarks:
        """What the dead left: their marks and jobs, and the jobs of those that live elsewhere (polling is free).

        The marks of those that may live are `sent_elsewhere`, key to microseconds.
        """
        notes = OpenMarks()
        for name in self._folder.sizes(SUFFIX):
            try:
                header, found = self._parse(self._folder.read(name))
            except FileNotFoundError:
                continue
            if name == self._name or not header:
                continue
            if self._is_dead(name.removesuffix(SUFFIX), header, living):
                notes.inherit(found)
                self._inherited.append(name)
            else:
                notes.jobs.update(found.jobs)
                self.sent_elsewhere.update({**found.lost, **found.sent})
        return notes

    def say(self, frames: Sequence[tuple[Kind, bytes]]) -> None:
        """Put what waits for an answer, when it has changed; then the inherited objects can go."""
        now = self._clock.now()
        frames = [(kind, payload) for kind, payload in frames if kind is not Kind.CLAIM]
        is_old = self._said_at is not None and now - self._said_at >= HEARTBEAT
        if frames and (frames != self._said or is_old):
            self._said = None
            self._folder.put(self._name, self._written(frames, now))
            self._said, self._said_at = frames, now
        elif not frames and self._said != []:
            self._take_back()
        while self._inherited:
            self._folder.remove(self._inherited[-1])
            self._inherited.pop()

    def _take_back(self) -> None:
        with suppress(OSError):  # one that stays speaks of answered images, or of calls that cost nothing
            self._folder.remove(self._name)
            self._said, self._said_at = [], None

    def _written(self, frames: Sequence[tuple[Kind, bytes]], now: datetime) -> bytes:
        header = msgspec.json.encode({"format": FORMAT, "here": self._here, "at": now, SPELLING: NORMAL})
        whole = [(Kind.HEADER, header), *frames]
        return b"".join(encode(kind, i, payload, seed=self._seed) for i, (kind, payload) in enumerate(whole, 1))

    def _parse(self, data: bytes) -> tuple[dict[str, Any], OpenMarks]:
        notes, header = OpenMarks(), dict[str, Any]()
        for frame in scan(data, seed=self._seed, after=0, is_final=True).frames:
            if frame.kind is Kind.HEADER:
                header = msgspec.json.decode(frame.payload)
                notes.key_of = None if SPELLING in header else self._key_of
            else:
                notes.apply(frame)
        return header, notes

    def _is_dead(self, token: str, header: dict[str, Any], living: set[str]) -> bool:
        if header.get("here") == self._here:
            return token not in living
        written = datetime.fromisoformat(header["at"])
        return self._clock.now() - written > DEAD_AFTER
