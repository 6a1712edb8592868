"""Bytes in, tags out: the whole tagger as one pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger.colors import color_tags
from imgtag_pipeline.tagger.decode import MAX_PIXELS, open_picture
from imgtag_pipeline.tagger.facts import fact_tags
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES

if TYPE_CHECKING:
    from imgtag_pipeline.tagger.objects.tags import Objects

VERSION: Final = 1  # goes up with every change of the colours and facts that the same picture is told
SURE: Final = 0.5  # less sure objects stand after the colours and facts


def describe(
    data: bytes,
    *,
    color_count: int = 3,
    max_pixels: int = MAX_PIXELS,
    max_decode_bytes: int = MAX_DECODE_BYTES,
    objects: Objects | None = None,
) -> tuple[Tag, ...]:
    """What an image file shows. The picture is decoded once.

    Never empty for a readable image, the same for the same bytes, safe in threads; reads nothing but `data`.

    Parameters
    ----------
    data : bytes
        The image file.
    color_count : int, default 3
        The most colours.
    max_pixels : int, default 100,000,000
        Larger pictures are refused.
    max_decode_bytes : int, default 512 MiB
        Memory that decoding may take, of all threads together.
    objects : Objects, optional
        Tell objects too. Default: colours and facts only.

    Returns
    -------
    tuple of Tag
        Objects that are at least half sure; colours, largest share first; facts, surest first; then the other objects.

    Raises
    ------
    PermanentError
        For anything that cannot be read, is too large, or takes too much memory to decode.
    """
    picture = open_picture(
        data, max_pixels=max_pixels, max_decode_bytes=max_decode_bytes, wants_upright=objects is not None
    )
    shown = color_tags(picture.rgb, picture.alpha, count=color_count) + fact_tags(picture)
    if objects is None:
        return shown
    found = objects.tags(picture.upright)
    sure = tuple(tag for tag in found if (tag.confidence or 0) >= SURE)
    return sure + shown + tuple(tag for tag in found if (tag.confidence or 0) < SURE)
