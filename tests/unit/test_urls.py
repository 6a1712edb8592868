"""The key of an image's URL, and what is taken out of everything that is printed."""

from __future__ import annotations

import random
import string
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtag_pipeline.core.signing import oss_v1, oss_v4
from imgtag_pipeline.urls import ascii_url, redact, unsigned_url

CANARY = "CANARYab12cd34"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIGNER = {"access_key_id": "emulator", "access_key_secret": "emulator", "security_token": None}

TOYS = {
    "oss v1": "https://b.oss-cn-hangzhou.aliyuncs.com/a.jpg?Expires={n}&OSSAccessKeyId={s}&Signature={s}",
    "oss v1 with a token": "https://b.oss.aliyuncs.com/a.jpg?OSSAccessKeyId={s}&Expires={n}&Signature={s}&security-token={s}",
    "oss v4": (
        "https://b.oss.aliyuncs.com/a.jpg?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential={s}%2F20240101&"
        "x-oss-date={n}&x-oss-expires=60&x-oss-signature={s}"
    ),
    "cos": (
        "https://b-1.cos.ap-guangzhou.myqcloud.com/a.jpg?q-sign-algorithm=sha1&q-ak={s}&q-sign-time={n}%3B{n}&"
        "q-key-time={n}%3B{n}&q-header-list=host&q-url-param-list=&q-signature={s}&x-cos-security-token={s}"
    ),
    "cos in one parameter": (
        "https://b-1.cos.ap-guangzhou.myqcloud.com/a.jpg?sign=q-sign-algorithm%3Dsha1%26q-ak%3D{s}%26q-sign-time%3D{n}"
        "%3B{n}%26q-key-time%3D{n}%3B{n}%26q-header-list%3D%26q-url-param-list%3D%26q-signature%3D{s}"
        "&x-cos-security-token={s}"
    ),
    "cos in one parameter, escaped twice": (
        "https://b-1.cos.ap-guangzhou.myqcloud.com/a.jpg?sign=q-sign-algorithm%253Dsha1%2526q-signature%253D{s}"
    ),
    "cos of the older API": (
        "https://b-1.file.myqcloud.com/a.jpg?sign={s}{s}{s}{s}{s}{s}{s}{s}%2BzYT0xMjUwMDAwMDAwJms9QUtJRCZlPTE%3D"
    ),
    "tencent cdn, type A": "https://img.example.com/a.jpg?sign={n}-xyz-0-d41d8cd98f00b204e9800998ecf8427e",
    "tencent cdn, type D": "https://img.example.com/a.jpg?sign=d41d8cd98f00b204e9800998ecf8427e&t={n}",
    "oss v1 with limits": (
        "https://b.oss.aliyuncs.com/a.jpg?OSSAccessKeyId={s}&Expires={n}&Signature={s}&x-oss-ac-source-ip={s}&"
        "x-oss-ac-subnet-mask=32&x-oss-ac-vpc-id=v&x-oss-ac-forward-allow=false"
    ),
    "oss v2": (
        "https://b.oss.aliyuncs.com/a.jpg?x-oss-signature-version=OSS2&x-oss-expires={n}&x-oss-access-key-id={s}&"
        "x-oss-additional-headers=host&x-oss-signature={s}"
    ),
    "aws v4 of a directory bucket": (
        "https://b.s3express-use1-az4.us-east-1.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={n}&"
        "X-Amz-Credential={s}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={s}&"
        "X-Amz-S3session-Token={s}&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
    ),
    "google cdn": "https://img.example.com/a.jpg?Expires={n}&KeyName={s}&Signature={s}",
    "google cdn of a prefix": "https://img.example.com/a.jpg?URLPrefix={s}&Expires={n}&KeyName={s}&Signature={s}",
    "azure by delegation": (
        "https://a.blob.core.windows.net/c/a.jpg?sv=2022-11-02&skoid={s}&sktid={s}&skt={n}&ske={n}&sks=b&skv=2022-11-02"
        "&saoid={s}&suoid={s}&scid={s}&sdd=2&st={n}&se={n}&sr=d&sp=r&spr=https&sip={n}&ses=e&sig={s}"
    ),
    "azure account": "https://a.blob.core.windows.net/c/a.jpg?sv=2022-11-02&ss=b&srt=o&sp=r&se={n}&sig={s}",
    "baidu": (
        "https://b.bj.bcebos.com/a.jpg?authorization=bce-auth-v1%2F{s}%2F{n}%2F1800%2Fhost%2F{s}&"
        "x-bce-security-token={s}"
    ),
    "kingsoft": "https://b.ks3-cn-beijing.ksyuncs.com/a.jpg?KSSAccessKeyId={s}&Expires={n}&Signature={s}",
    "netease": "https://b.nos-eastchina1.126.net/a.jpg?NOSAccessKeyId={s}&Expires={n}&Signature={s}",
    "ucloud": "https://b.cn-bj.ufileos.com/a.jpg?UCloudPublicKey={s}&Expires={n}&Signature={s}",
    "upyun": "https://img.example.com/a.jpg?_upt={s}{n}",
    "copied out of HTML": "https://b.oss.aliyuncs.com/a.jpg?OSSAccessKeyId={s}&amp;Expires={n}&amp;Signature={s}",
    "aws v4": (
        "https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={s}&X-Amz-Date={n}&"
        "X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={s}&X-Amz-Security-Token={s}"
    ),
    "aws v2": "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId={s}&Expires={n}&Signature={s}",
    "gcs v4": (
        "https://storage.googleapis.com/b/a.jpg?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential={s}&"
        "X-Goog-Date={n}&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature={s}"
    ),
    "gcs v2": "https://storage.googleapis.com/b/a.jpg?GoogleAccessId={s}&Expires={n}&Signature={s}",
    "cloudfront": "https://d1.cloudfront.net/a.jpg?Expires={n}&Signature={s}&Key-Pair-Id={s}",
    "cloudfront with a policy": "https://d1.cloudfront.net/a.jpg?Policy={s}&Signature={s}&Key-Pair-Id={s}",
    "azure": "https://a.blob.core.windows.net/c/a.jpg?sv=2022-11-02&st={n}&se={n}&sr=b&sp=r&sig={s}%3D",
    "huawei": "https://b.obs.cn-north-4.myhuaweicloud.com/a.jpg?AccessKeyId={s}&Expires={n}&Signature={s}",
    "volcengine": "https://b.tos-cn-beijing.volces.com/a.jpg?X-Tos-Credential={s}&X-Tos-Date={n}&X-Tos-Signature={s}",
    "qiniu": "https://cdn.example.com/a.jpg?e={n}&token={s}:{s}=",
    "aliyun cdn": "https://cdn.example.com/a.jpg?auth_key={n}-0-0-{s}",
    "user info": "https://{s}:{s}@example.com/a.jpg",
}


# {k} a key's id, {n} seconds, {d} a date, {h40} {h64} {md5} hexadecimal, {b20} {b32} {b256} base64 of so many bytes.
SIGNED = {
    "oss v1": "https://b.oss-cn-hangzhou.aliyuncs.com/a.jpg?Expires={n}&OSSAccessKeyId={k}&Signature={b20}",
    "oss v1 with a token": "https://b.oss.aliyuncs.com/a.jpg?OSSAccessKeyId=STS.{k}&Expires={n}&Signature={b20}&security-token={k}",
    "oss v1 with limits": (
        "https://b.oss.aliyuncs.com/a.jpg?OSSAccessKeyId={k}&Expires={n}&Signature={b20}&x-oss-ac-source-ip=1.2.3.4&"
        "x-oss-ac-subnet-mask=32&x-oss-ac-vpc-id=v&x-oss-ac-forward-allow=false"
    ),
    "oss v2": (
        "https://b.oss.aliyuncs.com/a.jpg?x-oss-signature-version=OSS2&x-oss-expires={n}&x-oss-access-key-id={k}&"
        "x-oss-additional-headers=host&x-oss-signature={b32}"
    ),
    "oss v4": (
        "https://b.oss.aliyuncs.com/a.jpg?x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential={k}%2F20240101&"
        "x-oss-date={d}&x-oss-expires=60&x-oss-signature={h64}"
    ),
    "cos": (
        "https://b-1.cos.ap-guangzhou.myqcloud.com/a.jpg?q-sign-algorithm=sha1&q-ak={k}&q-sign-time={n}%3B{n}&"
        "q-key-time={n}%3B{n}&q-header-list=host&q-url-param-list=&q-signature={h40}&x-cos-security-token={k}"
    ),
    "cos in one parameter": (
        "https://b-1.cos.ap-guangzhou.myqcloud.com/a.jpg?sign=q-sign-algorithm%3Dsha1%26q-ak%3D{k}%26q-sign-time%3D{n}"
        "%3B{n}%26q-key-time%3D{n}%3B{n}%26q-header-list%3D%26q-url-param-list%3D%26q-signature%3D{h40}"
        "&x-cos-security-token={k}"
    ),
    "cos in one parameter, escaped twice": (
        "https://b-1.cos.ap-guangzhou.myqcloud.com/a.jpg?sign=q-sign-algorithm%253Dsha1%2526q-signature%253D{h40}"
    ),
    "cos of the older API": "https://b-1.file.myqcloud.com/a.jpg?sign={old}",
    "tencent cdn, type A": "https://img.example.com/a.jpg?sign={n}-xyz-0-{md5}",
    "tencent cdn, type D": "https://img.example.com/a.jpg?sign={md5}&t={n}",
    "aws v4": (
        "https://b.s3.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={k}&X-Amz-Date={d}&"
        "X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={h64}&X-Amz-Security-Token={k}"
    ),
    "aws v4 of a directory bucket": (
        "https://b.s3express-use1-az4.us-east-1.amazonaws.com/a.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date={d}&"
        "X-Amz-Credential={k}&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature={h64}&"
        "X-Amz-S3session-Token={k}&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD"
    ),
    "aws v2": "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId={k}&Expires={n}&Signature={b20}",
    "google cdn": "https://img.example.com/a.jpg?Expires={n}&KeyName=my-key&Signature={b20}",
    "google cdn of a prefix": "https://img.example.com/a.jpg?URLPrefix=aHR0cHM&Expires={n}&KeyName=my-key&Signature={b20}",
    "gcs v4": (
        "https://storage.googleapis.com/b/a.jpg?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential={k}&"
        "X-Goog-Date={d}&X-Goog-Expires=60&X-Goog-SignedHeaders=host&X-Goog-Signature={h256}"
    ),
    "gcs v2": (
        "https://storage.googleapis.com/b/a.jpg?GoogleAccessId=me@p.iam.gserviceaccount.com&Expires={n}&Signature={b256}"
    ),
    "azure": "https://a.blob.core.windows.net/c/a.jpg?sv=2022-11-02&st={n}&se={n}&sr=b&sp=r&sig={b32}",
    "azure by delegation": (
        "https://a.blob.core.windows.net/c/a.jpg?sv=2022-11-02&skoid={k}&sktid={k}&skt={n}&ske={n}&sks=b&skv=2022-11-02"
        "&saoid={k}&suoid={k}&scid={k}&sdd=2&st={n}&se={n}&sr=d&sp=r&spr=https&sip={n}&ses=e&sig={b32}"
    ),
    "azure account": "https://a.blob.core.windows.net/c/a.jpg?sv=2022-11-02&ss=b&srt=o&sp=r&se={n}&sig={b32}",
    "cloudfront": "https://d1.cloudfront.net/a.jpg?Expires={n}&Signature={cf}&Key-Pair-Id=K{k}",
    "cloudfront with a policy": "https://d1.cloudfront.net/a.jpg?Policy={cf}&Signature={cf}&Key-Pair-Id=K{k}",
    "huawei": "https://b.obs.cn-north-4.myhuaweicloud.com/a.jpg?AccessKeyId={k}&Expires={n}&Signature={b20}",
    "volcengine": "https://b.tos-cn-beijing.volces.com/a.jpg?X-Tos-Credential={k}&X-Tos-Date={d}&X-Tos-Signature={h64}",
    "baidu": (
        "https://b.bj.bcebos.com/a.jpg?authorization=bce-auth-v1%2F{k}%2F2024-01-01T00%3A00%3A00Z%2F1800%2Fhost%2F{h64}&"
        "x-bce-security-token={k}"
    ),
    "kingsoft": "https://b.ks3-cn-beijing.ksyuncs.com/a.jpg?KSSAccessKeyId={k}&Expires={n}&Signature={b20}",
    "netease": "https://b.nos-eastchina1.126.net/a.jpg?NOSAccessKeyId={k}&Expires={n}&Signature={b32}",
    "ucloud": "https://b.cn-bj.ufileos.com/a.jpg?UCloudPublicKey={k}&Expires={n}&Signature={b20}",
    "qiniu": "https://cdn.example.com/a.jpg?e={n}&token={k}:{b20}",
    "upyun": "https://img.example.com/a.jpg?_upt={upt}{n}",
    "aliyun cdn": "https://cdn.example.com/a.jpg?auth_key={n}-0-0-{md5}",
    "copied out of HTML": "https://b.oss.aliyuncs.com/a.jpg?OSSAccessKeyId={k}&amp;Expires={n}&amp;Signature={b20}",
    "user info": "https://{k}:{h40}@example.com/a.jpg",
}


def real(template: str, seed: int) -> str:
    """The template signed with what a signer may have made: every part is of its vendor's form."""
    noise = random.Random(seed)

    def base64(count: int) -> str:
        return quote(b64encode(noise.randbytes(count)).decode(), safe="")

    key = "".join(noise.choices(string.ascii_uppercase + string.digits, k=20))
    old = noise.randbytes(20) + f"a=1250000000&b=b&k=AKID{key}&e={seed + 10**9}&t={10**9}&r=7&f=".encode()
    return template.format(
        k=key,
        n=1_700_000_000 + seed % 10**8,
        d=f"20240101T{seed % 10**6:06d}Z",
        h40=noise.randbytes(20).hex(),
        h64=noise.randbytes(32).hex(),
        h256=noise.randbytes(256).hex(),
        md5=noise.randbytes(16).hex(),
        upt=noise.randbytes(4).hex(),
        b20=base64(20),
        b32=base64(32),
        b256=base64(256),
        old=quote(b64encode(old).decode(), safe=""),
        cf=b64encode(noise.randbytes(256)).decode().translate(str.maketrans("+=/", "-_~")),
    )


@pytest.mark.parametrize("vendor", SIGNED)
@given(st.integers(0, 10**9), st.integers(0, 10**9))
@settings(max_examples=20, deadline=None)
def test_real_signatures_go(vendor: str, one: int, other: int) -> None:
    """Whatever bytes a signature comes to: signed anew, the URL is the one without its signature."""
    plain = SIGNED[vendor].partition("?")[0].replace("{k}:{h40}@", "")
    assert unsigned_url(real(SIGNED[vendor], one)) == plain
    assert unsigned_url(real(SIGNED[vendor], other).replace("%2B", "+")) == plain


IDS = st.one_of(
    st.integers(0, 10**9).map(str),
    st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=20),
    st.sampled_from(["IMAGE1", "cat", "2024-01-01", "4f9c1a", "uuid-1", "a:b", "1-2-3-4"]),
)


@pytest.mark.parametrize("vendor", sorted(set(SIGNED) - {"user info"}))
@given(IDS, IDS, st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_random_ids_stay(vendor: str, one: str, other: str, seed: int) -> None:
    """Under a signature's names, what is no signature may say which image it is."""
    name = MAIN[vendor]
    head, _, query = real(SIGNED[vendor], seed).partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]

    def named(value: str) -> str:
        return f"{head}?" + "&".join(
            had + equals + (value if had.removeprefix("amp;").lower() == name else old) for had, equals, old in pairs
        )

    if vendor in ("tencent cdn, type A", "tencent cdn, type D", "google cdn", "qiniu", "upyun", "aliyun cdn", "huawei"):
        assert unsigned_url(named(one)) == named(one)
    assert (unsigned_url(named(one)) == unsigned_url(named(other))) == (one == other)


# The parameter of each vendor that holds the signature.
MAIN = {
    "oss v2": "x-oss-signature",
    "oss v4": "x-oss-signature",
    "cos": "q-signature",
    **dict.fromkeys((name for name in SIGNED if name.startswith(("cos ", "tencent"))), "sign"),
    **dict.fromkeys((name for name in SIGNED if name.startswith("aws v4")), "x-amz-signature"),
    "gcs v4": "x-goog-signature",
    **dict.fromkeys((name for name in SIGNED if name.startswith("azure")), "sig"),
    "volcengine": "x-tos-signature",
    "baidu": "authorization",
    "qiniu": "token",
    "upyun": "_upt",
    "aliyun cdn": "auth_key",
}
MAIN.update({name: "signature" for name in SIGNED if name not in MAIN})


def test_signatures_of_our_own_signers_go() -> None:
    """What the signing code of this package makes is of the form."""
    for number in range(50):
        v1 = oss_v1.presign("GET", "b", "a.jpg", {}, {}, **SIGNER, now=NOW + timedelta(seconds=number), expires_in=60)
        v4 = oss_v4.presign(
            "GET", "b", "a.jpg", {}, {}, **SIGNER, region="cn-x", now=NOW + timedelta(seconds=number), expires_in=60
        )
        for query in (v1, v4):
            assert unsigned_url(f"http://h/a.jpg?{urlencode(query)}") == "http://h/a.jpg"


def test_a_signature_that_stands_twice_is_none() -> None:
    """Of two values one may say which image it is."""
    url = real(SIGNED["azure"], 1)
    keys = {unsigned_url(f"{url}&sig={number}") for number in range(9)}
    assert len(keys) == 9


def test_a_secret_of_unknown_form_is_kept_as_a_digest() -> None:
    """It may say which image it is, but it is not told."""
    one = unsigned_url(f"http://h/a.jpg?X-Amz-Signature={CANARY}1&w=1")
    other = unsigned_url(f"http://h/a.jpg?X-Amz-Signature={CANARY}2&w=1")
    assert one != other
    assert CANARY not in one
    assert unsigned_url(one) == one


def signed(template: str, attempt: int) -> str:
    return real(template, attempt)


@pytest.mark.parametrize("vendor", SIGNED)
def test_signed_anew_is_the_same_image(vendor: str) -> None:
    """A URL signed on Monday and again on Tuesday has one key, which is the URL without its signature."""
    template = SIGNED[vendor]
    plain = template.partition("?")[0].replace("{k}:{h40}@", "")
    assert unsigned_url(signed(template, 1)) == unsigned_url(signed(template, 2)) == plain


@pytest.mark.parametrize("vendor", SIGNED)
def test_letter_case_and_order_do_not_matter(vendor: str) -> None:
    """Signers order and spell their parameters as they like."""
    head, mark, query = signed(SIGNED[vendor], 1).partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    turned = "&".join(name.removeprefix("amp;").upper() + equals + value for name, equals, value in reversed(pairs))
    assert unsigned_url(head + mark + turned) == unsigned_url(signed(SIGNED[vendor], 1))


@pytest.mark.parametrize("vendor", sorted(set(SIGNED) - {"user info"}))
def test_what_is_not_the_signature_stays(vendor: str) -> None:
    """The process, the version and the caller's own parameters are part of which image it is, in their order."""
    head, _, query = signed(SIGNED[vendor], 1).partition("?")
    url = f"{head}?versionId=7&{query}&x-oss-process=image%2Fresize,w_10&empty=&v#top"
    assert unsigned_url(url) == f"{head}?versionId=7&x-oss-process=image%2Fresize,w_10&empty=&v#top"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.jpg",
        "https://example.com/a.jpg?",
        "https://example.com/a.jpg?&&",
        "https://example.com/a.jpg?expires=1&signature=x&token=y",
        "https://example.com/a.jpg?sig=2&se=north&sp=3",
        "https://example.com/a.jpg?e=1",
        "https://example.com/a.jpg?sign=aries",
        "https://example.com/a.jpg?sign=42&t=7",
        "https://example.com/a.jpg?sign=d41d8cd98f00b204e9800998ecf8427e",
        "https://example.com/a.jpg?authorization=none",
        "https://example.com/a.jpg?keyname=a&expires=1",
        "https://b.tos-cn-beijing.volces.com/a.jpg?x-tos-process=image%2Fresize,w_10",
        "https://b.bj.bcebos.com/a.jpg?x-bce-process=image%2Fresize,w_10",
        "https://b.cos.ap-guangzhou.myqcloud.com/a.jpg?imageMogr2/thumbnail/100x&ci-process=x",
        "https://proxy.example/?url=https%3A%2F%2Fh%2Fa.jpg%3Fw%3D1&h=2",
        "https://proxy.example/?url=https://h/a.jpg?w=1",
        "https://example.com/a.jpg?w=10&h=%20+%2B",
        "https://example.com/a.jpg#x?OSSAccessKeyId=1",
        "https://example.com/@user/a@b.jpg?to=a@b",
        "oss://bucket/dir/a b.jpg",
        "/data/a.jpg?sv=1",
        "C:\\pictures\\a@b.jpg",
        "",
        "?",
        "图.jpg",
    ],
)
def test_ordinary_url_is_its_own_key(url: str) -> None:
    """Nothing is normalised: parameters that only look like a signature, escapes and order stay."""
    assert unsigned_url(url) == url


STAYS = {
    "volcengine": "x-tos-process=image%2Fresize,w_10",
    "aws v4": "x-amz-checksum-mode=ENABLED",
    "gcs v4": "x-goog-user-project=p",
    "azure": "snapshot=2024-01-01T00:00:00Z",
    "baidu": "x-bce-process=image%2Fresize,w_10",
    "cos": "imageMogr2/thumbnail/100x",
    "cos in one parameter": "imageView2/1/w/400",
    "oss v1": "x-oss-traffic-limit=819200",
    "oss v4": "x-oss-process=image%2Fresize,w_10",
}


@pytest.mark.parametrize("vendor", STAYS)
def test_other_parameter_of_the_vendor_stays(vendor: str) -> None:
    """What the vendor is asked to do with the image makes it another image, whoever signed it."""
    head, _, query = signed(SIGNED[vendor], 1).partition("?")
    assert unsigned_url(f"{head}?{query}&{STAYS[vendor]}") == f"{head}?{STAYS[vendor]}"


@pytest.mark.parametrize("vendor", sorted(set(SIGNED) - {"user info", "copied out of HTML"}))
def test_signed_url_inside_a_url_loses_its_signature(vendor: str) -> None:
    """Image proxies take the image's own URL as a parameter: signed anew, it is the same image all the same."""
    keys = {
        unsigned_url(f"https://proxy.example/?w=10&url={quote(signed(SIGNED[vendor], attempt), safe='')}&h=%20+")
        for attempt in (1, 2)
    }
    plain = quote(SIGNED[vendor].partition("?")[0], safe="")
    assert keys == {f"https://proxy.example/?w=10&url={plain}&h=%20+"}


def test_url_nested_without_end_is_cut_short() -> None:
    """However often a URL stands in a URL, its key comes at once."""
    assert unsigned_url("http://h/?u=" * 50_000).startswith("http://h/?u=http")


def test_escaped_parameter_name_is_recognised() -> None:
    """A signer may escape the letters of a name."""
    url = real(SIGNED["oss v1"], 1).replace("OSS", "%4FSS").replace("ture", "tur%65")
    assert unsigned_url(url + "&v=3") == "https://b.oss-cn-hangzhou.aliyuncs.com/a.jpg?v=3"


PARTS = ["http://", "oss://", "u:p@", "@", "h", "/a.jpg", "?", "&", "=", "#", "%", ":", " ", "\n", "图", "\ud800"]
NAMES = [
    "?u=http%3A%2F%2F",
    "%3F",
    "%26",
    "%3D",
    "amp;",
    "sign",
    "sig",
    "sv",
    "e",
    "token",
    "Signature",
    "OSSAccessKeyId",
    "X-Amz-Signature",
    "x-amz-date",
    "AccessKeyId",
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PARTS + NAMES), max_size=14).map("".join))


@given(TEXTS)
def test_key_of_a_key_is_the_key(text: str) -> None:
    """Any text has a key, and asking for the key of a key changes nothing."""
    once = unsigned_url(text)
    assert unsigned_url(once) == once


@given(TEXTS)
def test_anything_can_be_redacted(text: str) -> None:
    """Redaction takes every text that an error may carry."""
    redact(text)


@given(TEXTS)
def test_ascii_form_is_ascii_and_stable(text: str) -> None:
    """Escaping is done once: what is ASCII already stays as it is."""
    once = ascii_url(text)
    assert once.isascii()
    assert ascii_url(once) == once


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://h/图.jpg?名=值", "https://h/%E5%9B%BE.jpg?%E5%90%8D=%E5%80%BC"),
        ("https://h/%E5%9B%BE.jpg?x=%2B+&y=a%20b", "https://h/%E5%9B%BE.jpg?x=%2B+&y=a%20b"),
        ("https://h/a b|c.jpg", "https://h/a%20b%7Cc.jpg"),
        ("https://例え.jp:8080/图", "https://xn--r8jz45g.jp:8080/%E5%9B%BE"),
        ("https://用户@例え.jp/", "https://%E7%94%A8%E6%88%B7@xn--r8jz45g.jp/"),
        ("图/a.jpg", "%E5%9B%BE/a.jpg"),
        ("https://h/50%off.jpg", "https://h/50%25off.jpg"),
        ("https://%E4%BE%8B%E3%81%88.jp/", "https://xn--r8jz45g.jp/"),
        ("HTTPS://H:443/x/../%e5%7e?#top", "https://h/%E5~"),
    ],
)
def test_ascii_form_escapes_once(url: str, expected: str) -> None:
    """Characters outside ASCII are escaped as UTF-8, host names as IDNA; what is escaped already stays."""
    assert ascii_url(url) == expected


def toy(template: str) -> str:
    return template.format(s=f"{CANARY}1", n=1_700_000_001)


SECRETS = {
    **{f"url: {vendor}": f"cannot read {toy(template)} now" for vendor, template in TOYS.items()},
    "authorization of OSS": f"Authorization: OSS {CANARY}:{CANARY}=",
    "authorization with fields": f"authorization=OSS4-HMAC-SHA256 Credential={CANARY}/x, Signature={CANARY}",
    "authorization bare": f"Authorization: {CANARY} {CANARY}",
    "header as a dict": f"{{'Authorization': 'ACS3-HMAC-SHA256 Credential={CANARY},Signature={CANARY}'}}",
    "header as a pair": f"[('Authorization', 'Bearer {CANARY}'), ('x-oss-security-token', '{CANARY}')]",
    "header as bytes": f"[(b'Authorization', b'{CANARY}')]",
    "query as pairs": f"(('Signature', '{CANARY}'), ('AccessKeyId', '{CANARY}'))",
    "JSON": f'{{"AccessKeySecret": "{CANARY}", "SecurityToken":"{CANARY}"}}',
    "JSON in JSON": f'"{{\\"Signature\\": \\"{CANARY}\\"}}"',
    "XML": f"<OSSAccessKeyId>{CANARY}</OSSAccessKeyId><SignatureProvided>{CANARY}</SignatureProvided>",
    "form": f"Action=TaggingImage&Signature={CANARY}%3D&SecurityToken={CANARY}",
    "bearer": f"token: Bearer {CANARY}",
    "escaped URL": f"ImageURL=https%3A%2F%2Fh%2Fa%3FExpires%3D1%26Signature%3D{CANARY}%26x%3D1",
    "twice escaped URL": f"ImageURL%3Dhttps%253A%252F%252Fh%253FSignature%253D{CANARY}%2526OSSAccessKeyId%253D{CANARY}",
    "URL in a URL": f"https://h/?u=https://u:{CANARY}@h/a",
    "assignment": f"secret_key={CANARY} password = {CANARY}",
}


@pytest.mark.parametrize("form", SECRETS)
def test_secret_is_taken_out(form: str) -> None:
    """In whatever notation a secret stands beside its name, it does not get through."""
    assert CANARY not in redact(SECRETS[form])


@pytest.mark.parametrize("form", SECRETS)
def test_redaction_twice_is_as_redaction_once(form: str) -> None:
    """Errors are redacted where they are made and again where they are written."""
    once = redact(SECRETS[form])
    assert redact(once) == once


@pytest.mark.parametrize(
    "text",
    [
        "the request id is 0F3A-11; the image https://h/a.jpg?x=1 is too large",
        "InvalidAccessKeyId.NotFound: specified access key is not found",
        "the signature does not match",
        "there is no file '/data/a@b?c#d.jpg'",
    ],
)
def test_ordinary_message_is_left_alone(text: str) -> None:
    """What holds no secret is said in full."""
    assert redact(text) == text
