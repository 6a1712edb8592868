"""How much memory decoding takes, told from the header, and a budget of it that all threads of the process share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from imgtag_pipeline.errors import PermanentError

MAX_DECODE_BYTES: Final = 512 << 20
# Bytes for a pixel, measured with Pillow 11 and 12 on pictures of 36 million pixels: the picture, and its copies.
_BY_MODE: Final = {"L": 1.2, "1": 5.4, "P": 5.4, "RGB": 4.4, "I;16": 7.5, "I;16B": 7.5, "I": 8.5, "F": 8.5}
_OTHER_MODE: Final = 8.5
# Formats whose decoders hold planes or canvases of their own beside the picture.
_BY_FORMAT: Final = {"WEBP": 16.5, "AVIF": 16.0, "HEIC": 16.0, "JPEG2000": 25.0}
_UNCOUNTED: Final = 4 << 20
_free = threading.Condition()
_used = 0


def decode_bytes(image: Any, name: str, size: tuple[int, int]) -> int:
    """Bytes at most while this opened, not yet decoded picture is decoded; `size` is its full size."""
    pixels = size[0] * size[1]
    if name == "JPEG":
        drafted = image.width * image.height * _BY_MODE.get(image.mode, _OTHER_MODE)
        return int(drafted + (_coefficients(image) * pixels if "progressive" in image.info else 0))
    return int(_BY_FORMAT.get(name, _BY_MODE.get(image.mode, _OTHER_MODE)) * pixels)


def _coefficients(image: Any) -> float:
    """libjpeg keeps all coefficients of a progressive picture, two bytes each, at whatever scale it is read."""
    layers = getattr(image, "layer", None) or [(0, 1, 1, 0)] * 3
    areas: list[int] = [across * down for _, across, down, *_ in layers]
    return 2.1 * sum(areas) / max(areas)


@contextmanager
def memory_for(needed: int, limit: int = MAX_DECODE_BYTES) -> Iterator[None]:
    """Wait until so many bytes are free of the process's budget. Raises TooManyPixels where they never will be."""
    global _used
    if needed > limit:
        raise PermanentError(
            f"decoding the image takes about {needed >> 20:,} MB; allowed: {limit >> 20:,} MB for all at once "
            "(max_decode_bytes)",
            code="TooManyPixels",
        )
    if needed < _UNCOUNTED:
        yield
        return
    with _free:
        _free.wait_for(lambda: not _used or _used + needed <= limit)
        _used += needed
    try:
        yield
    finally:
        with _free:
            _used -= needed
            _free.notify_all()
