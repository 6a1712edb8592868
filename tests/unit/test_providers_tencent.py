"""Tencent's two calls: URL or bytes, token, and the forms that their answers come in."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import UTC, datetime

import pytest

from imgtag_pipeline.core.signing import tencent
from imgtag_pipeline.emulator.multipart import form_fields
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Image, Moment, ReadImage, Reply
from imgtag_pipeline.providers import Keys, TencentV1, TencentV2

KEYS = Keys("secret-id", "secret-canary", app_id="1000001")
MOMENT = Moment(datetime(2023, 7, 21, 8, 44, 58, tzinfo=UTC), "nonce")
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (64).to_bytes(4, "big") * 2 + b"\r\n--"


def first_call(provider, url="https://example.com/中 a.jpg", data=None):
    exchange = provider.exchange([Image("k", url)], {})
    step = next(exchange)
    if isinstance(step, ReadImage):
        step = exchange.send(data)
    return exchange, step


@pytest.mark.parametrize(
    ("provider", "url", "app_field"),
    [
        (TencentV1(credentials=KEYS), "http://service.image.myqcloud.com/v1/detection/imagetag_detect", "appid"),
        (TencentV2(credentials=KEYS), "https://recognition.image.myqcloud.com/imagetag/picture_classify", "app_id"),
        (TencentV1(credentials=KEYS, endpoint="http://127.0.0.1:1", path="/x"), "http://127.0.0.1:1/x", "appid"),
    ],
)
def test_a_url_is_sent_as_json(provider, url, app_field):
    """With the content type that the vendor's SDK forgets; the URL is ASCII."""
    _, call = first_call(provider)
    assert (call.request.method, call.request.url) == ("POST", url)
    assert dict(call.request.headers)["content-type"] == "application/json"
    sent = json.loads(call.request.body)
    assert sent == {app_field: "1000001", "url": "https://example.com/%E4%B8%AD%20a.jpg"}


def test_v1_sends_bytes_as_base64():
    """Standard base64 in JSON, no prefix; the historical bucket when it is given."""
    _, call = first_call(TencentV1(credentials=KEYS, image_mode="bytes", bucket="b"), "/home/a.png", PNG)
    sent = json.loads(call.request.body)
    assert b64decode(sent.pop("image"), validate=True) == PNG
    assert sent == {"appid": "1000001", "bucket": "b"}


def test_v2_sends_bytes_as_a_form():
    """A boundary that is not in the data, the same each time."""
    provider = TencentV2(credentials=KEYS, image_mode="bytes")
    _, call = first_call(provider, "/home/a.png", PNG)
    kind = dict(call.request.headers)["content-type"]
    assert form_fields(kind, call.request.body) == {"app_id": b"1000001", "image": PNG}
    assert first_call(provider, "/home/a.png", PNG)[1].request == call.request


@pytest.mark.parametrize(
    ("provider", "data", "code"),
    [
        (TencentV1(credentials=KEYS, image_mode="bytes"), PNG + bytes(3 << 20), "ImageTooLarge"),
        (TencentV2(credentials=KEYS, image_mode="bytes"), PNG + bytes(6 << 20), "ImageTooLarge"),
        (TencentV1(credentials=KEYS, image_mode="bytes"), b"GIF89a\x40\0\x40\0", "UnsupportedFormat"),
        (TencentV2(credentials=KEYS, image_mode="bytes"), b"", "EmptyFile"),
    ],
)
def test_bytes_that_would_be_refused_are_not_sent(provider, data, code):
    """Whether a failure is billed is not known."""
    exchange = provider.exchange([Image("k", "a.png")], {})
    next(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.send(data)
    assert done.value.value[0].code == code


def test_limits_that_no_manual_states_can_be_lifted():
    """The size of version 1 is that of a sister API, the formats of version 2 are those of version 1."""
    larger = TencentV1(credentials=KEYS, image_mode="bytes", max_bytes=4 << 20)
    assert first_call(larger, "/home/a.png", PNG + bytes(3 << 20))[1].request.body
    webp = b"RIFF\0\0\0\0WEBP" + bytes(20)
    anything = TencentV2(credentials=KEYS, image_mode="bytes", any_format=True)
    assert first_call(anything, "/home/a.webp", webp)[1].request.body
    assert TencentV2(credentials=KEYS).precheck("https://h.example/a.webp").code == "UnsupportedFormat"
    assert TencentV2(credentials=KEYS, any_format=True).precheck("https://h.example/a.webp") is None


@pytest.mark.parametrize("kind", [TencentV1, TencentV2])
def test_a_reference_that_cannot_be_fetched_is_told_without_a_call(kind):
    """And the message says what to do."""
    error = kind(credentials=KEYS, image_mode="url").precheck("/home/a.png")
    assert error.code == "UnsupportedScheme"
    assert 'image_mode="auto" or "bytes"' in str(error)


@pytest.mark.parametrize("provider", [TencentV1(credentials=KEYS, bucket="b"), TencentV2(credentials=KEYS)])
def test_the_token_holds_on_the_wire(provider):
    """Bare in Authorization, for this app, not expired, anew for each nonce."""
    _, call = first_call(provider)
    header = dict(provider.sign(call.request, MOMENT).headers)["authorization"]
    token = tencent.parse(header)
    assert token is not None
    assert tencent.verify(token, "secret-canary")
    assert (token.app_id, token.secret_id, token.fields["b"]) == ("1000001", "secret-id", provider.bucket)
    assert MOMENT.epoch < token.expires_at <= MOMENT.epoch + 300
    assert len(token.fields["r"]) <= 10
    again = dict(provider.sign(call.request, Moment(MOMENT.now, "other")).headers)["authorization"]
    assert again != header


@pytest.mark.parametrize(
    ("provider", "body", "expected"),
    [
        (TencentV1(credentials=KEYS), {"code": "0", "tags": {"tag_name": 360, "tag_confidence": "1"}}, [("360", 0.01)]),
        (TencentV1(credentials=KEYS), {"code": 0, "message": "success"}, []),
        (TencentV1(credentials=KEYS), {"code": 0, "tags": [], "httpcode": 200}, []),
        (
            TencentV2(credentials=KEYS),
            {"code": 0, "data": {"items": {"level_name": "A", "probability": 1}}},
            [("A", 1.0)],
        ),
        (
            TencentV2(credentials=KEYS),
            {
                "code": 0,
                "data": [
                    {"items": [{"label_name": "A", "probability": 0.1}]},
                    {"items": [{"label_name": "B", "probability": 0.5}]},
                ],
            },
            [("B", 0.5), ("A", 0.1)],
        ),
        (TencentV2(credentials=KEYS), {"code": 0, "data": [{"items": []}]}, []),
        (TencentV2(credentials=KEYS), {"code": 0, "data": None}, []),
    ],
)
def test_answers_in_every_form(provider, body, expected):
    """Objects for lists, text for numbers, both spellings of the name, nothing at all."""
    exchange, call = first_call(provider)
    reply = Reply(200, {}, json.dumps(body).encode())
    provider.check(call, reply)
    with pytest.raises(StopIteration) as done:
        exchange.send(reply)
    assert [(tag.name, tag.confidence) for tag in done.value.value[0].tags] == expected


def test_keys_without_an_app_id_are_a_mistake():
    """Said before the first call."""
    with pytest.raises(ConfigError, match="TENCENT_APP_ID"):
        TencentV1(credentials=Keys("a", "b")).prepare()


def test_price_is_for_the_whole_month_and_unknown_for_v2():
    """Not marginal; the first 10,000 calls are free."""
    price = TencentV1(credentials=KEYS).price
    assert (price.scheme, price.free_calls) == ("whole-month", 10_000)
    assert price.tiers == ((3_000_000, 1100), (15_000_000, 900), (None, 700))
    assert TencentV2(credentials=KEYS).price is None
    assert TencentV1(credentials=KEYS).quota.key == f"tencent_v1:{KEYS.account}"
