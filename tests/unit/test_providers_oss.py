"""The two OSS calls: from a cell's value to a signed request, and what is refused before a (billed) call."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import quote, urlsplit

import pytest

from imgtag_pipeline.core.signing import oss_v1, oss_v4
from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.model import Answer, Image, Moment, Reply
from imgtag_pipeline.providers import Keys, OssLabels, OssTagimage
from imgtag_pipeline.providers.alibaba_oss.objects import Place, Target, find_object

KEYS = Keys("key-id", "secret-canary", "token-canary")
MOMENT = Moment(datetime(2023, 7, 21, 8, 44, 58, tzinfo=UTC), "nonce")
HANGZHOU = "https://bkt.oss-cn-hangzhou.aliyuncs.com/"
OWN = Place(region="cn-hangzhou")
LOCAL = Place(endpoint="http://127.0.0.1:8099", region="cn-hangzhou")
DOMAIN = Place(region="cn-hangzhou", domain="img.example.com", bucket="photos")
PRESIGNED_V1 = "?OSSAccessKeyId=canary&Expires=1&Signature=canary&security-token=canary"
PRESIGNED_V4 = "?x-oss-signature=canary&x-oss-credential=canary&x-oss-date=1&x-oss-process=image%2Fresize"


@pytest.mark.parametrize(
    ("value", "place", "bucket", "key", "url"),
    [
        ("oss://bkt/dir/a.jpg", OWN, "bkt", "dir/a.jpg", HANGZHOU + "dir/a.jpg"),
        ("OSS://bkt/a%20b.jpg", OWN, "bkt", "a%20b.jpg", HANGZHOU + "a%2520b.jpg"),
        ("oss://bkt/a?b#c.jpg", OWN, "bkt", "a?b#c.jpg", HANGZHOU + "a%3Fb%23c.jpg"),
        ("oss://bkt/中文 a.jpg", OWN, "bkt", "中文 a.jpg", HANGZHOU + quote("中文 a.jpg")),
        (HANGZHOU + "dir/a%20b.jpg", Place(), "bkt", "dir/a b.jpg", HANGZHOU + "dir/a%20b.jpg"),
        (HANGZHOU + "a+b.jpg", Place(), "bkt", "a+b.jpg", HANGZHOU + "a%2Bb.jpg"),
        (HANGZHOU + "%E4%B8%AD.jpg", Place(), "bkt", "中.jpg", HANGZHOU + "%E4%B8%AD.jpg"),
        (HANGZHOU + "中.jpg", Place(), "bkt", "中.jpg", HANGZHOU + "%E4%B8%AD.jpg"),
        (HANGZHOU + "dir%2Fa.jpg", Place(), "bkt", "dir/a.jpg", HANGZHOU + "dir/a.jpg"),
        (HANGZHOU.replace("https", "http") + "a.jpg", Place(), "bkt", "a.jpg", HANGZHOU + "a.jpg"),
        (HANGZHOU.upper() + "a.jpg", Place(), "bkt", "a.jpg", HANGZHOU + "a.jpg"),
        (HANGZHOU + "a.jpg" + PRESIGNED_V1, Place(), "bkt", "a.jpg", HANGZHOU + "a.jpg"),
        (HANGZHOU + "a.jpg" + PRESIGNED_V4, Place(), "bkt", "a.jpg", HANGZHOU + "a.jpg"),
        (HANGZHOU + "a.jpg?x-oss-process=style/x", Place(), "bkt", "a.jpg", HANGZHOU + "a.jpg"),
        ("https://oss-cn-hangzhou.aliyuncs.com/bkt/a.jpg", Place(), "bkt", "a.jpg", HANGZHOU + "a.jpg"),
        (
            "https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/a.jpg",
            Place(),
            "bkt",
            "a.jpg",
            "https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/a.jpg",
        ),
        (
            "https://bkt.oss-accelerate.aliyuncs.com/a.jpg",
            OWN,
            "bkt",
            "a.jpg",
            "https://bkt.oss-accelerate.aliyuncs.com/a.jpg",
        ),
        ("http://img.example.com/a%20b.jpg", DOMAIN, "photos", "a b.jpg", "http://img.example.com/a%20b.jpg"),
        ("https://IMG.example.com:8443/a.jpg", DOMAIN, "photos", "a.jpg", "https://img.example.com:8443/a.jpg"),
        ("oss://bkt/dir/a.jpg", LOCAL, "bkt", "dir/a.jpg", "http://127.0.0.1:8099/bkt/dir/a.jpg"),
        ("http://127.0.0.1:8099/bkt/dir%2Fa.jpg", LOCAL, "bkt", "dir/a.jpg", "http://127.0.0.1:8099/bkt/dir/a.jpg"),
        (HANGZHOU + "a.jpg", LOCAL, "bkt", "a.jpg", "http://127.0.0.1:8099/bkt/a.jpg"),
        ("https://bkt.oss.local:9/a.jpg", Place("http://oss.local:9"), "bkt", "a.jpg", "http://bkt.oss.local:9/a.jpg"),
        (
            HANGZHOU + "a.jpg",
            Place("https://oss-cn-hangzhou-internal.aliyuncs.com"),
            "bkt",
            "a.jpg",
            "https://bkt.oss-cn-hangzhou-internal.aliyuncs.com/a.jpg",
        ),
        (
            HANGZHOU + "a.jpg",
            Place("https://oss-cn-beijing-internal.aliyuncs.com"),
            "bkt",
            "a.jpg",
            HANGZHOU + "a.jpg",
        ),
    ],
)
def test_a_cell_names_an_object(value, place, bucket, key, url):
    """Every form of a reference gives its bucket, its key (decoded once) and where to ask."""
    target = find_object(value, place)
    assert isinstance(target, Target)
    assert (target.bucket, target.key, target.url) == (bucket, key, url)
    assert "canary" not in repr(target)


@pytest.mark.parametrize(
    ("value", "place", "region"),
    [
        (HANGZHOU + "a.jpg", Place(), "cn-hangzhou"),
        (HANGZHOU + "a.jpg", Place(region="cn-beijing"), "cn-hangzhou"),
        ("oss://bkt/a.jpg", Place(endpoint="https://oss-cn-beijing.aliyuncs.com"), "cn-beijing"),
        ("oss://bkt/a.jpg", Place(endpoint="http://127.0.0.1:1"), None),
        ("https://bkt.oss-accelerate.aliyuncs.com/a.jpg", Place(), None),
        ("https://bkt.oss-accelerate.aliyuncs.com/a.jpg", OWN, "cn-hangzhou"),
        ("https://bkt.oss-accelerate-overseas.aliyuncs.com/a.jpg", Place(), None),
    ],
)
def test_the_region_comes_from_the_host_or_the_option(value, place, region):
    """V4 is signed for a region."""
    assert find_object(value, place).region == region


@pytest.mark.parametrize(
    ("value", "place", "code"),
    [
        ("https://example.com/a.jpg", OWN, "ForeignHost"),
        ("https://img.example.com/a.jpg", OWN, "ForeignHost"),
        ("https://evil.com/bkt.oss-cn-hangzhou.aliyuncs.com/a.jpg", OWN, "ForeignHost"),
        ("https://bkt.oss-cn-hangzhou.aliyuncs.com.evil.com/a.jpg", OWN, "ForeignHost"),
        ("https://a.b.oss-cn-hangzhou.aliyuncs.com/a.jpg", OWN, "ForeignHost"),
        ("http://127.0.0.1:9/bkt/a.jpg", LOCAL, "ForeignHost"),
        ("a.jpg", OWN, "UnsupportedScheme"),
        ("s3://bkt/a.jpg", OWN, "UnsupportedScheme"),
        ("http://[bad", OWN, "InvalidUrl"),
        ("oss://bkt/a.jpg", Place(), "NoEndpoint"),
        ("oss://bkt", OWN, "InvalidObjectName"),
        ("oss://bkt//a.jpg", OWN, "InvalidObjectName"),
        ("oss://Bkt/a.jpg", OWN, "InvalidBucketName"),
        ("oss:///a.jpg", OWN, "InvalidBucketName"),
        (HANGZHOU, OWN, "InvalidObjectName"),
        (HANGZHOU + "%FF.jpg", OWN, "InvalidObjectName"),
        (HANGZHOU + "a" * 1024, OWN, "InvalidObjectName"),
    ],
)
def test_what_these_calls_cannot_reach_is_told_without_a_call(value, place, code):
    """Also hosts that only look like the vendor's: a signature never goes there."""
    error = find_object(value, place)
    assert isinstance(error, PermanentError)
    assert (error.code, error.billing) == (code, "no")


@pytest.mark.parametrize("name", ["a.webp", "a.GIF", "a.bmp", "a.heic"])
def test_a_format_that_would_be_refused_is_not_asked(name):
    """A refused request would be billed."""
    provider = OssLabels(region="cn-hangzhou", credentials=KEYS)
    assert provider.precheck(f"oss://bkt/{name}").code == "UnsupportedFormat"
    with pytest.raises(StopIteration) as done:
        next(provider.exchange([Image("k", f"oss://bkt/{name}")], {}))
    assert done.value.value[0].code == "UnsupportedFormat"


def test_tagimage_can_be_asked_about_any_format():
    """Its manual names no formats; those of the labels are held unless the caller knows better."""
    provider = OssTagimage(credentials=KEYS, region="cn-hangzhou", any_format=True)
    assert provider.precheck("oss://bkt/a.webp") is None
    assert OssTagimage(credentials=KEYS, region="cn-hangzhou").precheck("oss://bkt/a.webp") is not None


def test_v4_without_a_region_is_told_without_a_call():
    """The message says what to give; V1 needs none."""
    url = "https://bkt.oss-accelerate.aliyuncs.com/a.jpg"
    assert OssTagimage(credentials=KEYS).precheck(url).code == "NoRegion"
    assert OssTagimage(credentials=KEYS, signature="v1").precheck(url) is None


@pytest.mark.parametrize(
    ("provider", "process"),
    [
        (OssTagimage(credentials=KEYS), "imm/tagimage"),
        (OssLabels(credentials=KEYS), "image/labels"),
        (OssLabels(credentials=KEYS, threshold=0), "image/labels,thr_0"),
        (OssLabels(credentials=KEYS, threshold=85), "image/labels,thr_85"),
    ],
)
def test_the_process_is_in_the_query(provider, process):
    """The version stays, the old process and signature go; the body is empty."""
    signed = HANGZHOU + "a.jpg?versionId=v%2F1&x-oss-process=style/x&OSSAccessKeyId=c&Expires=1&Signature=c"
    call = next(provider.exchange([Image("k", signed)], {}))
    assert call.request.query == (("versionId", "v/1"), ("x-oss-process", process))
    assert (call.request.method, call.request.body) == ("GET", b"")
    assert call.is_billable


@pytest.mark.parametrize("signature", ["v1", "v4"])
@pytest.mark.parametrize(
    ("value", "options"),
    [
        (HANGZHOU + "dir/%E4%B8%AD a+b.jpg?versionId=7", {}),
        ("oss://bkt/dir/中 a%20b.jpg", {"region": "cn-hangzhou"}),
        ("oss://bkt/dir/a.jpg", {"region": "cn-hangzhou", "endpoint": "http://127.0.0.1:8099"}),
        ("http://img.example.com/x y.jpg", {"region": "cn-hangzhou", "domain": "img.example.com", "bucket": "bkt"}),
    ],
)
def test_the_signature_holds_on_the_wire(value, options, signature):
    """The server finds bucket and key from the same URL and accepts it; a token is signed too."""
    provider = OssLabels(credentials=KEYS, signature=signature, threshold=5, **options)
    call = next(provider.exchange([Image("k", value)], {}))
    signed = provider.sign(call.request, MOMENT)
    target = find_object(value, Place(provider.endpoint, provider.region, provider.domain, provider.bucket))
    raw = "&".join(f"{name}={quote(text, safe='')}" for name, text in signed.query)
    headers = {name.lower(): text for name, text in signed.headers}
    verify = oss_v1.verify if signature == "v1" else oss_v4.verify
    found = verify("GET", "bkt", target.key, raw, headers, secret_of={"key-id": "secret-canary"}.get, now=MOMENT.now)
    assert found is not None
    assert found.error is None
    assert headers["x-oss-security-token"] == "token-canary"
    assert urlsplit(signed.url).query == ""


def test_an_answer_sorts_by_confidence_and_keeps_parents_first():
    """Their order is not promised; equal ones stay in order."""
    provider = OssTagimage(credentials=KEYS)
    exchange = provider.exchange([Image("k", HANGZHOU + "a.jpg")], {})
    tags = [
        {"TagName": "c", "TagConfidence": "0.25"},
        {"TagName": "a", "TagScore": 0.5, "TagLevel": "1", "ParentTagName": "", "ParentTagId": "0", "TagId": 7},
        {"TagName": "b", "TagScore": 0.5, "TagLevel": 2, "ParentTagName": "a", "ParentTagId": "7", "CentricScore": "1"},
    ]
    reply = Reply(200, {"x-oss-request-id": "o"}, json.dumps({"RequestId": "i", "Tags": tags}).encode())
    provider.check(next(exchange), reply)
    with pytest.raises(StopIteration) as done:
        exchange.send(reply)
    (answer,) = done.value.value
    assert isinstance(answer, Answer)
    assert [(tag.name, tag.parent, tag.level, tag.tag_id) for tag in answer.tags] == [
        ("a", None, 1, "7"),
        ("b", "a", 2, None),
        ("c", None, None, None),
    ]
    assert answer.tags[1].extra == {"ParentTagId": "7", "CentricScore": 1.0}
    assert answer.request_id == "i o"


def test_quota_and_identity():
    """Per account and region, without a published figure; the default threshold is that threshold given."""
    provider = OssLabels(credentials=KEYS, region="cn-hangzhou")
    assert (provider.quota.key, provider.quota.qps) == (f"oss_labels:cn-hangzhou:{KEYS.account}", None)
    assert provider.identity() == OssLabels(credentials=KEYS, threshold=70).identity()
    assert provider.identity() != OssLabels(credentials=KEYS, threshold=0).identity()
    assert provider.price is None
    assert provider.concurrency == 10


@pytest.mark.parametrize("kind", [OssLabels, OssTagimage])
def test_the_region_of_the_images_host_is_signed_for_at_a_foreign_endpoint(kind):
    """The endpoint does not tell the region, and none is given: that of the reference counts."""
    provider = kind(credentials=KEYS, endpoint="http://127.0.0.1:8099")
    step = next(provider.exchange([Image("k", "https://bucket.oss-cn-hangzhou.aliyuncs.com/a.jpg")], {}))
    signed = provider.sign(step.request, MOMENT)
    assert "/cn-hangzhou/oss/" in dict(signed.headers)["Authorization"]
