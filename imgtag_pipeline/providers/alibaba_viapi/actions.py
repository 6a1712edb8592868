"""The actions of Alibaba VIAPI imagerecog, one table: parameter, limits, price, and where the tags are in the answer.

Confidence: TaggingImage, RecognizeScene and RecognizeLogo 0 to 100, all others 0 to 1, by action and never by value;
a colour's share and a certificate's severity are no confidences, they are the tag's measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imgtag_pipeline.model import Price, Tag
from imgtag_pipeline.providers.alibaba_viapi.items import certificate, food, fruit, hex_color, rubbish, vehicle
from imgtag_pipeline.providers.toolkit.decode import Columns, Row
from imgtag_pipeline.providers.toolkit.precheck import Limits

Refine = Callable[[Tag, Row], Tag]

DOCS: Final = "https://help.aliyun.com/document_detail/151944.html"
MB: Final = 1 << 20
MILLION: Final = 1_000_000
FREE: Final = Price(tiers=((None, 0),))


@dataclass(frozen=True, slots=True)
class Action:
    """One action. `parameter` is case-sensitive; `field` is the list in `Data`; `refine` finishes a tag by its item."""

    title: str
    parameter: str
    field: str
    columns: Columns
    limits: Limits
    price: Price = FREE
    price_words: str = "free during the public beta"
    confidence: str = "0 to 1"
    languages: tuple[str, ...] = ("zh",)
    refine: Refine | None = None
    batch_size: int = 1
    is_job: bool = False


def _tiers(*tiers: tuple[int | None, int]) -> Price:
    """Tiers of Alibaba are marginal: each call costs the price of the tier it falls in. In micro-yuan."""
    return Price(tiers=tiers)


_PHOTO: Final = Limits(("JPEG", "PNG", "BMP"), 3 * MB, min_side=6, words="over 5x5")
_CREATED: Final = 19 * MB // 2  # 9.5 MB

ACTIONS: Final[dict[str, Action]] = {
    "TaggingImage": Action(
        "General tags (objects, scenes), at most 5",
        "ImageURL",
        "Tags",
        Columns(("Value",), "label", ("Confidence",), 100.0, spoken="zh"),
        _PHOTO,
        _tiers((5 * MILLION, 2500), (30 * MILLION, 2000), (None, 1700)),
        "0.0025 yuan up to 5 M calls a month, 0.002 up to 30 M, 0.0017 above",
        "0 to 100",
    ),
    "RecognizeScene": Action(
        "Scenes, at most 5",
        "ImageURL",
        "Tags",
        Columns(("Value",), "scene", ("Confidence",), 100.0, spoken="zh"),
        _PHOTO,
        _tiers((5 * MILLION, 1500), (30 * MILLION, 1200), (None, 1020)),
        "0.0015 yuan up to 5 M calls a month, 0.0012 up to 30 M, 0.00102 above",
        "0 to 100",
    ),
    "DetectImageElements": Action(
        "Elements of a design, with boxes",
        "Url",
        "Elements",
        Columns(("Type",), "element", ("Score",), box=("X", "Y", "Width", "Height"), spoken="en"),
        Limits(("JPEG", "PNG", "BMP"), 3 * MB, max_side=1280, words="up to 1280x1280"),
        languages=("en",),
    ),
    "RecognizeLogo": Action(
        "Logos of brands and TV stations, with boxes; several images a call (closed to new customers)",
        "Tasks",
        "Elements",
        Columns(("Name",), "logo", box=("X", "Y", "W", "H")),
        Limits(("PNG", "JPEG", "BMP", "GIF", "WEBP"), 10 * MB, words="256x256 or more advised"),
        confidence="0 to 100",
        batch_size=5,  # the manual gives no number [inferred]
    ),
    "RecognizeImageColor": Action(
        "Colours with hex and share of area",
        "Url",
        "ColorTemplateList",
        Columns(("Label",), "color", measure=("Percentage",), spoken="en"),
        Limits(("PNG", "JPEG", "BMP"), _CREATED, max_side=2499, is_rgb=True, words="under 2500x2500"),
        confidence="none; the measure is the share of area, 0 to 1",
        languages=("en",),
        refine=hex_color,
    ),
    "RecognizeImageStyle": Action(
        "Styles of a design",
        "Url",
        "Styles",
        Columns(("Style",), "style", spoken="en"),
        Limits(("PNG", "JPEG", "BMP", "WEBP"), _CREATED, max_side=2999, is_rgb=True, words="under 3000x3000"),
        confidence="none",
        languages=("en",),
    ),
    "ClassifyingRubbish": Action(
        "Rubbish and its category for sorting",
        "ImageURL",
        "Elements",
        Columns(("Rubbish", "Category"), "rubbish", ("RubbishScore",), parent=("Category",), spoken="zh"),
        Limits(("JPEG", "PNG"), 3 * MB),
        refine=rubbish,
    ),
    "DetectFruits": Action(
        "Fruits, with boxes",
        "ImageURL",
        "Elements",
        Columns(("Name",), "fruit", ("Score",), spoken="zh", ignored=("Box",)),
        Limits(("JPEG", "PNG", "TIFF"), 3 * MB - 1, min_side=101, words="over 100x100"),
        refine=fruit,
    ),
    "RecognizeVehicleType": Action(
        "Kinds of vehicle",
        "ImageURL",
        "Elements",
        Columns(("Name",), "vehicle", ("Score",), spoken="en"),
        Limits(("JPEG", "PNG"), 10 * MB),
        languages=("en",),
        refine=vehicle,
    ),
    "EvaluateCertificateQuality": Action(
        "Defects of a photographed certificate",
        "ImageURL",
        "Elements",
        Columns(("Value",), "certificate", measure=("Score",), spoken="en"),
        Limits(("JPEG", "BMP", "PNG"), 10 * MB - 1, min_side=101, max_side=4999, words="over 100x100, under 5000x5000"),
        confidence="none; the measure is a severity as the vendor gives it",
        languages=("en",),
        refine=certificate,
    ),
    "RecognizeFood": Action(
        "Dishes with calories, at most 5",
        "ImageURL",
        "TopFives",
        Columns(("Category",), "food", ("Score",), spoken="zh"),
        Limits(("JPEG", "PNG", "BMP"), 10 * MB - 1, min_side=100, max_side=4096, words="100x100 to 4096x4096"),
        _tiers((50_000, 700), (100_000, 600), (200_000, 500), (500_000, 400), (MILLION, 350), (None, 300)),
        "0.0007 yuan up to 50 k calls a month, falling to 0.0003 above 1 M",
        refine=food,
    ),
    "TaggingAdImage": Action(
        "People, scenes and objects of an advertisement, with boxes; an asynchronous job",
        "ImageURL",
        "TagInfo",
        Columns(("category",), "label", ("score",), ignored=("bbox",), spoken="en"),
        _PHOTO,
        _tiers((5 * MILLION, 7500), (30 * MILLION, 6000), (None, 5100)),
        "0.0075 yuan up to 5 M calls a month, 0.006 up to 30 M, 0.0051 above, counted per region",
        languages=("en", "zh"),
        is_job=True,
    ),
}
