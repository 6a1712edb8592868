"""Finishes the tags of VIAPI's actions by what only their own items hold: hex colours, corners, calories, flags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from imgtag_pipeline.model import Tag
from imgtag_pipeline.providers.toolkit.decode import (
    Row,
    box_of_corners,
    confidence,
    is_blank,
    number,
    plain,
    rows,
    text,
    whole,
)


def hex_color(found: Tag, item: Row) -> Tag:
    """A colour in hex: six digits, also where it came as a number or lost its leading zeros."""
    written = text(item.get("Color"))
    if written is not None and written.isascii() and written.isdigit():
        written = written.zfill(6)
    return replace(found, extra={**found.extra, "Color": written, "Percentage": number(item.get("Percentage"))})


def rubbish(found: Tag, item: Row) -> Tag:
    """A kind of rubbish; only its category where the vendor names no kind."""
    score = number(item.get("CategoryScore"))
    if is_blank(item.get("Rubbish")):
        found = replace(found, parent=None, confidence=confidence(score, 1.0), confidence_raw=score)
    flags = {"Sensitive": is_true(found.extra["Sensitive"])} if "Sensitive" in found.extra else {}
    return replace(found, extra={**found.extra, **flags, "CategoryScore": score})


def fruit(found: Tag, item: Row) -> Tag:
    """A fruit with its box, which comes as two corners."""
    corners = [number(value) for value in rows(item.get("Box"))]
    box = box_of_corners(*corners) if len(corners) == 4 else None
    return replace(found, box=box) if box else replace(found, extra={**found.extra, "Box": plain(item.get("Box"))})


def vehicle(found: Tag, item: Row) -> Tag:
    """A kind of vehicle with the highest probability of the answer."""
    threshold = number(found.extra.get("Threshold"))
    return replace(found, extra={**found.extra, "Threshold": threshold}) if "Threshold" in found.extra else found


def certificate(found: Tag, item: Row) -> Tag:
    """Score is a severity whose range the manual contradicts itself about, or the word `score` for none."""
    verdict = text(item.get("Pass"))
    return replace(found, extra={**found.extra, "Pass": verdict and verdict.lower(), "Score": found.measure})


def food(found: Tag, item: Row) -> Tag:
    """A dish; its calories may be a number, a text, or the word UNKNOWN."""
    written = text(item.get("Calorie"))
    return replace(found, extra={**found.extra, "Calorie": whole(item.get("Calorie")), "CalorieText": written})


def is_true(value: Any) -> bool:
    """Whether a flag is set, as a boolean or as text."""
    return value is True or text(value) in ("true", "True", "TRUE", "1")
