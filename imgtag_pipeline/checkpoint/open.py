"""Puts a store together: on a disk all lies in its folder, elsewhere the journal lies in a spool on this host."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.files import Files, make_folders, sweep, write_whole
from imgtag_pipeline.checkpoint.journal import Journal
from imgtag_pipeline.checkpoint.journaled import JournaledStore
from imgtag_pipeline.checkpoint.layout import (
    JOURNAL,
    MANIFEST,
    PARTS,
    Identity,
    check_manifest,
    local_path,
    manifest_of,
    new_token,
    package_version,
    problem_of,
    read_manifest,
)
from imgtag_pipeline.checkpoint.mark_uploads import Unput
from imgtag_pipeline.checkpoint.outbox import NOTE, OUTBOX, Outbox, set_aside, spool_folder, spool_note
from imgtag_pipeline.checkpoint.parts import LocalParts, PartFolder
from imgtag_pipeline.checkpoint.remote import OBJECT_BYTES, RemoteFolder, RemoteParts, open_remote
from imgtag_pipeline.checkpoint.remote_notes import RemoteMarks
from imgtag_pipeline.checkpoint.respelling import NORMAL, SPELLING, KeyOf
from imgtag_pipeline.checkpoint.rows import microseconds
from imgtag_pipeline.checkpoint.sealer import Sealer, Worker
from imgtag_pipeline.checkpoint.writer import FlushPolicy, Writer
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.urls import unsigned_url

_NO_LIMIT: Final = 1 << 40
_LETTING_GO: Final = 30.0  # seconds that a failed opening waits for what is being sealed


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes and times that seldom need a change; `files` lets a test break the disk."""

    pace: FlushPolicy = field(default_factory=FlushPolicy)
    cache_bytes: int = 256 << 20
    object_bytes: int = OBJECT_BYTES
    files: Files = field(default_factory=Files)


@dataclass(frozen=True, slots=True)
class Opening:
    """Who opens a store."""

    identity: Identity
    run_id: str
    clock: Clock
    tuning: Tuning
    key_of: KeyOf | None = None


def open_at(
    url: str, opening: Opening, *, storage_options: Mapping[str, Any] | None, spool: Path | None
) -> JournaledStore:
    """The store in the folder that `url` means, made if it is not there."""
    with said_plainly(url, "cannot be opened", "no call was made"):
        path = local_path(url)
        if path is not None:
            return open_local(path / opening.identity.slug, opening)
        root = open_remote(url, storage_options, opening.tuning.files)
        return open_spooled(root, spool_folder(url, storage_options, spool), opening, url=url)


@contextmanager
def said_plainly(url: str, problem: str, comfort: str) -> Iterator[None]:
    """What the system or a driver says of the store at `url`, as one of our own errors."""
    try:
        yield
    except (NotADirectoryError, FileExistsError) as error:
        raise ConfigError(
            f"the checkpoint {unsigned_url(url)} is a file or lies in one; give a folder, or a URL of one"
        ) from error
    except OSError as error:
        raise StoreError(
            f"the tag store {unsigned_url(url)} {problem} ({error.strerror or error}); {comfort}"
        ) from error


def open_local(home: Path, opening: Opening) -> JournaledStore:
    """The store in a folder on this machine's disk."""
    files = opening.tuning.files
    _make_folders(files, home, PARTS, JOURNAL)
    path = home / MANIFEST
    if not path.exists():
        _refuse_other_formats(_manifests_beside(home), opening.identity, str(home.parent))
        write_whole(files, path, manifest_of(opening.identity, opening.clock.now()))
    check_manifest(read_manifest(path.read_bytes(), str(home)), opening.identity, str(home))
    parts = LocalParts(home / PARTS, files)
    return _Assembly(opening, home, [parts], parts, _NO_LIMIT).store()


def open_spooled(root: RemoteFolder, spool: Path, opening: Opening, *, url: str) -> JournaledStore:
    """The store behind an fsspec URL, with its journal and outbox in `spool`."""
    who, files = opening.identity, opening.tuning.files
    home, away = spool / who.slug, root.child(who.slug)
    try:
        was_here = (home / NOTE).exists()
        _make_folders(files, home, OUTBOX, JOURNAL)
        write_whole(files, home / NOTE, spool_note(url, who))
    except OSError as error:
        raise StoreError(
            f"the spool {home} of the tag store {unsigned_url(url)} cannot be written ({error.strerror or error}), and "
            "answers wait there until they are put; name a folder of this machine in IMGTAG_SPOOL or spool="
        ) from None
    try:
        manifest = away.read(MANIFEST)
    except FileNotFoundError:
        _refuse_other_formats(_manifests_in(root, who), who, root.path)
        if was_here:
            set_aside(home, unsigned_url(url))
        manifest = manifest_of(who, opening.clock.now())
        away.put(MANIFEST, manifest)
    check_manifest(read_manifest(manifest, away.path), who, away.path)
    outbox, remote = LocalParts(home / OUTBOX, files), RemoteParts(away.child(PARTS))
    return _Assembly(opening, home, [outbox, remote], outbox, opening.tuning.object_bytes, away=away).store()


@dataclass(slots=True)
class _Assembly:
    opening: Opening
    home: Path
    folders: list[PartFolder]
    target: LocalParts
    max_bytes: int
    away: RemoteFolder | None = None

    def store(self) -> JournaledStore:
        """All parts of a store, with everything read that is there."""
        opening, tuning, clock = self.opening, self.opening.tuning, self.opening.clock
        shelf = Catalog(self.folders, cache_bytes=tuning.cache_bytes, key_of=opening.key_of)
        sealer = Sealer(shelf, self.target, run=opening.run_id, max_bytes=self.max_bytes)
        worker = Worker("imgtag-sealer")
        token = new_token(clock.now())
        unput = Unput() if self.away else None
        journal = Journal(
            self.home / JOURNAL,
            token=token,
            facts=self._facts(),
            seed=opening.identity.seed,
            shelf=shelf,
            sealer=sealer,
            submit=worker.submit,
            clock=clock,
            files=tuning.files,
            unput=unput,
        )
        try:
            journal.open()
            way = self._way(self.away, token, journal, shelf, sealer, unput) if self.away and unput else None
        except BaseException:
            _let_go(journal, sealer, worker)
            raise
        shelf.mark_opened(microseconds(clock.now()))
        writer = Writer(journal, worker, pace=tuning.pace, place=str(self.home), way=way)
        return JournaledStore(
            shelf=shelf, journal=journal, writer=writer, sealer=sealer, clock=clock, place=str(self.home), way=way
        )

    def _way(
        self, away: RemoteFolder, token: str, journal: Journal, shelf: Catalog, sealer: Sealer, unput: Unput
    ) -> Outbox:
        notes = notes_elsewhere(away, self.home, self.opening, token=token)
        journal.inherit(notes.read(journal.peers.tokens()))
        journal.take_sent_elsewhere(notes.sent_elsewhere)
        return Outbox(
            self.target,
            RemoteParts(away.child(PARTS)),
            notes,
            journal,
            shelf,
            sealer,
            unput,
            object_bytes=self.max_bytes,
            put_every=self.opening.tuning.pace.put_every,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "run": self.opening.run_id,
            "identity": self.opening.identity.slug,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "version": package_version(),
            SPELLING: NORMAL,
        }


def _let_go(journal: Journal, sealer: Sealer, worker: Worker) -> None:
    """After what is being sealed, keep no lock: a further try in this process is to find the journals free."""

    is_over = threading.Event()

    def last() -> None:
        try:
            journal.abandon()
            sealer.close()
        finally:
            is_over.set()

    worker.submit(last)
    worker.stop()
    is_over.wait(_LETTING_GO)


@dataclass(frozen=True, slots=True)
class Held:
    """One identity's folder as it is found, for those who only look. `problem` says why it cannot be read."""

    folder: str
    facts: dict[str, Any]
    problem: str | None
    parts: list[PartFolder]
    home: Path
    away: RemoteFolder | None = None

    @property
    def journal(self) -> Path:
        """Where the segments lie."""
        return self.home / JOURNAL


def held(url: str, storage_options: Mapping[str, Any] | None, spool: Path | None, files: Files) -> Iterator[Held]:
    """The identities that the store holds."""
    path = local_path(url)
    if path is not None:
        if path.is_file():
            raise NotADirectoryError(path)
        for manifest in sorted(path.glob(f"*/{MANIFEST}")):
            home = manifest.parent
            yield _held(home.name, manifest.read_bytes(), [LocalParts(home / PARTS, files)], home)
        return
    root = open_remote(url, storage_options, files)
    here = spool_folder(url, storage_options, spool)
    for name in root.folders():
        try:
            data = root.child(name).read(MANIFEST)
        except FileNotFoundError:
            continue
        outbox, remote = LocalParts(here / name / OUTBOX, files), RemoteParts(root.child(name).child(PARTS))
        yield _held(name, data, [outbox, remote], here / name, root.child(name))


def _held(name: str, data: bytes, parts: list[PartFolder], home: Path, away: RemoteFolder | None = None) -> Held:
    try:
        facts = read_manifest(data, name)
    except ConfigError as error:
        return Held(name, {}, str(error), parts, home, away)
    return Held(name, facts, problem_of(facts), parts, home, away)


def notes_elsewhere(away: RemoteFolder, home: Path, opening: Opening, *, token: str) -> RemoteMarks:
    """What the hosts tell each other through the store."""
    folder = away.child(JOURNAL)
    seed = opening.identity.seed
    return RemoteMarks(folder, token=token, spool=str(home), seed=seed, clock=opening.clock, key_of=opening.key_of)


def _make_folders(files: Files, home: Path, *names: str) -> None:
    for folder in (home, *(home / name for name in names)):
        make_folders(files, folder)
        sweep(folder)


def _manifests_beside(home: Path) -> Iterator[tuple[str, bytes]]:
    for path in home.parent.glob(f"*/{MANIFEST}"):
        yield path.parent.name, path.read_bytes()


def _manifests_in(root: RemoteFolder, who: Identity) -> Iterator[tuple[str, bytes]]:
    for name in root.folders():
        if name.startswith(who.prefix):
            try:
                yield name, root.child(name).read(MANIFEST)
            except FileNotFoundError:
                continue


def _refuse_other_formats(manifests: Iterable[tuple[str, bytes]], who: Identity, where: str) -> None:
    """A folder of the same identity in another format would be paid for once more without a word: refused."""
    for name, data in manifests:
        if not name.startswith(who.prefix):
            continue
        try:
            facts = read_manifest(data, name)
        except ConfigError:
            continue
        if problem_of(facts) and Identity.of(facts["identity"]).text == who.text:
            check_manifest(facts, who, f"{where}/{name}")
