"""An image made to keep to a vendor's limits: as a JPEG, and no larger than it has to be."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any, Final

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.tagger.decode import as_eight_bits, opened_whole
from imgtag_pipeline.tagger.orientation import ORIENTATION, on_white, orientation_of

_QUALITIES: Final = (92, 85, 75)
_MOST_STEPS: Final = 24


@dataclass(frozen=True, slots=True)
class Fitted:
    """The bytes that are sent, and what they were made of; sizes are in pixels as stored, before any turning."""

    data: bytes = field(repr=False)
    width: int
    height: int
    format: str
    bytes_before: int
    width_before: int
    height_before: int

    @property
    def note(self) -> dict[str, Any]:
        """For people, JSON-ready."""
        return {
            "from": f"{self.format} {self.width_before}x{self.height_before}, {self.bytes_before} bytes",
            "to": f"JPEG {self.width}x{self.height}, {len(self.data)} bytes",
        }


def fit_image(
    data: bytes, *, max_bytes: int | None, min_side: int | None, max_side: int | None, max_pixels: int | None
) -> Fitted:
    """A JPEG of the first frame within these limits, on white where it is transparent; never made larger.

    Raises `PermanentError`: what decoding raises, or CannotBeFitted where no size keeps to all limits.
    """
    with opened_whole(data, lambda whole: _within(whole, max_side, max_pixels)) as (name, before, image):
        orientation = orientation_of(image)
        flat = on_white(as_eight_bits(image))
        size = _within(before, max_side, max_pixels)
        for _ in range(_MOST_STEPS):
            if min(size) < (min_side or 1):
                break
            shrunk = flat if size == flat.size else flat.resize(size)
            for quality in _QUALITIES:
                made = _jpeg(shrunk, quality, orientation)
                if max_bytes is None or len(made) <= max_bytes:
                    return Fitted(made, *size, name, len(data), *before)
            size = (max(1, size[0] * 3 // 4), max(1, size[1] * 3 // 4))
    raise PermanentError(
        f"the image of {before[0]:,} x {before[1]:,} pixels cannot be made to keep to all limits at once",
        code="CannotBeFitted",
    )


def _within(size: tuple[int, int], max_side: int | None, max_pixels: int | None) -> tuple[int, int]:
    """The largest size of the same shape that keeps to both limits."""
    width, height = size
    scale = 1.0
    if max_side is not None:
        scale = min(scale, max_side / max(size))
    if max_pixels is not None:
        scale = min(scale, (max_pixels / (width * height)) ** 0.5)
    if scale == 1.0:
        return size
    return max(1, int(width * scale)), max(1, int(height * scale))


def _jpeg(image: Any, quality: int, orientation: int) -> bytes:
    from PIL import Image

    more: dict[str, Any] = {}
    if orientation != 1:  # the vendor turns it as it would have turned the original
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        more["exif"] = exif.tobytes()
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **more)
    return buffer.getvalue()
