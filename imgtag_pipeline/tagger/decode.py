"""From an image file's bytes to what the tagger looks at: its true size, and small copies of its pixels.

The size is checked from the header before anything is decompressed. Whatever Pillow raises becomes a
`PermanentError`, and no setting of Pillow is changed: images are opened by their own plugin, so that its global
limit, which warns, is not asked.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.errors import PermanentError, RefusedHereError
from imgtag_pipeline.tagger import sniff
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES, decode_bytes, memory_for
from imgtag_pipeline.tagger.oklab import Floats
from imgtag_pipeline.tagger.orientation import ON_ITS_SIDE, ORIENTATION, on_white, orientation_of, turned_upright

MAX_PIXELS: Final = 100_000_000
DETAIL_AREA: Final = 384 * 384  # the normalised size at which sharpness is judged
COLOR_AREA: Final = 128 * 128  # the size at which colour and tone are judged
_PLAYING: Final = frozenset({"GIF", "PNG", "WEBP", "AVIF"})  # in the others several frames mean pages
_COPIES: Final = 2  # of a picture that is held whole: as it was, and flat or smaller


WITH_HEIF: Final = "with the package pillow-heif: pip install 'imgtag_pipeline[heif]'"


def can_read_heic() -> bool:
    """Whether the package that reads HEIC is installed."""
    return find_spec("pillow_heif") is not None


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to see: `width` and `height` as a viewer shows it, the rest at a normalised size.

    `detail` is luma 0..255 at about 384x384 pixels' area and `detail_alpha` its opacity; `rgb` (n, 3) and `alpha` (n,)
    are the pixels at about 128x128. Smaller pictures keep their size. `frames` counts to 2 for a GIF. `upright` is the
    picture of `detail` in colour as a Pillow image, turned upright and on white, where it was asked for.
    """

    width: int
    height: int
    frames: int
    detail: Floats
    detail_alpha: Floats
    rgb: NDArray[np.uint8]
    alpha: Floats
    upright: Any = None


def open_picture(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    max_decode_bytes: int = MAX_DECODE_BYTES,
    wants_upright: bool = False,
) -> Picture:
    """The first frame, or a `PermanentError`: EmptyFile, NotAnImage, UnsupportedFormat, TooManyPixels, TornImage.

    Decoding waits until all threads together stay within `max_decode_bytes`.
    """
    name = _format_of(data)
    try:
        size, frames, detail, orientation = _open(data, name, max_pixels, max_decode_bytes)
        upright = turned_upright(on_white(detail), orientation) if wants_upright else None
        return _picture(size, frames, detail, upright)
    except PermanentError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, ValueError, struct.error, MemoryError and more
        what = f"{type(error).__name__}: {error}"
    raise PermanentError(f"the {name} image is torn or damaged and cannot be decoded ({what[:200]})", code="TornImage")


@contextmanager
def opened_whole(
    data: bytes,
    within: Callable[[tuple[int, int]], tuple[int, int]],
    *,
    max_pixels: int = MAX_PIXELS,
    max_decode_bytes: int = _COPIES * MAX_DECODE_BYTES,
) -> Iterator[tuple[str, tuple[int, int], Any]]:
    """Format, size and first frame as a Pillow image, decoded no larger than `within(size)` needs; errors as above.

    It holds memory of the budget that all threads share, so the block should end with it.
    """
    name = _format_of(data)
    try:
        image = _opened(data, name, max_pixels)
        size = image.size
        image.draft(None, within(size))
        with memory_for(_COPIES * decode_bytes(image, name, size), max_decode_bytes):
            image.load()
            yield name, image.size if name == "TIFF" else size, image  # a TIFF is turned when it is loaded
    except PermanentError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
    else:
        return
    raise PermanentError(f"the {name} image is torn or damaged and cannot be decoded ({what[:200]})", code="TornImage")


def format_problem(head: bytes) -> PermanentError | None:
    """Why an image that begins like this cannot be read here, or None."""
    try:
        _format_of(head)
    except PermanentError as error:
        return error
    return None


def _format_of(data: bytes) -> str:
    if not data:
        raise PermanentError("the file is empty: 0 bytes", code="EmptyFile")
    name = sniff.image_format(data)
    if name is not None:
        return name
    kind = sniff.unreadable_image(data)
    if kind is None:
        raise PermanentError(f"this is {sniff.looks_like(data)}, not an image", code="NotAnImage")
    if sniff.other_format(data) == "HEIC":
        if can_read_heic():
            return "HEIC"
        raise RefusedHereError(f"this is {kind}, which is read {WITH_HEIF}", code="UnsupportedFormat")
    message = f"this is {kind}; formats that are read: {', '.join(sniff.FORMATS)}"
    raise PermanentError(message, code="UnsupportedFormat")


def _open(data: bytes, name: str, max_pixels: int, max_decode_bytes: int) -> tuple[tuple[int, int], int, Any, int]:
    """Size as shown, frames, the first frame at the detail size, and its orientation; the full picture is let go of."""
    image = _opened(data, name, max_pixels)
    frames = _frames(image, name)
    width, height = image.size
    if name == "TIFF":
        width, height = int(image.tag_v2[256]), int(image.tag_v2[257])  # Pillow may have turned the size already
        is_turned = image.tag_v2.get(ORIENTATION, 1) in ON_ITS_SIDE
    full = image.size
    image.draft(None, _reduced(full, DETAIL_AREA))
    with memory_for(decode_bytes(image, name, full), max_decode_bytes):
        image.load()
        detail = _normalised(image)
    orientation = 1 if name == "TIFF" else orientation_of(image)  # Pillow turns a TIFF when it is loaded
    if name != "TIFF":
        is_turned = orientation in ON_ITS_SIDE
    return (height, width) if is_turned else (width, height), frames, detail, orientation


def _opened(data: bytes, name: str, max_pixels: int) -> Any:
    """The image, nothing of it decoded yet."""
    if name == "WEBP":  # its plugin makes room for the canvas when it opens the file
        _check_pixels(sniff.webp_size(data), max_pixels)
    image = _plugin(name)(io.BytesIO(data), "")
    _check_pixels(image.size, max_pixels)
    return image


def _picture(size: tuple[int, int], frames: int, detail: Any, upright: Any) -> Picture:
    """The measured copies of an RGB or RGBA image of the normalised size."""
    from PIL import Image

    small = np.asarray(detail.resize(_reduced(detail.size, COLOR_AREA), Image.Resampling.BOX))
    pixels = small.reshape(-1, small.shape[-1])
    luma = np.asarray(detail.convert("L"), dtype=np.float32)
    if detail.mode == "RGBA":
        alpha = pixels[:, 3].astype(np.float32) / np.float32(255)
        opacity = np.asarray(detail.getchannel("A"), dtype=np.float32) / np.float32(255)
    else:
        alpha, opacity = np.ones(len(pixels), dtype=np.float32), np.ones_like(luma)
    return Picture(*size, frames, luma, opacity, pixels[:, :3], alpha, upright)


def _plugin(name: str) -> Any:
    """The class that opens a format. For JPEG not Pillow's factory, which looks for further pictures and warns."""
    from PIL import Image, JpegImagePlugin

    if name == "JPEG":
        return JpegImagePlugin.JpegImageFile
    if name == "HEIC":
        return import_module("pillow_heif.as_plugin").HeifImageFile
    Image.init()
    if name not in Image.OPEN:
        message = f"the installed Pillow cannot read {name}; install a newer one"
        raise PermanentError(message, code="UnsupportedFormat")
    return Image.OPEN[name][0]


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        message = f"the image has {width}x{height} pixels; at most {max_pixels:,} are read"
        raise PermanentError(message, code="TooManyPixels")


def _frames(image: Any, name: str) -> int:
    """Frames by the header; of a GIF, which has no count, whether there is a second one."""
    if name not in _PLAYING:
        return 1
    return 1 + bool(image.is_animated) if name == "GIF" else int(getattr(image, "n_frames", 1))


def _reduced(size: tuple[int, int], area: int) -> tuple[int, int]:
    """The size with the same shape and about that area; never larger, never nothing."""
    width, height = size
    scale = (area / (width * height)) ** 0.5
    if scale >= 1:
        return width, height
    return max(1, round(width * scale)), max(1, round(height * scale))


def _normalised(image: Any) -> Any:
    """A decoded image as RGB or RGBA with 8 bits a channel, at the detail size."""
    from PIL import Image

    image = as_eight_bits(image)
    if "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBa"):
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    image = image.resize(_reduced(image.size, DETAIL_AREA), Image.Resampling.HAMMING, reducing_gap=3.0)
    return image.convert("RGB") if image.mode == "L" else image


def as_eight_bits(image: Any) -> Any:
    """Deep or floating grey as 8 bits; any other image as it is."""
    from PIL import Image

    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    return Image.fromarray(_stretched(np.asarray(image))) if is_deep else image


def _stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Deep or floating grey values as 0..255: by 16 bits, 8 bits or 0..1, whichever range they keep to."""
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    lowest, highest = float(grey.min()), float(grey.max())
    for top in (1.0, 255.0, 65535.0):
        if lowest >= 0 and highest <= top:
            return (grey * (255.0 / top)).astype(np.uint8)
    return ((grey - lowest) * (255.0 / max(highest - lowest, 1e-6))).astype(np.uint8)
