"""Values as vendors spell them: what is understood, what is nothing, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from imgtag_pipeline import providers
from imgtag_pipeline.model import Box, Image, Reply, Tag
from imgtag_pipeline.providers import Keys
from imgtag_pipeline.providers.alibaba_viapi.reading import unwrapped
from imgtag_pipeline.providers.toolkit.decode import (
    Columns,
    Malformed,
    best_first,
    box,
    box_of_corners,
    confidence,
    decode,
    flat,
    number,
    plain,
    rows,
    tag,
    text,
    whole,
)


class Anything(msgspec.Struct):
    a: Any = None


def value(body: bytes) -> Any:
    return decode(body, Anything).a


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}', 1),
        (b'\xef\xbb\xbf {"a": 1} \n', 1),
        (b"<R><a>1</a></R>", "1"),
        (b'<?xml version="1.0" encoding="gb2312"?><R><a>\xe4\xb8\xad</a></R>', "中"),
        (b"<R><a>1</a><a>2</a><a>3</a></R>", ["1", "2", "3"]),
        (b"<R><a><b>1</b><b/></a></R>", {"b": ["1", ""]}),
        (b'<R xmlns="urn:x"><a> x </a></R>', "x"),
        (b'<R><a xml:lang="zh">&lt;&#x4e2d;</a></R>', "<中"),
    ],
)
def test_json_and_xml_are_told_by_the_first_character(body, expected):
    """Whatever was asked for and whatever the header says."""
    assert value(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"  ", b"null", b"[1]", b"1", b'{"a":', b'{"a":01}', b'{"a":NaN}', b"<R>", b"<html></html>", b"text"),
        *(
            b"<!DOCTYPE html><html/>",
            b'<!DOCTYPE x [<!ENTITY a "b">]><R><a>&a;</a></R>',
            b"\xff\xfe{}",
            b'{"a":"\xff"}',
        ),
    ],
)
def test_what_is_no_answer_is_malformed(body):
    """The message does not repeat the body."""
    with pytest.raises(Malformed):
        decode(body, Anything)


@pytest.mark.parametrize(
    ("body", "written", "as_number"),
    [
        (b'{"a": 2020}', "2020", 2020.0),
        (b'{"a": 1.10}', "1.10", 1.1),
        (b'{"a": 5E0014}', "5E0014", 5e14),
        (b'{"a": 12E345}', "12E345", None),
        (b'{"a": true}', "true", None),
        (b'{"a": " x "}', "x", None),
        (b'{"a": " 0.5 "}', "0.5", 0.5),
        (b'{"a": "1_0"}', "1_0", None),
        (b'{"a": "nan"}', "nan", None),
        (b'{"a": "Infinity"}', "Infinity", None),
        ('{"a": "٣"}'.encode(), "٣", None),
        ('{"a": "e\u0301"}'.encode(), "é", None),
        (b'{"a": ""}', None, None),
        (b'{"a": null}', None, None),
    ],
)
def test_text_is_as_written_and_numbers_are_read_from_text(body, written, as_number):
    """NFC, stripped; a boolean, NaN and infinity are no numbers."""
    assert text(value(body)) == written
    assert number(value(body)) == as_number


@pytest.mark.parametrize("found", [[], {}, [1], {"a": 1}])
def test_a_list_where_a_text_stands_is_malformed(found):
    """It is not turned into text."""
    with pytest.raises(Malformed):
        text(found)


@pytest.mark.parametrize(("found", "expected"), [(1, 1), ("2", 2), ("2.0", 2), (2.5, None), (True, None), ("x", None)])
def test_whole_numbers(found, expected):
    """A fraction is none."""
    assert whole(found) == expected


@pytest.mark.parametrize(
    ("found", "scale", "expected"),
    [
        (1, 100, 0.01),
        (100, 100, 1.0),
        (1, 1, 1.0),
        ("0.5", 1, 0.5),
        (1.0000005, 1, 1.0),
        (-1e-7, 1, 0.0),
        (True, 1, None),
    ],
)
def test_confidence_goes_by_the_scale_and_never_by_the_value(found, scale, expected):
    """A TaggingImage confidence of 1 is 0.01; only rounding noise is clamped."""
    assert confidence(found, scale) == expected


@pytest.mark.parametrize(("found", "scale"), [(-1, 1), (1.01, 1), (101, 100), (1e300, 100)])
def test_a_confidence_off_the_scale_is_malformed(found, scale):
    """Better none than a wrong one."""
    with pytest.raises(Malformed, match="outside"):
        confidence(found, scale)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, []),
        ("", []),
        ({}, []),
        ([], []),
        ({"a": 1}, [{"a": 1}]),
        ([None, {"a": 1}, {}, ""], [{"a": 1}]),
        ("x", ["x"]),
    ],
)
def test_lists_come_as_objects_and_nothing_in_many_ways(found, expected):
    """A list of one may be its item."""
    assert rows(found) == expected


def test_lists_of_lists_are_flattened():
    """With nulls between; not without end."""
    assert list(flat([[{"a": 1}, None], [[{"b": 2}]], None])) == [{"a": 1}, {"b": 2}]
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    with pytest.raises(Malformed):
        list(flat(deep))


def test_boxes():
    """From corners, or from x, y, width and height; what makes no rectangle is no box."""
    assert box(["1", 2, 3.5, 4]) == Box(1, 2, 3.5, 4)
    assert box_of_corners(1, 2, "4", 6) == Box(1, 2, 3, 4)
    assert box([1, 2, -3, 4]) is None
    assert box([1, 2, 3]) is None
    assert box_of_corners(5, 5, 1, 9) is None
    assert box_of_corners(1, 2, None, 4) is None


def test_extra_is_json_ready_and_holds_no_signature():
    """Numbers that JSON cannot hold stay as written."""
    found = value(
        b'{"a": {"n": 1e999, "f": 1.5, "u": "http://h/a?OSSAccessKeyId=c&Expires=1&Signature=c", "l": [null]}}'
    )
    assert plain(found) == {"n": "1e999", "f": 1.5, "u": "http://h/a", "l": [None]}


def test_a_tag_needs_a_name():
    """What has none is malformed; spellings are tried in order."""
    columns = Columns(("new", "old"), confidence=("p",), level=("level",))
    assert tag({"new": "", "old": 7, "p": 0, "level": "2", "x": 1}, columns) == Tag(
        "7", confidence=0.0, confidence_raw=0.0, level=2, extra={"x": 1}
    )
    with pytest.raises(Malformed, match="new or old"):
        tag({"p": 1}, columns)
    with pytest.raises(Malformed, match="object"):
        tag("x", columns)


def test_tags_are_ordered_best_first():
    """By confidence, else by measure; those without either come last; equal ones stay in order."""
    tags = [
        Tag("n"),
        Tag("b", confidence=0.5),
        Tag("a", confidence=0.9),
        Tag("c", confidence=0.5),
        Tag("m", measure=0.7),
    ]
    assert [one.name for one in best_first(tags)] == ["a", "m", "b", "c", "n"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('{"a": 1}', {"a": 1}),
        ('{\\"a\\": 1}', {"a": 1}),
        ('"{\\"a\\": 1}"', {"a": 1}),
        ({"a": 1}, {"a": 1}),
        ("null", None),
    ],
)
def test_json_in_text_is_unwrapped(written, expected):
    """Escaped as it should be, or once too often."""
    assert unwrapped(written) == expected


@pytest.mark.parametrize(
    "written", ["{", "plain words\n", '"' * 3, '"\\"\\\\\\"\\\\\\\\\\\\\\"x\\\\\\\\\\\\\\"\\\\\\"\\""']
)
def test_text_that_is_no_json_is_malformed(written):
    """At most four rounds."""
    with pytest.raises(Malformed):
        unwrapped(written)


@pytest.mark.parametrize(
    ("address", "body"),
    [
        ("oss_labels", {"RequestId": "r", "Labels": [{"new": 1}, "text", 7, {"LabelName": " "}], "More": {}}),
        ("oss_tagimage", {"RequestId": "r", "Tags": [{"new": 1}, "text", [1], {"TagName": None}], "More": {}}),
        ("tencent_v1", {"code": 0, "tags": [{"new": 1}, "text", 7], "more": []}),
        ("tencent_v2", {"code": 0, "data": [{"items": [{"new": 1}, 7]}, "text", {"more": 1}]}),
        ("viapi/TaggingImage", {"RequestId": "r", "Data": {"Tags": [{"New": 1}, "text", 7], "More": 1}}),
        ("viapi/DetectImageElements", {"RequestId": "r", "Data": {"Elements": [{"New": 1}, 7], "More": {}}}),
        ("viapi/RecognizeFood", {"RequestId": "r", "Data": {"TopFives": [{"Calorie": 3}, "text"]}}),
        ("viapi/RecognizeScene", {"RequestId": "r", "Data": {"Tags": [{"Confidence": 3}]}}),
    ],
)
def test_items_that_name_nothing_make_an_empty_answer(address, body):
    """Unknown fields and items without a usable field are passed over in every provider; the answer is understood."""
    keys = Keys("key-id", "secret", app_id="1000001")
    provider = providers.get(address, credentials=keys)
    url = "https://bucket.oss-cn-shanghai.aliyuncs.com/a.jpg"
    exchange = provider.exchange([Image("k", url)], {})
    call = next(exchange)
    reply = Reply(200, {}, json.dumps(body).encode())
    provider.check(call, reply)
    with pytest.raises(StopIteration) as done:
        exchange.send(reply)
    (answer,) = done.value.value
    assert answer.tags == ()
