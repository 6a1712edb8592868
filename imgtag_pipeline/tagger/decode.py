"""From an image file's bytes to what the tagger looks at: its true size, and small copies of its pixels.

The size is checked from the header before anything is decompressed. Whatever Pillow raises becomes a
`PermanentError`, and no setting of Pillow is changed: images are opened by their own plugin, so that its global
limit, which warns, is not asked.
"""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.tagger import sniff
from imgtag_pipeline.tagger.oklab import Floats

MAX_PIXELS: Final = 100_000_000
DETAIL_AREA: Final = 384 * 384  # the normalised size at which sharpness is judged
COLOR_AREA: Final = 128 * 128  # the size at which colour and tone are judged
_LARGE_PIXELS: Final = 16_000_000
_large_decode = threading.Lock()  # so that a pool of threads holds the memory of one large picture, not of eight
_PLAYING: Final = frozenset({"GIF", "PNG", "WEBP", "AVIF"})  # several frames mean pages in the others


@dataclass(frozen=True, slots=True)
class Picture:
    """What there is to see: `width` and `height` as a viewer shows it, the rest at a normalised size.

    `detail` is luma 0..255 at about 384x384 pixels' area and `detail_alpha` its opacity; `rgb` (n, 3) and `alpha` (n,)
    are the pixels at about 128x128. Smaller pictures keep their size. `frames` counts to 2 for a GIF.
    """

    format: str
    width: int
    height: int
    frames: int
    detail: Floats
    detail_alpha: Floats
    rgb: np.ndarray
    alpha: Floats


def open_picture(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """The first frame, or a `PermanentError`: EmptyFile, NotAnImage, UnsupportedFormat, TooManyPixels, TornImage."""
    name = _format_of(data)
    try:
        return _open(data, name, max_pixels)
    except PermanentError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, MemoryError and more
        what = f"{type(error).__name__}: {error}"
    raise PermanentError(f"the {name} image is torn or damaged ({what[:200]})", code="TornImage")


def _format_of(data: bytes) -> str:
    if not data:
        raise PermanentError("the file is empty: 0 bytes", code="EmptyFile")
    name = sniff.image_format(data)
    if name is not None:
        return name
    kind = sniff.unreadable_image(data)
    readable = ", ".join(sniff.FORMATS)
    if kind is not None:
        raise PermanentError(f"this is {kind}; formats that are read: {readable}", code="UnsupportedFormat")
    raise PermanentError(f"this is {sniff.looks_like(data)}, not an image", code="NotAnImage")


def _open(data: bytes, name: str, max_pixels: int) -> Picture:
    from PIL import Image

    Image.init()
    if name not in Image.OPEN:
        message = f"this is a {name} image, which the installed Pillow cannot read"
        raise PermanentError(message, code="UnsupportedFormat")
    image = _plugin(Image, name)(io.BytesIO(data), "")
    width, height = _stored_size(image)
    if width * height > max_pixels:
        message = f"the image has {width}x{height} pixels; at most {max_pixels:,} are read"
        raise PermanentError(message, code="TooManyPixels")
    if _orientation(image) >= 5:
        width, height = height, width
    frames = _frames(image) if name in _PLAYING else 1
    image.draft(None, _reduced(image.size, DETAIL_AREA))
    if image.size[0] * image.size[1] > _LARGE_PIXELS:
        with _large_decode:
            detail = _normalised(Image, image)
    else:
        detail = _normalised(Image, image)
    small = detail.resize(_reduced(detail.size, COLOR_AREA), Image.Resampling.BOX)
    pixels = np.asarray(small).reshape(-1, len(small.getbands()))
    luma, opacity = _luma(detail)
    alpha = pixels[:, 3].astype(np.float32) / np.float32(255) if pixels.shape[1] == 4 else _opaque(len(pixels))
    return Picture(name, width, height, frames, luma, opacity, pixels[:, :3], alpha)


def _plugin(pil: Any, name: str) -> Any:
    """The plugin's class. For JPEG not its factory, which looks for further pictures and warns about bad ones."""
    if name == "JPEG":
        from PIL.JpegImagePlugin import JpegImageFile

        return JpegImageFile
    return pil.OPEN[name][0]


def _stored_size(image: Any) -> tuple[int, int]:
    """Width and height as stored; Pillow has turned a TIFF's already."""
    width, height = image.size
    tags = getattr(image, "tag_v2", None)
    if tags is not None and 256 in tags and 257 in tags:
        return int(tags[256]), int(tags[257])
    return width, height


def _orientation(image: Any) -> int:
    """EXIF orientation 1..8; 1 where there is none, or where its EXIF block is damaged."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # the pixels are fine, only the notes beside them are not
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _frames(image: Any) -> int:
    """Frames by the header; for a GIF, which has no count, whether there is a second one."""
    if image.format == "GIF":
        return 2 if image.is_animated else 1
    return int(getattr(image, "n_frames", 1))


def _reduced(size: tuple[int, int], area: int) -> tuple[int, int]:
    """The size with the same shape and at most about that area; never larger, never nothing."""
    width, height = size
    scale = (area / (width * height)) ** 0.5
    if scale >= 1:
        return width, height
    return max(1, round(width * scale)), max(1, round(height * scale))


def _normalised(pil: Any, image: Any) -> Any:
    """The first frame decoded, as L, RGB or RGBA, at the detail size."""
    image.load()
    image = _eight_bit(pil, image)
    return image.resize(_reduced(image.size, DETAIL_AREA), pil.Resampling.HAMMING, reducing_gap=3.0)


def _eight_bit(pil: Any, image: Any) -> Any:
    """Any mode as RGB or RGBA with 8 bits a channel."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return pil.fromarray(_stretched(np.asarray(image)), "L").convert("RGB")
    has_alpha = "transparency" in image.info or image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if has_alpha and image.mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[image.mode])
    wanted = "RGBA" if has_alpha else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Deep or floating grey values as 0..255: by 16 bits, by 8 bits or by 0..1, whichever range they keep to."""
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    grey = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    lowest, highest = float(grey.min()), float(grey.max())
    for top in (1.0, 255.0, 65535.0):
        if lowest >= 0 and highest <= top:
            return (grey * (255.0 / top)).astype(np.uint8)
    return ((grey - lowest) * (255.0 / (highest - lowest))).astype(np.uint8)


def _opaque(count: int) -> Floats:
    return np.ones(count, dtype=np.float32)


def _luma(image: Any) -> tuple[Floats, Floats]:
    """Rec. 601 luma, and opacity 0..1, of an RGB or RGBA image."""
    luma = np.asarray(image.convert("L"), dtype=np.float32)
    if image.mode != "RGBA":
        return luma, np.ones_like(luma)
    return luma, np.asarray(image.getchannel("A"), dtype=np.float32) / np.float32(255)
