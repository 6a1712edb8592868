"""The safe way from an image file's bytes to its pixels: upright, in colour, its size checked before it is decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.tagger.decode import MAX_PIXELS, as_eight_bits, opened_whole
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES
from imgtag_pipeline.tagger.orientation import on_white, orientation_of, turned_upright


def upright_image(
    data: bytes,
    *,
    least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_decode_bytes: int = MAX_DECODE_BYTES,
) -> Any:
    """The first frame as an RGB Pillow image; arguments and errors as for `upright_rgb`."""

    def within(size: tuple[int, int]) -> tuple[int, int]:
        scale = 1.0 if least is None else min(1.0, least / min(size))
        return max(1, int(size[0] * scale)), max(1, int(size[1] * scale))

    with opened_whole(data, within, max_pixels=max_pixels, max_decode_bytes=2 * max_decode_bytes) as (name, _, image):
        orientation = 1 if name == "TIFF" else orientation_of(image)  # Pillow turns a TIFF when it is loaded
        flat = on_white(as_eight_bits(image))
        return turned_upright(flat.copy() if flat is image else flat, orientation)


def upright_rgb(
    data: bytes,
    *,
    least: int | None = None,
    max_pixels: int = MAX_PIXELS,
    max_decode_bytes: int = MAX_DECODE_BYTES,
) -> NDArray[np.uint8]:
    """Decode an image file of unknown origin to upright RGB pixels.

    Format and size are checked by the header, before anything is decompressed. Safe in threads.

    Parameters
    ----------
    data : bytes
        The file: JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, JPEG 2000, or HEIC with `[heif]`.
    least : int, optional
        A JPEG may be decoded at a smaller scale as long as its short side keeps so many pixels. Default: full size.
    max_pixels : int, default 100,000,000
        Larger images are refused.
    max_decode_bytes : int, default 512 MiB
        Memory that decoding may take, of all threads together.

    Returns
    -------
    numpy.ndarray
        uint8, (height, width, 3): the first frame, turned by its EXIF data, transparent pixels on white.

    Raises
    ------
    PermanentError
        EmptyFile, NotAnImage, UnsupportedFormat, TooManyPixels or TornImage in its `code`.

    Examples
    --------
    >>> pixels = upright_rgb(Path("cat.jpg").read_bytes(), least=224)
    """
    pixels: NDArray[np.uint8] = np.asarray(
        upright_image(data, least=least, max_pixels=max_pixels, max_decode_bytes=max_decode_bytes)
    )
    return pixels
