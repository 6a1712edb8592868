"""Colour names of an image: 11 names as regions of OKLab, each with its share of the area and its mean colour.

The vocabulary is that of RecognizeImageColor: three names without a hue, and eight around the hue circle; it has no
brown or pink (the vendor's published replies call 754533 and D9B58A "orange", EC4886 "red").
"""

from __future__ import annotations

from typing import Final

import numpy as np

from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger import oklab
from imgtag_pipeline.tagger.oklab import Floats

NEUTRAL: Final = ("black", "gray", "white")
# Around the hue circle, each with the hue in degrees where it ends and the next begins: for dark colours (L <= 0.4)
# and for light ones (L >= 0.8), linear between. Dark yellow reads as green or brown, dark magenta as purple.
HUES: Final[tuple[tuple[str, float, float], ...]] = (
    ("red", 40.0, 40.0),
    ("orange", 98.0, 86.0),
    ("yellow", 100.0, 116.0),
    ("green", 172.0, 172.0),
    ("cyan", 215.0, 215.0),
    ("blue", 283.0, 283.0),
    ("purple", 338.0, 318.0),
    ("magenta", 350.0, 350.0),
)
COLOR_NAMES: Final = NEUTRAL + tuple(name for name, _, _ in HUES)

BLACK_BELOW: Final = 0.23  # lightness of about 1E1E1E
WHITE_ABOVE: Final = 0.90  # lightness of about DDDDDD
NEUTRAL_CHROMA: Final = 0.04  # less chroma than this has no hue; more is needed in the dark
DARK_CHROMA: Final = 0.4  # what is added to it per unit of lightness below 0.25
SURE_DISTANCE: Final = 0.04  # OKLab distance to the nearest other name from which confidence is 1
MIN_SHARE: Final = 0.01  # a colour below this share of the area is left out, unless it is the largest


def color_tags(rgb: np.ndarray, alpha: Floats, *, count: int) -> tuple[Tag, ...]:
    """At most `count` colours of the pixels (n, 3), largest share of the opaque area first.

    `measure` is the share. Confidence is the mean over the colour's pixels of 0.5 + 0.5 * d / 0.04, at most 1, where
    d is the OKLab distance from the pixel to the nearest region of another name: 0.5 on the border, 1 well inside.
    """
    total = float(alpha.sum())
    if total <= 0:
        return ()
    lab = oklab.from_rgb(rgb)
    names, distance = nearest_names(lab)
    sure = 0.5 + 0.5 * np.minimum(distance / SURE_DISTANCE, 1.0)
    size = len(COLOR_NAMES)
    area = np.bincount(names, weights=alpha, minlength=size)
    surety = np.bincount(names, weights=alpha * sure, minlength=size)
    sums = [np.bincount(names, weights=alpha * lab[:, axis], minlength=size) for axis in range(3)]
    order = np.argsort(-area, kind="stable")[:count]
    tags: list[Tag] = []
    for index in order:
        share = float(area[index]) / total
        if share < MIN_SHARE and tags:
            break
        mean = np.array([axis[index] for axis in sums]) / area[index]
        shown = {"hex": oklab.to_hex(mean), "share": round(share, 4)}
        confidence = round(float(surety[index] / area[index]), 4)
        tags.append(Tag(COLOR_NAMES[index], "color", confidence, measure=round(share, 4), extra=shown))
    return tuple(tags)


def nearest_names(lab: Floats) -> tuple[np.ndarray, Floats]:
    """For each OKLab colour the index of its name in `COLOR_NAMES`, and its distance to the nearest other name."""
    light = lab[:, 0]
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    least = NEUTRAL_CHROMA + DARK_CHROMA * np.maximum(0.25 - light, 0.0)
    has_hue = chroma >= least
    gray_names = (light >= BLACK_BELOW).astype(np.intp) + (light >= WHITE_ABOVE)
    to_lightness = np.minimum(np.abs(light - BLACK_BELOW), np.abs(light - WHITE_ABOVE))
    hue_names, to_hue = _hue_names(lab, light, chroma)
    names = np.where(has_hue, hue_names + len(NEUTRAL), gray_names)
    distance = np.minimum(np.abs(chroma - least), np.where(has_hue, to_hue, to_lightness))
    return names, distance.astype(np.float32)


def _hue_names(lab: Floats, light: Floats, chroma: Floats) -> tuple[np.ndarray, Floats]:
    """The index in `HUES` for each colour, and its distance to the nearest border between two hues."""
    hue = np.degrees(np.arctan2(lab[:, 2], lab[:, 1])) % 360.0
    lightness = np.clip((light - 0.4) / 0.4, 0.0, 1.0)
    found = np.zeros(len(hue), dtype=np.intp)
    nearest = np.full(len(hue), 180.0)
    for _, dark_end, light_end in HUES:
        end = dark_end + (light_end - dark_end) * lightness
        found += hue >= end
        off = np.abs(hue - end)
        nearest = np.minimum(nearest, np.minimum(off, 360.0 - off))
    away = chroma * np.sin(np.radians(np.minimum(nearest, 90.0)))
    return found % len(HUES), away.astype(np.float32)
