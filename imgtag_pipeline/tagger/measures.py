"""What is measured on a picture's pixels, as plain numbers; what they mean is decided in `facts`."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np

from imgtag_pipeline.tagger.decode import Picture
from imgtag_pipeline.tagger.oklab import Floats

LUMA: Final[Floats] = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601
_TILES: Final = 8
_SMALLEST: Final = 32  # pixels of the short side; on less, sharp and blurred look alike
_FLAT: Final = 4.0  # tiles with less standard deviation of luma have nothing in them that could be sharp


def brightness(luma: Floats, alpha: Floats) -> float:
    """Mean luma, 0 (black) to 1 (white)."""
    return float(np.average(luma, weights=alpha)) / 255.0


def contrast(luma: Floats, alpha: Floats) -> float:
    """Standard deviation of luma, 0 (flat) to 0.5 (half black, half white)."""
    mean = np.average(luma, weights=alpha)
    return float(np.average((luma - mean) ** 2, weights=alpha) ** 0.5) / 255.0


def colorfulness(rgb: np.ndarray, alpha: Floats) -> float:
    """Hasler and Süsstrunk's M3 (2003): 0 none, 15 slightly, 33 moderately, 45 averagely, 59 quite, 82 highly."""
    red, green, blue = (rgb[:, channel].astype(np.float32) for channel in range(3))
    axes = (red - green, 0.5 * (red + green) - blue)
    means = [float(np.average(axis, weights=alpha)) for axis in axes]
    spreads = [float(np.average((axis - mean) ** 2, weights=alpha)) for axis, mean in zip(axes, means, strict=True)]
    return float(sum(spreads) ** 0.5 + 0.3 * np.hypot(means[0], means[1]))


def sharpness(picture: Picture) -> float | None:
    """How crisp the crispest tenth of the picture is: standard deviation of the Laplacian over that of luma, by tile.

    The picture is cut into 8x8 tiles at its normalised size; None when no tile holds anything to judge
    by, or the picture is an icon.
    """
    luma, opaque = picture.detail, picture.detail_alpha > 0.98
    if min(luma.shape) < _SMALLEST:
        return None
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    inside = opaque[1:-1, 1:-1] & opaque[:-2, 1:-1] & opaque[2:, 1:-1] & opaque[1:-1, :-2] & opaque[1:-1, 2:]
    found = []
    for rows in _cuts(middle.shape[0]):
        for columns in _cuts(middle.shape[1]):
            mask = inside[rows, columns]
            spread = float(middle[rows, columns][mask].std()) if mask.sum() >= 9 else 0.0
            if spread >= _FLAT:
                found.append(float(laplacian[rows, columns][mask].std()) / spread)
    return float(np.quantile(found, 0.9)) if found else None


def _cuts(length: int) -> list[slice]:
    edges = np.linspace(0, length, _TILES + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)]
