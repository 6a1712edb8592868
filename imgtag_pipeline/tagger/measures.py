"""What is measured on a picture's pixels, as plain numbers; what they mean is decided in `facts`."""

from __future__ import annotations

from typing import Final

import numpy as np

from imgtag_pipeline.tagger.decode import Picture
from imgtag_pipeline.tagger.oklab import Floats

LUMA: Final[Floats] = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601
_TILES: Final = 8
_SMALLEST: Final = 32  # pixels of the short side; on less, sharp and blurred look alike
_OPAQUE: Final = 0.98
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
    """How abrupt the edges are in the crispest tenth of the picture: about 1 and more where they are a pixel wide.

    In each of 8x8 tiles, at the normalised size: the Laplacian where there are edges (the root of its fourth moment
    over its second, so that it does not matter how many there are) over twice the standard deviation of luma. None
    when no tile holds anything to judge by, or the picture is an icon. Pixels beside transparent ones do not count.
    """
    luma = picture.detail
    if min(luma.shape) < _SMALLEST:
        return None
    middle = luma[1:-1, 1:-1]
    laplacian = _neighbours(luma) - 4 * middle
    if picture.detail_alpha.min() > _OPAQUE:
        counted = np.ones_like(middle)
    else:
        opaque = (picture.detail_alpha > _OPAQUE).astype(np.float32)
        counted = (opaque[1:-1, 1:-1] + _neighbours(opaque) == 5).astype(np.float32)
    pixels = _tile_sums(counted)
    spread = _deviation(middle, counted, pixels)
    judged = (pixels >= 9) & (spread >= _FLAT)
    if not judged.any():
        return None
    squares = laplacian * laplacian * counted
    edges = np.sqrt(_tile_sums(squares * squares)[judged] / np.maximum(_tile_sums(squares)[judged], 1e-9))
    return float(np.quantile(edges / (2 * spread[judged]), 0.9))


def _neighbours(values: Floats) -> Floats:
    """The sum of each inner pixel's four neighbours."""
    total: Floats = values[:-2, 1:-1] + values[2:, 1:-1]
    total += values[1:-1, :-2]
    total += values[1:-1, 2:]
    return total


def _deviation(values: Floats, counted: Floats, pixels: Floats) -> Floats:
    """Standard deviation of the counted pixels in each tile."""
    shifted = (values - values.mean()) * counted  # nearer to zero, for the sake of float32
    count = np.maximum(pixels, 1)
    variance = _tile_sums(shifted * shifted) / count - (_tile_sums(shifted) / count) ** 2
    deviation: Floats = np.sqrt(np.maximum(variance, 0))
    return deviation


def _tile_sums(values: Floats) -> Floats:
    rows, columns = (np.arange(_TILES) * length // _TILES for length in values.shape)
    sums: Floats = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1, dtype=np.float64)
    return sums
