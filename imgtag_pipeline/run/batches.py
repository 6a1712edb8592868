"""Cuts the caller's rows into windows of distinct images and hands these to the workers, a bounded number ahead."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from imgtag_pipeline.core import references
from imgtag_pipeline.model import Image
from imgtag_pipeline.urls import unsigned_url

SEEN_FRESH = 1 << 18
MOST_SPELLINGS = 3  # further references of one image that are kept


@dataclass(slots=True, eq=False, repr=False)
class Window:
    """A slice of the caller's rows with its distinct images.

    `index` gives for each row the position of its image in `images`, null where the row has no reference; `urls` the
    references without signatures; `pairs` the distinct keys, each with its reference's own key, where the caller names
    the keys. `open` counts the images that have no outcome yet; `is_complete` is set when none is
    left. `known` are the images seen for the first time that the store could answer; `unanswered` those that the run
    will not ask about because it is stopping.
    """

    rows: pa.RecordBatch
    urls: pa.Array
    index: pa.Array
    images: list[Image]
    pairs: list[str] = field(default_factory=list)
    open: int = 0
    is_complete: asyncio.Event = field(default_factory=asyncio.Event)
    known: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)

    def settle(self, count: int = 1) -> None:
        """So many more images have an outcome, or will not get one in this run."""
        self.open -= count
        if self.open <= 0:
            self.is_complete.set()


def cut(rows: pa.RecordBatch, cells: pa.Array, keys: pa.Array | None, key_of: Callable[[str], str]) -> Window:
    """The window of these rows. Blank `cells` count as none; `keys`, where not blank, replace the URL as key.

    A key counts as it is written; one that is itself a URL counts without its signature.
    """
    found: dict[str, _Found] = {}
    index: list[int | None] = []
    cleaned: list[str | None] = []
    pairs: dict[str, None] = {}
    names = keys.to_pylist() if keys is not None else None
    for row, text in enumerate(cells.to_pylist()):
        reference = references.clean(text) if text else ""
        if not reference:
            index.append(None)
            cleaned.append(None)
            continue
        own = None if names is None else _key(reference, key_of)
        named = names[row] if names is not None else None
        key = _shown(named) if named and not named.isspace() else own or _key(reference, key_of)
        image = found.get(key)
        if image is None:
            image = found[key] = _Found(len(found), reference, own)
        elif reference != image.url and len(image.others) < MOST_SPELLINGS and own == image.own:
            image.others.setdefault(reference)
        if own is not None:
            pairs.setdefault(f"{key}\0{own}")
        index.append(image.place)
        cleaned.append(_shown(reference))
    images = [Image(key, image.url, tuple(image.others)) for key, image in found.items()]
    return Window(rows, pa.array(cleaned, pa.string()), pa.array(index, pa.int64()), images, list(pairs))


@dataclass(slots=True)
class _Found:
    """One image of a window: its first reference and further ones; `own` is the key of the reference, if it counts."""

    place: int
    url: str
    own: str | None
    others: dict[str, None] = field(default_factory=dict)


def _key(reference: str, key_of: Callable[[str], str]) -> str:
    if references.is_cell(reference):
        return references.plain(reference)
    return _shown(reference) if reference.startswith("data:") else key_of(reference)


def _shown(reference: str) -> str:
    if reference.startswith("data:"):
        return "data:;sha256," + hashlib.sha256(reference.encode("utf-8", "surrogatepass")).hexdigest()
    return unsigned_url(references.plain(reference))


def slices(batches: Iterator[pa.RecordBatch], size: int) -> Iterator[pa.RecordBatch]:
    """The batches cut so that none has more than `size` rows; empty ones are left out."""
    for batch in batches:
        for start in range(0, batch.num_rows, size):
            yield batch.slice(start, size)


class Seen:
    """The distinct keys so far, at 8 bytes each: 64-bit hashes in sorted arrays, the newest in a set."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, np.uint64)
        self._fresh: set[int] = set()

    def first_time(self, keys: Sequence[str]) -> list[bool]:
        """For each of these distinct keys whether it is new; it is not new any more after that."""
        hashes = [int.from_bytes(_digest(key), "little") for key in keys]
        wanted = np.array(hashes, np.uint64)
        places = np.searchsorted(self._sorted, wanted)
        old = np.zeros(len(hashes), bool)
        inside = places < len(self._sorted)
        old[inside] = self._sorted[places[inside]] == wanted[inside]
        news = [not was_old and hashed not in self._fresh for was_old, hashed in zip(old, hashes, strict=True)]
        self._fresh.update(hashes)
        if len(self._fresh) > SEEN_FRESH:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._fresh, np.uint64, len(self._fresh)))
            self._fresh.clear()
        return news


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()


@dataclass(slots=True, eq=False, repr=False)
class Pending:
    """The images that wait for a worker, oldest first. Closed when no more will come."""

    _waiting: deque[Image] = field(default_factory=deque)
    _wakers: deque[asyncio.Future[None]] = field(default_factory=deque)
    _taken: asyncio.Event = field(default_factory=asyncio.Event)
    _is_closed: bool = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, images: Sequence[Image]) -> None:
        """Add images and wake as many workers."""
        self._waiting.extend(images)
        self._wake(len(images))

    def close(self, *, drop: bool = False) -> list[Image]:
        """No more will be put; with `drop`, what still waits is taken back and returned."""
        self._is_closed = True
        self._taken.set()
        dropped = list(self._waiting) if drop else []
        if drop:
            self._waiting.clear()
        self._wake(len(self._wakers))
        return dropped

    async def take(self, most: int) -> list[Image]:
        """Up to `most` images, at least one; an empty list when closed and drained."""
        while not self._waiting:
            if self._is_closed:
                return []
            waker = asyncio.get_running_loop().create_future()
            self._wakers.append(waker)
            await waker
        self._taken.set()
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    async def lowered(self, most: int) -> None:
        """Wait until at most so many images wait, or no more will come."""
        while len(self) > most and not self._is_closed:
            self._taken.clear()
            await self._taken.wait()

    def _wake(self, count: int) -> None:
        while count > 0 and self._wakers:
            waker = self._wakers.popleft()
            if not waker.done():
                waker.set_result(None)
                count -= 1
