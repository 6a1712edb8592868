"""Which references are the same image: a table of pairs, and what holds for all of them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imgtag_pipeline.model import Request
from imgtag_pipeline.providers import Keys, Local, OssLabels, OssTagimage, TencentV2, Viapi, get
from imgtag_pipeline.transport.wire import url_of
from imgtag_pipeline.urls import ascii_url, image_key, is_signed, normal_url, unsigned_url

OSS = "https://pictures.oss-cn-hangzhou.aliyuncs.com/"
V1 = "OSSAccessKeyId=LTAI5tExampleKeyId0001&Expires=1800000000&Signature=b%2Fsm7Xk0mOY4m5W1cbJx0Z0Fp1c%3D"
V4 = (
    "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-credential=LTAI%2F20260101%2Fcn-hangzhou%2Foss%2Faliyun_v4_request"
    "&x-oss-date=20260101T000000Z&x-oss-expires=600&x-oss-signature=" + "0a" * 32
)
H = "http://h.example/"

SAME = [
    (H + "图.jpg", H + "%E5%9B%BE.jpg"),
    (H + "图.jpg", H + "%e5%9b%be.jpg"),
    (H + "a b.jpg", H + "a%20b.jpg"),
    (H + "%E5%9B%BE", H + "%e5%9B%bE"),
    (H + "%7Eme/a.jpg", H + "~me/a.jpg"),
    (H + "%61.jpg", H + "a.jpg"),
    (H + "a%2Ejpg", H + "a.jpg"),
    (H + "a%2D%5F.jpg", H + "a-_.jpg"),
    (H + "a.jpg#1", H + "a.jpg#2"),
    (H + "a.jpg#", H + "a.jpg"),
    (H + "a.jpg?w=1#x?y", H + "a.jpg?w=1"),
    ("HTTP://h.example/a.jpg", H + "a.jpg"),
    ("hTTps://h.example/a.jpg", "https://h.example/a.jpg"),
    ("http://H.EXAMPLE/a.jpg", H + "a.jpg"),
    ("http://h.example:80/a.jpg", H + "a.jpg"),
    ("http://h.example:/a.jpg", H + "a.jpg"),
    ("http://h.example:080/a.jpg", H + "a.jpg"),
    ("https://h.example:443/a.jpg", "https://h.example/a.jpg"),
    (H + "x/../d.jpg", H + "d.jpg"),
    (H + "./d.jpg", H + "d.jpg"),
    (H + "x/./d.jpg", H + "x/d.jpg"),
    (H + "../../d.jpg", H + "d.jpg"),
    (H + "x/%2E%2e/d.jpg", H + "d.jpg"),
    (H + "x/y/..", H + "x/"),
    (H + "x/.", H + "x/"),
    (H + "a.jpg?", H + "a.jpg"),
    (H + "a.jpg?#", H + "a.jpg"),
    ("http://h.example", H),
    ("http://h.example?w=1", H + "?w=1"),
    (H + "50%off.jpg", H + "50%25off.jpg"),
    (H + "a%", H + "a%25"),
    (H + "a%zz%4", H + "a%25zz%254"),
    (H + "a.jpg?q=%7e&n=图", H + "a.jpg?q=~&n=%E5%9B%BE"),
    (H + "a.jpg?q=a b", H + "a.jpg?q=a%20b"),
    (H + 'a"b<c>.jpg', H + "a%22b%3Cc%3E.jpg"),
    (H + "a|b\\c^d`e{f}.jpg", H + "a%7Cb%5Cc%5Ed%60e%7Bf%7D.jpg"),
    ("http://例え.jp/a.jpg", "http://xn--r8jz45g.jp/a.jpg"),
    ("http://%E4%BE%8B%E3%81%88.jp/a.jpg", "http://xn--r8jz45g.jp/a.jpg"),
    ("http://XN--R8JZ45G.jp/a.jpg", "http://例え.jp/a.jpg"),
    ("http://%68.example/a.jpg", H + "a.jpg"),
    ("http://BÜCHER.example/a.jpg", "http://bücher.example/a.jpg"),
    ("http://[2001:DB8::1]:80/a.jpg", "http://[2001:db8::1]/a.jpg"),
    ("http://u:p@h.example/a.jpg", H + "a.jpg"),
    (f"{OSS}a.jpg", "oss://pictures/a.jpg"),
    (f"{OSS}a.jpg", "http://pictures.oss-cn-hangzhou.aliyuncs.com/a.jpg"),
    (f"{OSS}a.jpg", "https://pictures.oss-cn-hangzhou-internal.aliyuncs.com/a.jpg"),
    (f"{OSS}a.jpg", "https://pictures.oss-accelerate.aliyuncs.com/a.jpg"),
    (f"{OSS}a.jpg", "https://pictures.oss-accelerate-overseas.aliyuncs.com/a.jpg"),
    (f"{OSS}a.jpg", "https://oss-cn-hangzhou.aliyuncs.com/pictures/a.jpg"),
    (f"{OSS}a.jpg", f"{OSS}a.jpg?{V1}"),
    (f"{OSS}a.jpg?{V1}", f"{OSS}a.jpg?{V4}"),
    (f"{OSS}a%20b/%E5%9B%BE.jpg", "oss://pictures/a b/图.jpg"),
    (f"{OSS}a%2Bb.jpg", "oss://pictures/a+b.jpg"),
    (f"{OSS}a.jpg?versionId=7", "oss://pictures/a.jpg?versionId=7"),
    (f"{OSS}a.jpg?versionId=7&{V4}", "oss://pictures/a.jpg?versionId=7"),
    (f"{OSS}a.jpg?x-oss-process=image/resize,w_1&{V1}", f"{OSS}a.jpg?{V4}&x-oss-process=image/resize,w_1"),
    ("OSS://pictures/a.jpg", "oss://pictures/a.jpg"),
    ("/data/a.jpg", "/data/./x/../a.jpg"),
    ("/data/a b.jpg", "file:///data/a%20b.jpg"),
    ("/data/a.jpg", "file:/data/a.jpg"),
    ("/data/a.jpg", "FILE://localhost/data/a.jpg"),
    ("/data/图.jpg", "file:///data/%e5%9b%be.jpg"),
    ("DATA:,x", "data:,x"),
    ("S3://bucket/a", "s3://bucket/a"),
]
DIFFERENT = [
    (H + "a+b.jpg", H + "a%2Bb.jpg"),
    (H + "a+b.jpg", H + "a%20b.jpg"),
    (H + "caf\u00e9.jpg", H + "cafe\u0301.jpg"),
    (H + "a.jpg?x=1&y=2", H + "a.jpg?y=2&x=1"),
    (H + "a%2Fb.jpg", H + "a/b.jpg"),
    (H + "a%252Fb.jpg", H + "a%2Fb.jpg"),
    (H + "a.jpg", H + "A.jpg"),
    (H + "a.jpg", H + "a.jpg/"),
    (H + "x//a.jpg", H + "x/a.jpg"),
    (H + "a.jpg", "https://h.example/a.jpg"),
    (H + "a.jpg", "http://h.example:8080/a.jpg"),
    ("http://h.example:443/a.jpg", H + "a.jpg"),
    (H + "a.jpg", "http://h.example./a.jpg"),
    (H + "a.jpg", H + "a.jpg?x"),
    (H + "a.jpg?x", H + "a.jpg?x="),
    (H + "a.jpg?a%26b=1", H + "a.jpg?a&b=1"),
    (H + "a%3Fw=1", H + "a?w=1"),
    (H + "a%23b", H + "a#b"),
    (H + "?e=5&token=IMAGE1", H + "?e=5&token=IMAGE2"),
    (H + "?auth_key=cat", H + "?auth_key=dog"),
    (H + "?_upt=cat", H + "?_upt=dog"),
    (H + "?sig=1&sv=2", H + "?sig=2&sv=2"),
    (H + "?keyname=a&signature=1", H + "?keyname=a&signature=2"),
    (H + "?accesskeyid=a&signature=1", H + "?accesskeyid=a&signature=2"),
    (H + "?policy=p&signature=1&key-pair-id=k", H + "?policy=p&signature=2&key-pair-id=k"),
    (f"{OSS}a.jpg", f"{OSS}a.jpg?x-oss-process=image/resize,w_1"),
    (f"{OSS}a.jpg?versionId=7", f"{OSS}a.jpg?versionId=8"),
    (f"{OSS}a.jpg?versionId=7", f"{OSS}a.jpg"),
    (f"{OSS}a.jpg", OSS.replace("pictures", "others") + "a.jpg"),
    (f"{OSS}a.jpg", "https://pictures.oss-cn-hangzhou.aliyuncs.com.evil.example/a.jpg"),
    ("oss://pictures/a%20b", "oss://pictures/a b"),
    ("oss://pictures/a.jpg#1", "oss://pictures/a.jpg#2"),
    ("/data/a.jpg?1", "/data/a.jpg?2"),
    ("/data/a.jpg#1", "/data/a.jpg#2"),
    ("/data/a%20b.jpg", "/data/a b.jpg"),
    ("/data/a.jpg", "/data/b/a.jpg"),
    ("data:,x", "data:,y"),
    ("s3://bucket/a", "s3://bucket/A"),
    ("s3://bucket/a%20b", "s3://bucket/a b"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_same_image(one: str, other: str) -> None:
    """References that lead to the same request, object or file have one key."""
    assert image_key(one) == image_key(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_images(one: str, other: str) -> None:
    """What is different on the wire, or on the disk, stays different."""
    assert image_key(one) != image_key(other)


def test_the_table_is_large_enough() -> None:
    """At least sixty pairs, and every provider of URLs agrees with it."""
    assert len(SAME) + len(DIFFERENT) >= 100
    for provider in (Local(), Viapi(action="TaggingImage"), TencentV2()):
        assert all(provider.key(one) == image_key(one) for one, _ in SAME)


@pytest.mark.parametrize("provider", [OssLabels(region="cn-hangzhou"), OssTagimage(region="cn-hangzhou")])
def test_an_object_is_one_image_to_the_calls_of_oss(provider: OssLabels | OssTagimage) -> None:
    """They ask about the object: its process counts for nothing, its version does."""
    key = "oss://pictures/a/图 1+.jpg"
    path = "a/%e5%9b%be%201%2b.jpg"
    for host in (
        *("pictures.oss-cn-hangzhou", "PICTURES.oss-cn-hangzhou-internal", "pictures.oss-accelerate"),
        "oss-cn-hangzhou",
    ):
        way = f"pictures/{path}" if host.startswith("oss") else path
        for query in ("", "?", f"?{V1}", "?x-oss-process=image/resize,w_9", f"?{V4}&x-oss-process=style/a", "#x"):
            assert provider.key(f"http://{host}.aliyuncs.com/{way}{query}") == key
    assert provider.key(key) == key
    assert provider.key(f"{OSS}{path}?x-oss-process=style/a&versionId=7") == f"{key}?versionId=7"
    assert provider.key(f"{key}?versionId=7") == f"{key}?versionId=7"
    assert provider.key(f"{OSS}other.jpg") == "oss://pictures/other.jpg"


def test_own_domain_and_endpoint_lead_to_the_object() -> None:
    """A custom domain's URLs are objects of its bucket."""
    own = OssLabels(region="cn-hangzhou", domain="img.example.com", bucket="pictures")
    assert own.key("https://IMG.example.com/a.jpg?x-oss-process=style/a") == "oss://pictures/a.jpg"
    near = OssLabels(endpoint="http://127.0.0.1:8099", region="cn-hangzhou")
    assert near.key("http://127.0.0.1:8099/pictures/a%20b.jpg") == "oss://pictures/a b.jpg"
    assert near.key("http://127.0.0.1:8098/pictures/a.jpg") == "http://127.0.0.1:8098/pictures/a.jpg"


# --- what holds for all -----------------------------------------------------------------------------------------

PIECES = [
    *("http://", "HTTPS://", "h.example", "H.", ":80", ":443", ":x", "u:p@", "@", "[::1]", "例え", "%E4%BE%8B"),
    *("/", "//", "/.", "/..", "/../", "/./", "%2e", "%2E%2E", "a", "~", "%7e", "%41", "%", "%%", "%2", "%25", "%2525"),
    *("图", "%e5%9b%be", "\u0301", " ", "+", "%2b", "?", "&", "=", "#", "?w=1", "e=1800000000", "\\", "\ud800", "\n"),
    *("oss://", "pictures", ".oss-cn-hangzhou.aliyuncs.com/", "?versionId=", "?versionId=1", "u=http%3A%2F%2F", "::"),
    *("&" + V1, "&" + V4, "amp;", "file:///", "?size=1&mtime=2", "data:", "~/"),
]
TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
URLS = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: "http://h.example/" + "".join(parts))


@given(TEXTS | URLS)
@example("http://h?x=%253Fa")
@example("HTTP://::")
@example("~\ud800")
@example("file:///\ud800")
@example("~a\0b")
@example("http://h:80:80/")
def test_normalising_twice_changes_nothing(text: str) -> None:
    """The key of a key is the key, of any text."""
    once = image_key(text)
    assert image_key(once) == once
    assert normal_url(normal_url(text)) == normal_url(text)


@given(TEXTS | URLS)
def test_keys_of_the_calls_of_oss_are_stable_too(text: str) -> None:
    """Whatever stands in a cell."""
    provider = OssLabels(region="cn-hangzhou", domain="img.example.com", bucket="pictures")
    once = provider.key(text)
    assert provider.key(once) == once


@given(URLS)
def test_the_normal_spelling_leads_to_the_same_request(text: str) -> None:
    """What is sent for a URL is what is sent for its normal spelling; one that is signed is sent as it was signed."""
    if is_signed(text):
        return
    assert ascii_url(normal_url(text)) == ascii_url(text)
    try:
        sent = url_of(Request("GET", text))
    except ValueError:
        return
    again = url_of(Request("GET", normal_url(text)))
    assert (again.raw_path_qs, again.raw_host, again.port) == (sent.raw_path_qs, sent.raw_host, sent.port)


@given(URLS, URLS)
def test_one_key_means_one_request(one: str, other: str) -> None:
    """Never are two different requests one image (signatures and user info aside)."""
    if image_key(one) == image_key(other) and image_key(one).startswith("http"):
        assert ascii_url(normal_url(unsigned_url(normal_url(one)))) == ascii_url(
            normal_url(unsigned_url(normal_url(other)))
        )


def test_signed_urls_are_sent_as_they_were_signed() -> None:
    """A signature may be over the path as it was written."""
    url = f"http://h.example/%e5%7e/x/../a.jpg?{V1}"
    assert ascii_url(url) == url
    assert ascii_url(f"http://h.example/50%off 图.jpg?{V1}#x") == f"http://h.example/50%25off%20%E5%9B%BE.jpg?{V1}"


# --- files of this machine --------------------------------------------------------------------------------------


def test_a_relative_path_is_another_image_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders, two files of one name."""
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.img").write_bytes(b"same")
        os.utime(tmp_path / name / "a.img", (1, 1))
        monkeypatch.chdir(tmp_path / name)
        keys.add(image_key("a.img"))
        assert (
            image_key("a.img")
            == image_key(f"{tmp_path}/{name}/./a.img")
            == image_key(f"file://{tmp_path}/{name}/a.img")
        )
    assert len(keys) == 2


def test_a_replaced_file_is_another_image(tmp_path: Path) -> None:
    """Other size, or other time of change."""
    path = tmp_path / "a.img"
    path.write_bytes(b"one")
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    first = image_key(str(path))
    assert image_key(first) == first
    path.write_bytes(b"three")
    os.utime(path, ns=(0, 1_700_000_000_000_000_000))
    second = image_key(str(path))
    os.utime(path, ns=(0, 1_700_000_000_000_001_000))
    assert len({first, second, image_key(str(path))}) == 3


def test_the_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~/a.jpg` is the file that a shell takes it for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"x")
    assert image_key("~/a.jpg") == image_key(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    "query",
    [
        "OSSAccessKeyId=LTAIcanary&Expires=1999999999&Signature=canary",
        "x-oss-signature=canary&x-oss-credential=c&x-oss-security-token=canary",
        "sign=q-sign-algorithm%3Dsha1%26q-ak%3Da%26q-signature%3Dcanary",
    ],
)
@pytest.mark.parametrize("host", ["oss://bucket/", "https://bucket.oss-cn-hangzhou.aliyuncs.com/"])
def test_an_object_that_is_named_like_a_signed_url_keeps_no_signature(host, query):
    """Whoever signs an oss:// reference by mistake finds no secret in the store."""
    provider = get("oss_labels", region="cn-hangzhou", credentials=Keys("a", "b"))
    name = f"0.jpg?{query}" if host.startswith("oss") else "0.jpg" + quote(f"?{query}", safe="")
    for key in (provider.key(host + name), image_key(host + name)):
        assert "canary" not in key
        assert provider.key(key) == key
