"""What each VIAPI action answers about an image: its `Data`, in the shape that the official SDKs parse.

Colours come from the pixels, and so do the general tags; the rest (scenes, logos, food) is made up from a number
that depends only on the image, so that it is the same at every call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from imgtag_pipeline.emulator.vision import Sight
from imgtag_pipeline.emulator.vocabulary import DEFECTS, FOODS, FRUITS, LOGOS, RUBBISH, SCENES, VEHICLES, chinese
from imgtag_pipeline.model import Tag

_STYLES: Final = ("promotion", "chinese", "simple", "technology", "festival", "cartoon")
_ELEMENTS: Final = ("majorauction", "character", "decoration", "logo", "background")
_HUMANS: Final = ("human-real-normal", "human-cartoon", "human-real-celebrity")
_AD_SCENES: Final = ("gamescreen-gameeffect", "indoor-livingroom", "outdoor-street")
_AD_OBJECTS: Final = ("object-phone", "object-car", "object-food")


def general_tags(sight: Sight, most: int = 5) -> Sequence[Tag]:
    """The image's tags with a confidence, colours among them, best first."""
    tags = [tag for tag in (*sight.tags, *sight.colors) if tag.confidence is not None]
    return sorted(tags, key=lambda tag: -(tag.confidence or 0.0))[:most]


class Draw:
    """Draws from an image's number: the same picks for the same image, different ones for each question."""

    def __init__(self, seed: int, question: int) -> None:
        self._state = (seed ^ (question * 0x9E3779B97F4A7C15)) & 0xFFFFFFFFFFFFFFFF

    def below(self, limit: int) -> int:
        """A whole number below the limit."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self._state >> 33) % limit

    def some(self, things: Sequence[Any], most: int) -> list[Any]:
        """One to `most` different things."""
        left = list(things)
        return [left.pop(self.below(len(left))) for _ in range(1 + self.below(most))]

    def scores(self, count: int) -> list[float]:
        """As many scores of 0 to 1, falling."""
        return sorted(((self.below(9800) + 100) / 10_000 for _ in range(count)), reverse=True)

    def box(self, sight: Sight) -> tuple[int, int, int, int]:
        """x, y, width, height inside the image."""
        x, y = self.below(max(1, sight.width // 2)), self.below(max(1, sight.height // 2))
        return x, y, 1 + self.below(max(1, sight.width - x)), 1 + self.below(max(1, sight.height - y))


def _tagging(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    tags = general_tags(sight)
    return {"Tags": [{"Confidence": round(100 * (t.confidence or 0.0)), "Value": chinese(t.name)} for t in tags]}


def _scene(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 1)
    names = draw.some(SCENES, 5)
    scores = draw.scores(len(names))
    return {"Tags": [{"Confidence": round(100 * s), "Value": n} for n, s in zip(names, scores, strict=True)]}


def _elements(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 2)
    found = []
    for score in draw.scores(1 + draw.below(4)):
        x, y, width, height = draw.box(sight)
        kind = _ELEMENTS[draw.below(len(_ELEMENTS))]
        found.append({"Type": kind, "Score": score, "X": x, "Y": y, "Width": width, "Height": height})
    return {"Elements": found}


def logo_element(sight: Sight, url: str, task_id: str) -> dict[str, Any]:
    """One image's entry in the answer of RecognizeLogo; every third image is "normal" and has no logo."""
    draw = Draw(sight.seed, 3)
    rate = (9000 + draw.below(1000)) / 100
    if draw.below(3) == 0:
        result: dict[str, Any] = {"Label": "normal", "Rate": rate, "Suggestion": "pass"}
    else:
        name, kind = LOGOS[draw.below(len(LOGOS))]
        x, y, width, height = draw.box(sight)
        logo = {"Name": name, "Type": kind, "X": x, "Y": y, "W": width, "H": height}
        result = {"Label": kind, "Rate": rate, "Suggestion": "block", "LogosData": [logo]}
    return {"TaskId": task_id, "ImageURL": url, "Results": [result]}


def _colors(sight: Sight, params: Mapping[str, str]) -> dict[str, Any]:
    count = int(params.get("ColorCount", "3"))
    return {
        "ColorTemplateList": [
            {"Percentage": tag.measure or 0.0, "Color": str(tag.extra.get("hex", "000000")), "Label": tag.name}
            for tag in sight.colors[:count]
        ]
    }


def _styles(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    return {"Styles": Draw(sight.seed, 4).some(_STYLES, 2)}


def _rubbish(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 5)
    if draw.below(17) == 0:
        return {"Sensitive": True}
    names = draw.some(RUBBISH, 2)
    return {
        "Sensitive": False,
        "Elements": [
            {"Rubbish": name, "Category": category, "RubbishScore": score, "CategoryScore": score}
            for (name, category), score in zip(names, draw.scores(len(names)), strict=True)
        ],
    }


def _fruits(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 6)
    found = []
    for score in draw.scores(1 + draw.below(2)):
        x, y, width, height = draw.box(sight)
        box = [float(x), float(y), float(x + width), float(y + height)]
        found.append({"Name": FRUITS[draw.below(len(FRUITS))], "Score": score, "Box": box})
    return {"Elements": found}


def _vehicles(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 7)
    names = draw.some(VEHICLES, 4)
    scores: list[float] = draw.scores(len(names))
    if draw.below(3) == 0:  # the manual's example: sure of it, and printed as whole numbers
        scores = [1, *([0] * (len(names) - 1))]
    elements = [{"Name": name, "Score": score} for name, score in zip(names, scores, strict=True)]
    return {"Elements": elements, "Threshold": scores[0]}


def _certificate(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 8)
    names = draw.some(DEFECTS, 2)
    return {
        "Elements": [
            {"Value": name, "Score": str(score), "Pass": "true" if score < 0.5 else "false"}
            for name, score in zip(names, draw.scores(len(names)), strict=True)
        ]
    }


def _food(sight: Sight, _: Mapping[str, str]) -> dict[str, Any]:
    draw = Draw(sight.seed, 9)
    names = draw.some(FOODS, 5)
    return {
        "TopFives": [
            {"Category": name, "Calorie": calorie, "Score": score}
            for (name, calorie), score in zip(names, draw.scores(len(names)), strict=True)
        ]
    }


def tag_info(sight: Sight) -> dict[str, Any]:
    """What a job of TaggingAdImage finds: lists of lists, `[None]` for none, boxes as [ymin, xmin, ymax, xmax]."""
    draw = Draw(sight.seed, 10)
    humans: list[Any] = []
    for score in draw.scores(draw.below(3)):
        x, y, width, height = draw.box(sight)
        human = {"category": _HUMANS[draw.below(len(_HUMANS))], "score": score, "bbox": [y, x, y + height, x + width]}
        if draw.below(2):
            human |= {"cloth_category": "modern", "cloth_category_score": draw.scores(1)[0]}
        humans.append(human)
    scene = {"category": _AD_SCENES[draw.below(len(_AD_SCENES))], "score": draw.scores(1)[0]}
    objects = [{"category": name, "score": draw.scores(1)[0]} for name in _AD_OBJECTS if draw.below(2)]
    return {"humanInfo": [humans or None], "sceneInfo": [[scene]], "objectInfo": [objects or None]}


ANSWERS: Final[Mapping[str, Callable[[Sight, Mapping[str, str]], dict[str, Any]]]] = {
    "TaggingImage": _tagging,
    "RecognizeScene": _scene,
    "DetectImageElements": _elements,
    "RecognizeImageColor": _colors,
    "RecognizeImageStyle": _styles,
    "ClassifyingRubbish": _rubbish,
    "DetectFruits": _fruits,
    "RecognizeVehicleType": _vehicles,
    "EvaluateCertificateQuality": _certificate,
    "RecognizeFood": _food,
}
