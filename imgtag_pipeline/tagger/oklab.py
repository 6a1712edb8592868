"""sRGB to and from OKLab, where equal distances look about equally different (bottosson.github.io/posts/oklab)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_LEVELS: Final = np.arange(256) / 255.0
_LINEAR: Final[Floats] = np.where(_LEVELS <= 0.04045, _LEVELS / 12.92, ((_LEVELS + 0.055) / 1.055) ** 2.4).astype(
    np.float32
)
_RGB_TO_LMS: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_TO_LMS: Final[Floats] = _RGB_TO_LMS.T.astype(np.float32)
_TO_LAB: Final[Floats] = _LMS_TO_LAB.T.astype(np.float32)
_FROM_LAB: Final = np.linalg.inv(_LMS_TO_LAB)
_FROM_LMS: Final = np.linalg.inv(_RGB_TO_LMS)


def from_rgb(rgb: NDArray[np.uint8]) -> Floats:
    """Lightness 0..1 and the two colour axes for pixels of shape (n, 3)."""
    lab: Floats = np.cbrt(_LINEAR[rgb] @ _TO_LMS) @ _TO_LAB
    return lab


def to_hex(lab: NDArray[np.floating]) -> str:
    """One OKLab colour as "RRGGBB", clipped to what sRGB can show."""
    lms = (_FROM_LAB @ np.asarray(lab, dtype=np.float64)) ** 3
    linear = np.clip(_FROM_LMS @ lms, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (int(level) for level in np.rint(srgb * 255))
    return f"{red:02X}{green:02X}{blue:02X}"
