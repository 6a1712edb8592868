"""What the emulator sees in an image: header facts, and tags from the pixels, from a fixture, or from a hash.

This is the only file of the emulator that knows the tagger.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from imgtag_pipeline.emulator.pictures import Pictures
from imgtag_pipeline.emulator.vocabulary import COLORS, THINGS
from imgtag_pipeline.errors import CallError, ConfigError
from imgtag_pipeline.model import Tag
from imgtag_pipeline.urls import unsigned_url

_KEPT: Final = 4096
_BUNDLES: Final = 4093


class NotSeen(Exception):
    """The bytes are no image that can be read; `reason` is "empty", "content" (no image), "decode" (torn) or "pixels".

    "pixels" is an image that claims more pixels than anybody would open.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Sight:
    """One image as the emulator saw it.

    `format` is Pillow's name; `tags` are the general ones, best first, with a confidence; `colors` are colour names
    with their share of the area and `hex` in `extra`; `seed` is a number that only depends on the image.
    """

    format: str
    n_bytes: int
    width: int
    height: int
    bands: int
    tags: tuple[Tag, ...]
    colors: tuple[Tag, ...]
    seed: int


class Sights:
    """Looks at images, remembering what it saw by content; pixels are read in threads."""

    def __init__(self, pictures: Pictures, *, fixtures: Path | None, is_synthetic: bool) -> None:
        self._pictures = pictures
        self._is_synthetic = is_synthetic
        self._fixtures = _load(fixtures) if fixtures else {}
        self._seen: OrderedDict[tuple[bytes, int], Sight] = OrderedDict()
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="emulator-sight")

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def fixture(self, reference: str, action: str) -> Any | None:
        """What the fixture file says for this image: a list of tags, a whole reply, `{"error": code}`, or None."""
        if not self._fixtures:
            return None
        plain = unsigned_url(reference)
        found = self._fixtures.get(plain)
        if found is None:
            found = self._fixtures.get(plain.partition("?")[0].rpartition("/")[2])
        if isinstance(found, Mapping) and "by_action" in found:
            return found["by_action"].get(action)
        return found

    async def see(self, reference: str, action: str = "", *, color_count: int = 5) -> Sight:
        """The image behind a reference; raises `NotFetched` or `NotSeen`."""
        found = self.fixture(reference, action)
        if isinstance(found, list):
            return replace(imagine(reference), tags=tuple(_tag(each) for each in found))
        if self._is_synthetic:
            return imagine(reference)
        return await self.see_bytes(await self._pictures.fetch(reference), color_count=color_count)

    async def see_bytes(self, data: bytes, *, color_count: int = 5) -> Sight:
        """The image in these bytes; raises `NotSeen`. Synthetic emulators do not look, they count on a hash."""
        if not data:
            raise NotSeen("empty")
        if self._is_synthetic:
            return replace(imagine(hashlib.blake2b(data).hexdigest()), n_bytes=len(data))
        key = (hashlib.blake2b(data, digest_size=16).digest(), color_count)
        sight = self._seen.get(key)
        if sight is None:
            sight = await asyncio.get_running_loop().run_in_executor(self._threads, look, data, color_count)
            self._seen[key] = sight
            if len(self._seen) > _KEPT:
                self._seen.popitem(last=False)
        return sight


def look(data: bytes, color_count: int = 5) -> Sight:
    """The image in these bytes, by the same tagger that users have as `local`; raises `NotSeen`."""
    from PIL import Image

    from imgtag_pipeline import tagger

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                kind, size, bands = image.format or "", image.size, len(image.getbands())
        except Image.DecompressionBombError:
            raise NotSeen("pixels") from None
        except (OSError, ValueError, SyntaxError):
            raise NotSeen("content") from None
    try:
        found = tagger.describe(data, color_count=color_count)
    except CallError as error:
        raise NotSeen("pixels" if error.code == "TooManyPixels" else "decode") from None
    tags = tuple(tag for tag in found if tag.kind != "color")
    colors = tuple(tag for tag in found if tag.kind == "color")
    digest = hashlib.blake2b(data, digest_size=8).digest()
    return Sight(kind, len(data), *size, bands, tags, colors, int.from_bytes(digest, "big"))


def imagine(reference: str) -> Sight:
    """An image that is not looked at: everything follows from a hash of its reference."""
    seed = int.from_bytes(hashlib.blake2b(reference.encode(), digest_size=8).digest(), "big")
    tags, colors = _imagined(seed % _BUNDLES)
    return Sight("JPEG", 100_000, 640, 480, 3, tags, colors, seed)


@cache
def _imagined(bundle: int) -> tuple[tuple[Tag, ...], tuple[Tag, ...]]:
    """One of the sets of tags and colours that imagined images have."""
    digest = hashlib.blake2b(bundle.to_bytes(2, "big"), digest_size=16).digest()
    numbers = {number % len(THINGS): level for number, level in zip(digest[:5], digest[5:10], strict=True)}
    best_first = sorted(numbers.items(), key=itemgetter(1), reverse=True)
    tags = tuple(_thing(number, level) for number, level in best_first)
    return tags, tuple(_color(digest[10 + at] % len(COLORS), at) for at in range(3))


def _thing(number: int, level: int) -> Tag:
    return Tag(THINGS[number], confidence=level / 255)


def _color(number: int, place: int) -> Tag:
    share = (0.5, 0.3, 0.2)[place]
    return Tag(COLORS[number], kind="color", measure=share, extra={"hex": f"{number * 1_400_000 + place:06X}"})


def _load(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the fixture file {path}: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"the fixture file {path} must be a JSON object from URL or file name to reply")
    return found


def _tag(found: Any) -> Tag:
    if isinstance(found, str):
        return Tag(found, confidence=1.0)
    confidence = found.get("confidence")
    return Tag(str(found["name"]), confidence=1.0 if confidence is None else float(confidence))
