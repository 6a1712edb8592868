"""The parts of the emulator's object storage: checksums, names, pages, ranges, conditions, processes, folders."""

import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from imgtag_pipeline.emulator.alibaba_oss.address import Address, operation, resolve
from imgtag_pipeline.emulator.alibaba_oss.codes import CODES, documented, error_body
from imgtag_pipeline.emulator.alibaba_oss.crc64 import crc64
from imgtag_pipeline.emulator.alibaba_oss.listing import page
from imgtag_pipeline.emulator.alibaba_oss.objects import ObjectStore, Stored, digest
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.alibaba_oss.read import check_conditions, selected
from imgtag_pipeline.emulator.alibaba_oss.tagging import is_billed, read_process
from imgtag_pipeline.emulator.alibaba_oss.xml import document, parse
from imgtag_pipeline.emulator.gateway import Refused

NOW = datetime(2023, 7, 21, 8, 44, 58, 123456, tzinfo=UTC)


def bitwise(data: bytes) -> int:
    register = 2**64 - 1
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = (register >> 1) ^ (0xC96C5795D7870F42 if register & 1 else 0)
    return register ^ (2**64 - 1)


def test_checksum_has_the_published_check_value():
    """CRC-64/XZ of "123456789" is the value of the catalogue."""
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 15, 16, 17, 24, 100, 1001])
def test_checksum_agrees_with_the_definition(size):
    """The fast checksum equals the one computed bit by bit, whatever the length."""
    data = os.urandom(size)
    assert crc64(data) == bitwise(data)


@pytest.mark.parametrize("size", [10, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 1_000_003])
def test_checksum_goes_on(size):
    """The checksum of a whole is that of its beginning, continued with the rest."""
    data = os.urandom(size)
    for cut in (0, 1, size // 3, size):
        assert crc64(data[cut:], crc64(data[:cut])) == crc64(data)


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("127.0.0.1", "/bkt/dir%2Fa%20b+c.jpg", Address("bkt", "dir/a b+c.jpg")),
        ("127.0.0.1", "/bkt/dir/%E7%9B%B8.jpg", Address("bkt", "dir/相.jpg")),
        ("localhost", "/bkt", Address("bkt", "")),
        ("localhost", "/", Address("", "")),
        ("bkt.oss-cn-hangzhou.aliyuncs.com", "/a%252Fb", Address("bkt", "a%2Fb", "cn-hangzhou")),
        ("bkt.oss-cn-hangzhou-internal.aliyuncs.com", "/a/b", Address("bkt", "a/b", "cn-hangzhou")),
        ("bkt.oss-accelerate.aliyuncs.com", "/a", Address("bkt", "a")),
        ("oss-cn-hangzhou.aliyuncs.com", "/bkt/a", Address("bkt", "a", "cn-hangzhou")),
        ("bkt.localhost", "/a", Address("bkt", "a")),
        ("img.example.com", "/dir/a", Address("pictures", "dir/a")),
    ],
)
def test_bucket_and_key_are_found_in_every_style(host, path, expected):
    """Virtual host, custom domain and path style name the same bucket and key; the path is decoded once."""
    assert resolve(host, path, {"img.example.com": "pictures"}) == expected


@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "expected"),
    [
        ("GET", "a", {}, {}, "GetObject"),
        ("GET", "a", {"x-oss-process": "imm/tagimage"}, {}, "Process"),
        ("GET", "", {"prefix": "x"}, {}, "ListObjects"),
        ("GET", "", {"list-type": "2", "prefix": "x"}, {}, "ListObjectsV2"),
        ("PUT", "a", {}, {"x-oss-copy-source": "/b/k"}, "CopyObject"),
        ("PUT", "a", {"partNumber": "1", "uploadId": "x"}, {}, "UploadPart"),
        ("PUT", "a", {"partNumber": "1", "uploadId": "x"}, {"x-oss-copy-source": "/b/k"}, "UploadPartCopy"),
        ("POST", "a", {"append": "", "position": "0"}, {}, "AppendObject"),
        ("POST", "", {"delete": ""}, {}, "DeleteMultipleObjects"),
        ("PUT", "", {"lifecycle": ""}, {}, None),
        ("PATCH", "a", {}, {}, None),
    ],
)
def test_operation_is_told_by_method_and_sub_resource(method, key, query, headers, expected):
    """What is asked is decided by the method, the sub-resource and whether there is a key; the rest is not played."""
    assert operation(method, Address("bkt", key), query, headers) == expected


KEYS = sorted(name.encode() for name in ["a", "b/1", "b/2", "b/c/3", "d", "é", "相/1"])


@pytest.mark.parametrize(
    ("prefix", "delimiter", "after", "limit", "keys", "prefixes", "marker"),
    [
        ("", "", "", 100, ("a", "b/1", "b/2", "b/c/3", "d", "é", "相/1"), (), None),
        ("", "/", "", 100, ("a", "d", "é"), ("b/", "相/"), None),
        ("b/", "/", "", 100, ("b/1", "b/2"), ("b/c/",), None),
        ("", "/", "", 2, ("a",), ("b/",), "b/"),
        ("", "/", "b/", 2, ("d", "é"), (), "é"),
        ("", "/", "é", 2, (), ("相/",), None),
        ("", "", "b/2", 1, ("b/c/3",), (), "b/c/3"),
        ("x", "", "", 5, (), (), None),
        ("", "", "", 7, ("a", "b/1", "b/2", "b/c/3", "d", "é", "相/1"), (), None),
    ],
)
def test_listing_groups_and_pages(prefix, delimiter, after, limit, keys, prefixes, marker):
    """A page holds keys and groups in UTF-8 order; a group that was shown is not shown again."""
    found = page(KEYS, prefix, delimiter, after, limit)
    assert (found.keys, found.prefixes, found.next_marker) == (keys, prefixes, marker)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_pages_together_are_the_listing(limit):
    """However small the pages, nothing is lost and nothing comes twice."""
    names, after = [], ""
    while True:
        found = page(KEYS, "", "/", after, limit)
        names += [*found.keys, *found.prefixes]
        if found.next_marker is None:
            break
        after = found.next_marker
    assert sorted(names) == sorted(["a", "b/", "d", "é", "相/"])


@pytest.mark.parametrize(
    ("asked", "is_standard", "expected"),
    [
        ("bytes=0-9", False, (0, 9)),
        ("bytes=90-", False, (90, 99)),
        ("bytes=-10", False, (90, 99)),
        ("bytes=50-200", False, None),
        ("bytes=50-200", True, (50, 99)),
        ("bytes=-200", True, (0, 99)),
        ("bytes=100-", False, None),
        ("bytes=9-5", True, None),
        ("bytes=0-1,5-6", False, None),
        ("lines=1-2", False, None),
    ],
)
def test_range_that_does_not_fit_gives_the_whole_object(asked, is_standard, expected):
    """OSS answers an impossible range with the whole object, unless the standard behaviour is asked for."""
    headers = {"Range": asked} | ({"x-oss-range-behavior": "standard"} if is_standard else {})
    assert selected(headers, 100) == expected


def test_standard_range_behind_the_end_is_refused():
    """With the standard behaviour a range behind the end is 416."""
    with pytest.raises(Refused) as caught:
        selected({"Range": "bytes=100-", "x-oss-range-behavior": "standard"}, 100)
    assert documented(caught.value.code).status == 416


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"if-match": '"ABC"'}, None),
        ({"if-match": "x"}, "PreconditionFailed"),
        ({"if-match": "*"}, None),
        ({"if-none-match": '"abc", "d"'}, "NotModified"),
        ({"if-none-match": "d"}, None),
        ({"if-modified-since": format_datetime(NOW, usegmt=True)}, "NotModified"),
        ({"if-modified-since": format_datetime(NOW - timedelta(seconds=1), usegmt=True)}, None),
        ({"if-unmodified-since": format_datetime(NOW - timedelta(seconds=1), usegmt=True)}, "PreconditionFailed"),
        ({"if-unmodified-since": format_datetime(NOW, usegmt=True)}, None),
        ({"if-modified-since": "yesterday"}, None),
    ],
)
def test_conditions_are_held(headers, code):
    """The four conditional headers are obeyed to the second; a date that is none is not a condition."""
    stored = Stored(1, "ABC", 0, NOW)
    if code is None:
        check_conditions(headers, stored)
    else:
        with pytest.raises(Refused) as caught:
            check_conditions(headers, stored)
        assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("imm/tagimage", ("tagimage", 0)),
        ("image/labels", ("labels", 70)),
        ("image/labels,thr_0", ("labels", 0)),
        ("image/labels,thr_100", ("labels", 100)),
        ("image/labels,thr_101", "InvalidArgument"),
        ("image/labels,thr_0.7", "InvalidArgument"),
        ("image/labels,thr_", "InvalidArgument"),
        ("imm/tagimage,x", "InvalidArgument"),
        ("image/resize,w_100", "NotImplemented"),
        ("", "NotImplemented"),
    ],
)
def test_process_is_read(text, expected):
    """The two processes are understood, their misspellings refused, and others not played."""
    if isinstance(expected, str):
        with pytest.raises(Refused) as caught:
            read_process(text)
        assert caught.value.code == expected
    else:
        asked = read_process(text)
        assert (asked.action, asked.threshold) == expected


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_error_is_worded_and_billed_by_its_status(code):
    """Each documented error has a body that says its code; 4xx are billed, 5xx are not."""
    error = documented(code)
    body, _ = error_body(error, None, {}, "0123456789ABCDEF01234567", "bkt.oss-cn-hangzhou.aliyuncs.com")
    assert (code.partition(".")[2] or code).encode() in body
    assert is_billed(code) == (error.status != 304 and error.status < 500)


def test_imm_error_says_its_code_in_the_message():
    """An error of the processing behind OSS has the code `Imm Client`, with a blank, and its own code in the text."""
    root = parse(error_body(documented("ImmClient.ResourceNotFound"), None, {}, "ID", "host")[0])
    assert root.findtext("Code") == "Imm Client"
    assert (root.findtext("Message") or "").startswith("ResourceNotFound, ")


def test_xml_holds_what_xml_can_hold():
    """Marks are escaped, characters that XML forbids are replaced, and a document type is refused."""
    root = parse(document("A", [("B", "<&\x01相>")]))
    assert root.findtext("B") == "<&\ufffd相>"
    for text in (b"<!DOCTYPE a><a/>", b"<a", b"", b"\xff"):
        with pytest.raises(Refused):
            parse(text)


async def test_folder_outlives_the_emulator(tmp_path):
    """Objects in a folder are there for the next emulator, byte by byte, with their checksums."""
    data = b"line\nbreak" * 100
    found = await digest(data)
    stored = Stored(len(data), found.md5, found.crc64, NOW, {"Content-Type": "text/plain"})
    first = ObjectStore(OssOptions(folder=tmp_path), NOW)
    first.put(first.bucket_or_new("bkt", NOW), "dir/相 a.txt", data, stored)
    first.put(first.bucket("bkt"), "gone", data, stored)
    first.delete(first.bucket("bkt"), "gone")
    second = ObjectStore(OssOptions(folder=tmp_path), NOW)
    assert second.read("bkt", "dir/相 a.txt") == data
    assert second.stored("bkt", "dir/相 a.txt") == stored
    assert not second.has("bkt", "gone")


async def test_memory_is_bounded():
    """What does not fit is refused and leaves what was there; an object may be replaced by one that fits."""
    store = ObjectStore(OssOptions(max_bytes=10), NOW)
    bucket = store.bucket_or_new("bkt", NOW)

    async def put(key: str, data: bytes) -> None:
        found = await digest(data)
        store.put(bucket, key, data, Stored(len(data), found.md5, found.crc64, NOW))

    await put("a", b"12345678")
    with pytest.raises(Refused) as caught:
        await put("b", b"123")
    assert caught.value.code == "QuotaExceeded"
    await put("a", b"1234567890")
    store.delete(bucket, "a")
    await put("b", b"123")
    assert store.read("bkt", "b") == b"123"


def test_without_leave_no_bucket_is_made():
    """Only when that is allowed does a write make its bucket."""
    store = ObjectStore(OssOptions(creates_buckets=False, buckets=("there",)), NOW)
    assert store.bucket_or_new("there", NOW).name == "there"
    with pytest.raises(Refused) as caught:
        store.bucket_or_new("elsewhere", NOW)
    assert caught.value.code == "NoSuchBucket"
