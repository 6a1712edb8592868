"""Tells a remote store which images have been sent, soon after they were: a lost host leaves nothing else behind.

A mark is told until the answer itself is in the store, and with it the vendor's job. The puts have a thread of their
own: no call waits for one, and one that fails is tried again and ends nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from imgtag_pipeline.checkpoint.frames import Kind
from imgtag_pipeline.checkpoint.segment import OpenMarks
from imgtag_pipeline.errors import StoreError

log = logging.getLogger("imgtag_pipeline")

_MOST_PAUSE: Final = 5.0  # seconds between tries while the store refuses


class Unput:
    """The marks and jobs of images whose answers are journaled here and not in the store yet.

    Filled on the journal's thread. `cut` ends a group before its answers are sealed, `drop` forgets it once they are
    in the store. What leaves the notes is here before, so that whoever reads the notes first misses nothing.
    """

    def __init__(self) -> None:
        self.on_sent: Callable[[], None] = _nothing
        self._groups = [OpenMarks()]
        self._ended = self._dropped = 0

    def answered(self, keys: Iterable[str], notes: OpenMarks) -> None:
        """Keep what the notes say of these."""
        kept = self._groups[-1]
        for key in keys:
            for source, target in ((notes.sent, kept.sent), (notes.lost, kept.lost)):
                if key in source:
                    target[key] = source[key]
            if key in notes.jobs:
                kept.jobs[key] = notes.jobs[key]

    def cut(self) -> int:
        """What is answered from here on belongs to a new group; the number of groups that have ended."""
        self._groups.append(OpenMarks())
        self._ended += 1
        return self._ended

    def drop(self, count: int) -> None:
        """The answers of the first so many groups are in the store. From one thread at a time."""
        while self._dropped < count:
            self._dropped += 1
            self._groups.pop(0)

    def frames(self, notes: OpenMarks) -> list[tuple[Kind, bytes]]:
        """What is to be told: these notes, and what is kept here. From any thread."""
        told = OpenMarks(dict(notes.sent), dict(notes.lost), dict(notes.jobs))
        for group in list(self._groups):
            told.sent.update(dict(group.sent))
            told.lost.update(dict(group.lost))
            told.jobs.update(dict(group.jobs))
        return told.frames()


class Teller:
    """Calls `say` when something was sent, at most once in `put_every` seconds, on a thread of its own.

    What was sent is told after `put_every` (or the put that is under way, if that takes longer) and one put.
    """

    def __init__(self, say: Callable[[], None], *, put_every: float) -> None:
        self._say = say
        self._put_every = put_every
        self._lock = threading.Lock()
        self._has_news = threading.Event()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self) -> None:
        """Something was sent; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="imgtag-marks", daemon=True)
            self._thread.start()
        self._has_news.set()

    def say(self) -> None:
        """Tell now, on the caller's thread; what the store says of it is raised."""
        with self._lock:
            self._say()

    def end(self) -> None:
        """Tell what is still untold, once, and end."""
        self._is_over.set()
        self._has_news.set()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        pause = self._put_every
        is_last = False
        while not is_last:
            self._has_news.wait()
            self._has_news.clear()
            is_last = self._is_over.is_set()
            began = time.monotonic()
            try:
                self.say()
                pause = self._put_every
            except (OSError, StoreError) as error:
                if pause == self._put_every:
                    log.warning("event=marks_not_put detail=%s", error)
                pause = max(self._put_every, min(2 * pause, _MOST_PAUSE))
                self._has_news.set()
            self._is_over.wait(max(0.0, began + pause - time.monotonic()))


def _nothing() -> None:
    return
