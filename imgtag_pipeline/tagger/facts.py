"""What one can filter pictures by: shape, tone, contrast, colourfulness, sharpness, transparency, animation.

All thresholds stand in the tables here. A fact's confidence is how far its measure lies beyond the threshold: 0.5 at
the threshold, 1 at `sure` and further, linear between. `extra` holds the measure and the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger import measures
from imgtag_pipeline.tagger.decode import Picture


@dataclass(frozen=True, slots=True)
class Rule:
    """The fact `name` of a group holds from `threshold` on, towards `sure`, which may lie above or below it."""

    name: str
    group: str
    threshold: float
    sure: float

    def tag(self, value: float | None) -> Tag | None:
        """The tag where the value reaches the threshold, else None; None too where nothing could be measured."""
        if value is None or (value - self.threshold) * (self.sure - self.threshold) < 0:
            return None
        beyond = (value - self.threshold) / (self.sure - self.threshold)
        confidence = round(0.5 + 0.5 * min(beyond, 1.0), 4)
        extra = {"value": round(value, 4), "threshold": self.threshold}
        return Tag(self.name, "style", confidence, parent=self.group, extra=extra)


# By group. What lies between two thresholds of a group has no tag of it: neither dark nor bright, neither muted nor
# vivid. Tuned on the photographs inside scikit-image and matplotlib, and on blurred copies of them.
RULES: Final[tuple[Rule, ...]] = (
    # long side over short side; portrait and tall by height over width
    Rule("landscape", "orientation", 1.05, 1.25),
    Rule("portrait", "orientation", 1.05, 1.25),
    Rule("square", "orientation", 1.05, 1.0),
    Rule("panorama", "aspect", 2.0, 2.5),
    Rule("tall", "aspect", 2.0, 2.5),
    # mean luma, 0..1
    Rule("dark", "tone", 0.30, 0.15),
    Rule("bright", "tone", 0.70, 0.85),
    # standard deviation of luma, 0..0.5
    Rule("high-contrast", "contrast", 0.27, 0.40),
    Rule("low-contrast", "contrast", 0.09, 0.04),
    # Hasler and Suesstrunk's M3: below 5 no colour is seen, 33 is their "moderately", 59 their "quite colourful"
    Rule("greyscale", "colorfulness", 5.0, 1.0),
    Rule("muted", "colorfulness", 30.0, 15.0),
    Rule("vivid", "colorfulness", 59.0, 82.0),
    # how abrupt the edges are in the crispest tenth, see `measures.sharpness`
    Rule("blurred", "sharpness", 0.35, 0.20),
    Rule("sharp", "sharpness", 0.80, 1.30),
    # share of the area that is see-through
    Rule("transparent", "transparency", 0.01, 0.10),
    # frames, more than one; a GIF's are counted to 2 only
    Rule("animated", "animation", 1, 2),
)
# Shapes with a name of their own, width by height; the measure is how far the picture's ratio is off, and the
# tag is given up to 2 %.
ASPECTS: Final = ((5, 4), (4, 3), (3, 2), (16, 10), (16, 9))
_ASPECT_OFF: Final = 0.02
_BY_NAME: Final = {rule.name: rule for rule in RULES}


def fact_tags(picture: Picture) -> tuple[Tag, ...]:
    """The facts that hold, surest first; those equally sure in the order of the tables."""
    values = {**_shape(picture), **_pixels(picture)}
    found = [_BY_NAME[name].tag(value) for name, value in values.items()]
    tags = [tag for tag in (*found, _aspect(picture)) if tag is not None]
    return tuple(sorted(tags, key=lambda tag: -(tag.confidence or 0.0)))


def _shape(picture: Picture) -> dict[str, float | None]:
    wide, high = picture.width / picture.height, picture.height / picture.width
    return {"landscape": wide, "portrait": high, "square": max(wide, high), "panorama": wide, "tall": high}


def _pixels(picture: Picture) -> dict[str, float | None]:
    seen: dict[str, float | None] = {
        "transparent": 1.0 - float(picture.alpha.mean()),
        "animated": float(picture.frames) if picture.frames > 1 else None,
    }
    if float(picture.alpha.sum()) <= 0:
        return seen
    luma = picture.rgb @ measures.LUMA
    brightness = measures.brightness(luma, picture.alpha)
    contrast = measures.contrast(luma, picture.alpha)
    colorfulness = measures.colorfulness(picture.rgb, picture.alpha)
    sharpness = measures.sharpness(picture)
    seen |= {"dark": brightness, "bright": brightness, "high-contrast": contrast, "low-contrast": contrast}
    seen |= {"greyscale": colorfulness, "vivid": colorfulness, "blurred": sharpness, "sharp": sharpness}
    seen["muted"] = colorfulness if colorfulness > _BY_NAME["greyscale"].threshold else None
    return seen


def _aspect(picture: Picture) -> Tag | None:
    """The named shape within 2 % of the picture's, nearest first; 3:4 is a 4:3 picture upright."""
    ratio = max(picture.width, picture.height) / min(picture.width, picture.height)
    off, long, short = min((abs(ratio * short / long - 1), long, short) for long, short in ASPECTS)
    if picture.width < picture.height:
        long, short = short, long
    return Rule(f"{long}:{short}", "aspect", _ASPECT_OFF, 0.0).tag(off)
