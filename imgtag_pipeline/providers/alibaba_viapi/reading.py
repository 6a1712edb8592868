"""Reads the answers of VIAPI's actions: lists and single objects, logos by image, and jobs with JSON inside JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec

from imgtag_pipeline.model import Answer, Kind, Reply, Tag
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS, Action
from imgtag_pipeline.providers.alibaba_viapi.items import is_true
from imgtag_pipeline.providers.toolkit.codes import said
from imgtag_pipeline.providers.toolkit.decode import (
    Malformed,
    Row,
    best_first,
    box_of_corners,
    confidence,
    decode,
    flat,
    is_blank,
    is_named,
    loads,
    named,
    number,
    objects,
    plain,
    row,
    rows,
    tag,
    text,
)


class Envelope(msgspec.Struct, rename="pascal"):
    """The outside of every body; errors are spelled with a capital, now and then without."""

    request_id: Any = None
    data: Any = msgspec.UNSET
    code: Any = None
    message: Any = None
    small_code: Any = msgspec.field(default=None, name="code")
    small_message: Any = msgspec.field(default=None, name="message")


def envelope_of(reply: Reply) -> Envelope:
    """The outside of the body. Raises `Malformed`, as all readings here do."""
    return decode(reply.body, Envelope)


def answer_of(reply: Reply, action: str) -> Answer:
    """The answer about one image."""
    envelope = reply.once(envelope_of)
    tags = read_tags(ACTIONS[action], envelope.data)
    return Answer(tags, said(envelope.request_id), "Sensitive" if not tags and is_sensitive(envelope.data) else None)


def read_tags(action: Action, data: Any) -> tuple[Tag, ...]:
    """The tags in `Data`, best first; fields of `Data` beside the list go to each tag's `extra`."""
    fields = _data(data)
    found = []
    shared = {name: plain(value) for name, value in fields.items() if name != action.field}
    listed = fields.get(action.field)
    if action.field == "Styles":  # plain strings (a list of one may be one string)
        listed = [item if isinstance(item, dict) else {"Style": item} for item in rows(listed)]
    for fields_of in named(listed, action.columns):
        one = tag(fields_of, action.columns, shared)
        found.append(action.refine(one, fields_of) if action.refine else one)
    return best_first(found)


def is_sensitive(data: Any) -> bool:
    """Whether an answer says that the image was not judged because it is sensitive (ClassifyingRubbish)."""
    return isinstance(data, dict) and is_true(data.get("Sensitive"))


_LOGO_DROPPED: Final = ("LogosData", "Rate")


def logos_of(reply: Reply) -> list[tuple[str | None, tuple[Tag, ...]]]:
    """For each image of a RecognizeLogo answer its URL and its logos; `normal` means none."""
    data = reply.once(envelope_of).data
    return [
        (
            text(element.get("ImageURL")),
            best_first([one for result in objects(element.get("Results")) for one in _logos(result)]),
        )
        for element in objects(_data(data).get("Elements"))
    ]


def _logos(result: Row) -> list[Tag]:
    rate = result.get("Rate")
    shared = {name: plain(value) for name, value in result.items() if name not in _LOGO_DROPPED}
    sure = {"confidence": confidence(rate, 100.0), "confidence_raw": number(rate)}
    label = None if isinstance(result.get("Label"), (list, dict)) else text(result.get("Label"))
    columns = ACTIONS["RecognizeLogo"].columns
    found = [tag(item, columns, shared) for item in named(result.get("LogosData"), columns)]
    if not found and label is not None and label.lower() != "normal":
        found = [Tag(label, "logo", extra=shared)]
    return [replace(one, **sure) for one in found]  # type: ignore[arg-type]


_GROUPS: Final[dict[str, Kind]] = {"humaninfo": "ad-human", "sceneinfo": "ad-scene", "objectinfo": "ad-object"}


def read_ad(info: Any) -> tuple[Tag, ...]:
    """The tags of a `tagInfo`: groups that hold objects, lists of them, or lists of lists with nulls, in any case."""
    found = []
    for group, value in row(info).items():
        kind = _GROUPS.get(group.lower())
        for item in flat(value):
            fields = {name.lower(): part for name, part in item.items()} if isinstance(item, dict) else {}
            if is_named(fields, ACTIONS["TaggingAdImage"].columns):
                found.append(_ad_tag(fields, kind, {} if kind else {"group": group}))
    return best_first(found)


def _ad_tag(fields: Row, kind: Kind | None, shared: Row) -> Tag:
    one = tag(fields, ACTIONS["TaggingAdImage"].columns, shared)
    extra = dict(one.extra)
    if "cloth_category_score" in extra:
        extra["cloth_category_score"] = number(extra["cloth_category_score"])
    # [ymin, xmin, ymax, xmax]: five people side by side in the manual's example differ in the 2nd and 4th number.
    corners = [number(value) for value in rows(fields.get("bbox"))]
    box = box_of_corners(corners[1], corners[0], corners[3], corners[2]) if len(corners) == 4 else None
    if not is_blank(fields.get("bbox")):
        extra["bbox"] = corners if box else plain(fields.get("bbox"))
    return replace(one, kind=kind or "label", box=box, extra=extra)


def _data(data: Any) -> Row:
    """`Data` as an object; an empty one may come as empty text (XML) or null."""
    return {} if is_blank(data) else row(data)


def unwrapped(value: Any) -> Any:
    """JSON that was put into a string once, or once too often, as the async results are; at most four rounds."""
    for _ in range(4):
        if not isinstance(value, str):
            return value
        value = _once_unwrapped(value)
    if isinstance(value, str):
        raise Malformed("the result is a text in a text in a text")
    return value


def _once_unwrapped(value: str) -> Any:
    try:
        return loads(value)
    except Malformed:
        return loads(f'"{value}"')


def read_job_result(result: Any) -> tuple[Tag, ...]:
    """The tags of a finished job's `Result`. Its own `confidence` of -1 is a filler and is not read."""
    found: list[Tag] = []
    outer = row(unwrapped(result))
    direct = _any_case(outer, "taginfo")
    if direct is not None:
        return read_ad(direct)
    listed = _any_case(outer, "tags")
    if listed is None:
        raise Malformed("the result has neither tags nor tagInfo")
    for item in objects(listed):
        inner = unwrapped(_any_case(item, "value") or {})
        info = _any_case(inner, "taginfo") if isinstance(inner, dict) else None
        found.extend(read_ad(info) if isinstance(info, dict) else ())
    return best_first(found)


def _any_case(fields: Row, name: str) -> Any:
    return next((value for key, value in fields.items() if key.lower() == name), None)


def job_info(data: Any) -> Any:
    """`TagInfo` of a direct answer, in any case; None where the answer is a job."""
    return _any_case(data, "taginfo") if isinstance(data, dict) else None
