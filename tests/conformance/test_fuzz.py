"""Broken replies of every kind: only our own errors come out, never a wrong confidence, never a hang."""

from __future__ import annotations

import json
import math
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgtag_pipeline.errors import CallError
from imgtag_pipeline.model import Answer, Call, Image, Job, Reply, SaveJob
from imgtag_pipeline.providers import Keys, Provider, get
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS

HERE = Path(__file__).parent / "replies"
KEYS = Keys("key-id", "secret", app_id="1000001")
QUICK, HEAVY = 3_000, 100_000
MAX_STEPS = 400
STATUSES = (200, 200, 200, 200, 201, 400, 403, 404, 429, 500, 503)
SPLICES = (
    *(b"null", b"[]", b"{}", b'""', b"-1", b"1e999", b"NaN", b"true", b"5E0014", b"99999999999999999999", b"\\ud800"),
    *(b'"\\u0000"', b"\xff", b"<", b">", b"&lt;", b"</Data>", b'{"a":', b"[[[[", b'"\\"', b"101", b"-0.5", b"1.5"),
)


def _provider(folder: str, name: str) -> Provider:
    if folder != "viapi":
        return get(folder, credentials=KEYS, **({"region": "cn-hangzhou"} if folder.startswith("oss") else {}))
    action = name.removeprefix("viapi_").split(".")[0].split("_")[0]
    action = "TaggingAdImage" if action == "GetAsyncJobResult" else action if action in ACTIONS else "TaggingImage"
    own = {"certificate_type": "IDCard"} if action == "EvaluateCertificateQuality" else {}
    return get(f"viapi/{action}", credentials=KEYS, **own)


SEEDS = [
    (_provider(folder.name, path.name), path.name, path.read_bytes())
    for folder in sorted(HERE.iterdir())
    for path in sorted(folder.iterdir())
    if path.name != "index.json" and path.suffix in (".json", ".xml")
]


def answered(provider: Provider, name: str, reply: Reply) -> None:
    """Give this reply to every call, as the retry layer would, until the exchange ends; hold the outcome to account."""
    image = Image("key", "https://bucket.oss-cn-shanghai.aliyuncs.com/a.jpg")
    jobs = {"key": Job("job", datetime(2023, 7, 21, tzinfo=UTC))} if "GetAsync" in name else {}
    exchange = provider.exchange([image], jobs)
    step = next(exchange)
    try:
        for _ in range(MAX_STEPS):
            if isinstance(step, SaveJob):
                assert step.job_id
                step = exchange.send(None)
                continue
            assert isinstance(step, Call)
            try:
                provider.check(step, reply)
            except CallError as error:
                shown(error)
                step = exchange.throw(error)
            else:
                step = exchange.send(reply)
    except StopIteration as done:
        (result,) = done.value
        if isinstance(result, Answer):
            hold(result)
        else:
            shown(result)
        return
    except CallError as error:
        shown(error)
        return
    pytest.fail("the exchange did not end")


def shown(error: CallError) -> None:
    """An error that can be put in a row."""
    assert error.code
    f"{error} {error.code} {error.request_id}".encode()
    assert "\n" not in str(error)
    assert "key-id" not in str(error)


def hold(answer: Answer) -> None:
    """An answer that can be put in a table, with nothing wrong in it."""
    (answer.request_id or "").encode()
    for tag in answer.tags:
        assert tag.name
        assert tag.name == tag.name.strip()
        for text in (tag.name, tag.parent, tag.tag_id, tag.language):
            (text or "").encode()
        assert tag.confidence is None or 0.0 <= tag.confidence <= 1.0
        if tag.confidence is not None:
            assert tag.confidence_raw is not None
        for number in (tag.confidence_raw, tag.measure, *(vars_of_box(tag.box))):
            assert number is None or math.isfinite(number)
        json.dumps(tag.extra, allow_nan=False, ensure_ascii=False).encode()
    weights = [tag.confidence for tag in answer.tags if tag.confidence is not None]
    assert weights == sorted(weights, reverse=True)


def vars_of_box(box: Any) -> tuple[float, ...]:
    return () if box is None else (box.x, box.y, box.width, box.height)


def mutated(body: bytes, chance: random.Random) -> bytes:
    """The body with a few bytes flipped, dropped, doubled or replaced, or cut off."""
    found = bytearray(body)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(7):
            case 0 if at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            case 1:
                del found[at : at + chance.choice((1, 1, 2, 10, 200))]
            case 2:
                found[at:at] = chance.choice(SPLICES)
            case 3:
                found[at : at + chance.choice((1, 4, 20))] = chance.choice(SPLICES)
            case 4:
                del found[at:]
            case 5:
                other = chance.randrange(len(found) + 1)
                found[at:at] = found[other : other + chance.choice((1, 10, 100))]
            case _:
                digits = [place for place, byte in enumerate(found) if 48 <= byte <= 57]
                if digits:
                    found[chance.choice(digits)] = chance.choice(b"0123456789-.eE")
    return bytes(found)


def run_mutations(count: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(count):
        provider, name, body = chance.choice(SEEDS)
        reply = Reply(chance.choice(STATUSES), {}, mutated(body, chance))
        try:
            answered(provider, name, reply)
        except Exception as error:
            raise AssertionError(f"{name} as {reply.status} {reply.body!r}") from error


def test_broken_bytes_give_only_our_errors():
    """A few thousand mutations of the recorded replies, always the same ones."""
    run_mutations(QUICK, seed=1)


@pytest.mark.heavy
def test_a_hundred_thousand_broken_replies_give_only_our_errors():
    """As many as the continuous integration has time for."""
    run_mutations(HEAVY, seed=2)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(
        ["score", "UNKNOWN", "-1", "1e400", "https://h/a?Signature=s&OSSAccessKeyId=k&Expires=1", "normal"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        found += _places(item, (*path, name))
    return found


def _replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], new)
    return copy


JSON_SEEDS = [
    (provider, name, json.loads(body), _places(json.loads(body)))
    for provider, name, body in SEEDS
    if name.endswith(".json")
]


@st.composite
def _documents(draw: st.DrawFn) -> tuple[Provider, str, Any]:
    provider, name, document, places = draw(st.sampled_from(JSON_SEEDS))
    return provider, name, _replaced(document, draw(st.sampled_from(places)), draw(JSON_VALUES))


@given(_documents(), st.sampled_from((200, 200, 200, 400, 500)))
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_wrong_values_in_right_json_give_only_our_errors(case, status):
    """Any value in any place of a recorded reply."""
    provider, name, document = case
    answered(provider, name, Reply(status, {}, json.dumps(document).encode("utf-8", "surrogatepass")))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"Data":' * 5_000 + b"1" + b"}" * 5_000,
        b"<a>" * 100_000,
        b"<a>" * 900 + b"</a>" * 900,
        b'<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>',
        b'{"RequestId":"r","Data":{"Tags":[' + b"{}," * 100_000 + b"{}]}}",
        b'{"RequestId":"r","code":0,"Labels":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"code":' + b"9" * 4_000 + b"}",
        b'{"RequestId":"r","Data":{"Status":"PROCESS_SUCCESS","Result":"' + b"\\\\" * 50_000 + b'"}}',
        b'{"RequestId":"r","Data":{"Tags":[{"Value":"a","Confidence":' + b"9" * 4_000 + b"}]}}",
    ],
)
def test_hostile_bodies_end_at_once(body):
    """Deep nesting, entities, huge numbers and long lists are read or refused, and quickly."""
    for provider, name, _ in SEEDS[:: len(SEEDS) // 12]:
        answered(provider, name, Reply(200, {}, body))
