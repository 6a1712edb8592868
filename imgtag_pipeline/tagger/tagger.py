"""Bytes in, tags out: the whole tagger as one pure function."""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger.colors import color_tags
from imgtag_pipeline.tagger.decode import MAX_PIXELS, open_picture
from imgtag_pipeline.tagger.facts import fact_tags
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES

VERSION: Final = 1  # goes up with every change of what the same picture is told to be


def describe(
    data: bytes, *, color_count: int = 3, max_pixels: int = MAX_PIXELS, max_decode_bytes: int = MAX_DECODE_BYTES
) -> tuple[Tag, ...]:
    """What an image file shows: up to `color_count` colours, largest share first, then its facts, surest first.

    Never empty for a readable image, the same for the same bytes, safe in threads; reads nothing but `data`.
    Anything that cannot be read, has more than `max_pixels`, or takes more than `max_decode_bytes` to decode (of a
    budget that all threads share) is a `PermanentError`.
    """
    picture = open_picture(data, max_pixels=max_pixels, max_decode_bytes=max_decode_bytes)
    return color_tags(picture.rgb, picture.alpha, count=color_count) + fact_tags(picture)
