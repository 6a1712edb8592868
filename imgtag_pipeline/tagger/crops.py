"""From an upright picture to the numbers that a network looks at: resized, cropped or padded, scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.tagger.oklab import Floats

RESAMPLINGS: Final = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
FITS: Final = ("crop", "squash", "pad")
_REDUCING_GAP: Final = 3.0  # a much larger picture is first reduced by whole numbers, which is faster


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a network wants to see.

    `height` and `width` are of its input. `fit` is "crop" (the middle `crop` of the short side), "squash" (all of the
    picture, whatever its shape) or "pad" (all of it, on a white square). A pixel becomes (value - mean) / scale, by
    channel, of values from 0 to 255.
    """

    height: int
    width: int
    fit: Literal["crop", "squash", "pad"] = "crop"
    crop: float = 0.875
    resample: str = "bicubic"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: Literal["RGB", "BGR"] = "RGB"

    def pixels(self, upright: Any) -> NDArray[np.uint8]:
        """The part of an RGB Pillow image that the network sees, uint8 (height, width, 3)."""
        from PIL import Image

        resample = Image.Resampling[self.resample.upper()]
        size = (self.width, self.height)
        if self.fit == "pad":
            side = max(upright.size)
            square = Image.new("RGB", (side, side), "white")
            square.paste(upright, ((side - upright.width) // 2, (side - upright.height) // 2))
            upright = square
        box = self._box(*upright.size) if self.fit == "crop" else None
        seen = upright.resize(size, resample, box=box, reducing_gap=_REDUCING_GAP)
        found: NDArray[np.uint8] = np.asarray(seen)
        return found[:, :, ::-1] if self.channels == "BGR" else found

    def numbers(self, upright: Any) -> Floats:
        """What the network is given, float32 (height, width, 3)."""
        values: Floats = self.pixels(upright).astype(np.float32)
        values -= np.asarray(self.mean, np.float32)
        values /= np.asarray(self.scale, np.float32)
        return values

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The middle of the picture in the input's shape."""
        scale = min(width / self.width, height / self.height) * self.crop
        wide, high = self.width * scale, self.height * scale
        return (width - wide) / 2, (height - high) / 2, (width + wide) / 2, (height + high) / 2

    @property
    def least(self) -> int:
        """Pixels of the short side below which decoding would lose something."""
        return round(max(self.height, self.width) / (self.crop if self.fit == "crop" else 1.0))
