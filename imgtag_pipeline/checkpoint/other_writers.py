"""The other writers of a journal folder: their outcomes, their claims while they live, their segments when they died.

Used by one thread at a time. A segment whose lock can be had belongs to a dead process; who gets the lock adopts it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.hash import digest
from imgtag_pipeline.checkpoint.layout import token_of
from imgtag_pipeline.checkpoint.segment import SUFFIX, OpenMarks, SegmentReader

_PREFIX_OF_HIDDEN: Final = "."


@dataclass(slots=True)
class Recovered:
    """What was found in the journals of dead runs, for the report. `bytes_dropped` were no valid frames."""

    segments: int = 0
    frames: int = 0
    outcomes: int = 0
    bytes_dropped: int = 0
    frames_missing: int = 0


@dataclass(slots=True)
class OrphanedSegment:
    """A dead process's segment, locked by us, with all its rows in the catalog as `source`."""

    reader: SegmentReader
    source: int


@dataclass(slots=True)
class LeftByDead:
    """What one look found dead: segments to seal, and marks that nobody has answered."""

    estates: list[OrphanedSegment] = field(default_factory=list)
    notes: OpenMarks = field(default_factory=OpenMarks)


class OtherWriters:
    """All segments in `folder` that are not this process's own."""

    def __init__(self, folder: Path, *, own: str, seed: int, shelf: Catalog, files: Files) -> None:
        self.recovered = Recovered()
        self._folder = folder
        self._own = own
        self._seed = seed
        self._shelf = shelf
        self._files = files
        self._living: dict[str, OrphanedSegment] = {}
        self._buried: set[str] = set()  # ours to remove; until then their files are still there

    def look(self) -> LeftByDead:
        """Read what is new, find who died, and read the parts of those who sealed and left."""
        dead: list[OrphanedSegment] = []
        left: list[OrphanedSegment] = []
        while self._is_moving(dead, left):
            continue  # a writer opens its next segment before it closes the last: list again until nothing changes
        if left:
            self._shelf.read_parts()
        else:
            self._shelf.look_for_parts()  # of one who came and went between two looks
        for peer in left:
            self._shelf.forget(peer.source)
            peer.reader.close()
        return self._bury(dead)

    def _is_moving(self, dead: list[OrphanedSegment], left: list[OrphanedSegment]) -> bool:
        has_missed = self._discover({estate.reader.name for estate in dead})
        gone = []
        for name, peer in sorted(self._living.items()):
            self._read(peer)
            if peer.reader.adopt():
                self._read(peer)
                dead.append(peer)
            elif not peer.reader.is_in_place():
                left.append(peer)
            else:
                continue
            gone.append(name)
        for name in gone:
            del self._living[name]
        return has_missed or bool(gone)

    def claims(self) -> set[bytes]:
        """The key hashes that living peers have claimed: each one's last segment says.

        A hash cannot be respelled; of an older version what is sent counts as claimed.
        """
        last = {token_of(name): peer for name, peer in sorted(self._living.items())}
        notes = [peer.reader.notes for peer in last.values()]
        sent = {digest(key) for said in notes if said.key_of is not None for key in said.sent}
        return sent.union(*(said.claims for said in notes))

    def tokens(self) -> set[str]:
        """The names of the living peers."""
        return {token_of(name) for name in self._living}

    def writers(self) -> list[dict[str, Any]]:
        """Who the living peers are."""
        last = {token_of(name): peer.reader.header for name, peer in sorted(self._living.items())}
        return list(last.values())

    def close(self) -> None:
        """Let go of all segments."""
        for peer in self._living.values():
            peer.reader.close()
        self._living.clear()

    def _discover(self, adopted: set[str]) -> bool:
        has_missed = False
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.is_dir() else ():
            name = path.name.removesuffix(SUFFIX)
            is_met = name in self._living or name in self._buried or name in adopted
            if is_met or name.startswith(_PREFIX_OF_HIDDEN) or token_of(name) == self._own:
                continue
            try:
                reader = SegmentReader(path, seed=self._seed, files=self._files, key_of=self._shelf.key_of)
            except FileNotFoundError:
                has_missed = True
                continue
            self._living[name] = OrphanedSegment(reader, self._shelf.new_source())
        return has_missed

    def _read(self, peer: OrphanedSegment) -> None:
        for batch in peer.reader.read():
            self._shelf.append(peer.source, batch)

    def _bury(self, dead: list[OrphanedSegment]) -> LeftByDead:
        found = LeftByDead()
        writers: dict[str, list[OrphanedSegment]] = {}
        for estate in sorted(dead, key=lambda estate: estate.reader.name):
            writers.setdefault(token_of(estate.reader.name), []).append(estate)
        for estates in writers.values():
            is_whole = not estates[-1].reader.dropped
            for estate in estates:
                found.estates.append(estate)
                self._buried.add(estate.reader.name)
                self._count(estate)
                if estate is estates[-1] or not is_whole:
                    found.notes.inherit(estate.reader.notes)
        return found

    def _count(self, estate: OrphanedSegment) -> None:
        facts, reader = self.recovered, estate.reader
        facts.segments += 1
        facts.frames += reader.frames
        facts.bytes_dropped += reader.dropped
        facts.frames_missing += reader.missing
        facts.outcomes += reader.outcomes
