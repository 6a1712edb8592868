"""Parts that wait on the local disk until they are put into a remote store.

An outbox file goes only after its put succeeded; a put whose reply was lost is repeated under the same name.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.compaction import merge
from imgtag_pipeline.checkpoint.files import lock
from imgtag_pipeline.checkpoint.journal import Journal
from imgtag_pipeline.checkpoint.layout import JOURNAL, PART_SUFFIX, Identity
from imgtag_pipeline.checkpoint.mark_uploads import Teller, Unput
from imgtag_pipeline.checkpoint.parts import LocalParts
from imgtag_pipeline.checkpoint.remote import RemoteParts
from imgtag_pipeline.checkpoint.remote_notes import RemoteMarks
from imgtag_pipeline.checkpoint.sealer import Sealer
from imgtag_pipeline.checkpoint.segment import SUFFIX
from imgtag_pipeline.core.environment import spool_root
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.urls import unsigned_url

log = logging.getLogger("imgtag_pipeline")

OUTBOX: Final = "outbox"
NOTE: Final = "store.json"
_SMALL_BYTES: Final = 1 << 20
_MANY: Final = 32


def spool_folder(url: str, storage_options: Mapping[str, Any] | None, spool: Path | None) -> Path:
    """Where this host keeps what is not yet in the store at `url`: the same folder for every run."""
    place = unsigned_url(url).rstrip("/")
    told = {name: str(value) for name, value in (storage_options or {}).items() if "endpoint" in name.lower()}
    name = hashlib.sha256(json.dumps([place, sorted(told.items())]).encode()).hexdigest()[:16]
    if spool is not None:
        return spool / name
    if place.startswith("memory://"):  # such a store ends with the process, and so does its spool
        return Path(tempfile.gettempdir()) / f"imgtag-spool-{os.getpid()}" / name
    return spool_root() / name


def spool_note(url: str, who: Identity) -> bytes:
    """For a person who finds the folder: whose spool it is."""
    facts = {"store": unsigned_url(url), "folder": who.slug, "what": "answers on their way to the store"}
    return (json.dumps(facts, indent=2) + "\n").encode()


def set_aside(home: Path, url: str) -> None:
    """Keep what waits in the spool of a store that is gone from being believed: it moves into a folder beside.

    Segments of processes that live stay where they are.
    """
    aside = home / f"deleted-{secrets.token_hex(4)}"
    moved = 0
    for path in [*(home / OUTBOX).glob(f"*{PART_SUFFIX}"), *(home / JOURNAL).glob(f"*{SUFFIX}")]:
        handle = os.open(path, os.O_RDWR)
        try:
            if path.suffix == SUFFIX and not lock(handle, wait=False):
                continue
            aside.mkdir(exist_ok=True)
            path.rename(aside / path.name)
            moved += 1
        finally:
            os.close(handle)
    if moved:
        words = "event=spool_set_aside files=%d: the store %s was deleted, so answers that waited for it do not count;"
        log.warning(words + " they lie in %s", moved, url, aside)


class Outbox:
    """Puts the waiting parts, and this process's open marks, into the store. What fails stays and is tried again."""

    def __init__(
        self,
        outbox: LocalParts,
        remote: RemoteParts,
        notes: RemoteMarks,
        journal: Journal,
        shelf: Catalog,
        sealer: Sealer,
        unput: Unput,
        *,
        object_bytes: int,
        put_every: float,
    ) -> None:
        self.error: Exception | None = None
        self._outbox = outbox
        self._remote = remote
        self._notes = notes
        self._journal = journal
        self._shelf = shelf
        self._sealer = sealer
        self._unput = unput
        self._teller = Teller(self._tell, put_every=put_every)
        unput.on_sent = self._teller.note
        self._small: dict[str, int] = {}
        self._merges = 0
        self._object_bytes = object_bytes

    def work(self) -> Callable[[], None]:
        """On the journal's thread: have what is journaled sealed; the puts are then to run on the sealer's."""
        if self._journal.rows:
            self._journal.rotate()
        return partial(self._push, self._unput.cut())

    def finish(self) -> None:
        """The last puts, on the sealer's thread, when nothing is journaled any more."""
        self._teller.end()
        self._push(self._unput.cut())

    def _tell(self) -> None:
        self._notes.say(self._unput.frames(self._journal.notes))

    def _push(self, count: int) -> None:
        """Put what waits, with which the first `count` groups of answers are there; never raises, see `error`."""
        self.error = None
        try:
            self._push_parts()
            if not self._sealer.error:
                self._unput.drop(count)
            self._teller.say()
            if len(self._small) >= _MANY:
                self._merge()
        except (OSError, StoreError) as error:
            self.error = error

    def waiting(self) -> int:
        """How many parts are not in the store yet."""
        return len(self._outbox.sizes())

    def _push_parts(self) -> None:
        for name, size in self._outbox.sizes().items():
            try:
                data = (self._outbox.path / name).read_bytes()
            except FileNotFoundError:  # another process of this host was quicker
                continue
            self._remote.put(name, data)
            self._outbox.remove(name)
            if size < _SMALL_BYTES:
                self._small[name] = size

    def _merge(self) -> None:
        self._merges += 1
        names, self._small = list(self._small), {}
        new = merge(
            self._remote,
            names,
            stem=f"{self._journal.token}-m{self._merges:05d}",
            run=self._journal.run,
            max_bytes=self._object_bytes,
            before_removal=lambda new: self._shelf.replace_parts(names, new),
        )
        sizes = self._remote.sizes()
        self._small = {name: sizes[name] for name in new if sizes.get(name, _SMALL_BYTES) < _SMALL_BYTES}
