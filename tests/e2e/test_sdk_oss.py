"""oss2 stores, lists, uploads in parts, appends, copies and deletes through the emulator, unchanged."""

import base64
import hashlib
import json

import pytest

from imgtag_pipeline.emulator import Account, EmulatorOptions, run_in_thread

oss2 = pytest.importorskip("oss2")

pytestmark = pytest.mark.sdk
TOKEN = "CAIS+tok/en=="
TEMPORARY = Account(key_id="STS.temporary", secret="short", security_token=TOKEN)
OPTIONS = EmulatorOptions(accounts=(Account(), TEMPORARY))
AUTHS = {
    "v1": oss2.Auth("emulator", "emulator"),
    "v4": oss2.AuthV4("emulator", "emulator"),
    "sts-v1": oss2.StsAuth("STS.temporary", "short", TOKEN),
    "sts-v4": oss2.StsAuth("STS.temporary", "short", TOKEN, auth_version="v4"),
}
KEYS = ["example.jpg", "dir/相册 夜景.jpg", "a+b~c*d&e=f%25.jpg", "a//b/../c.jpg", "100%.jpg"]


@pytest.fixture(scope="module")
def running():
    with run_in_thread(OPTIONS) as emulator:
        yield emulator


@pytest.fixture
def cloud(running):
    running.ledger.clear()
    running.faults.set(())
    yield running
    running.faults.set(())


@pytest.fixture(params=AUTHS)
def bucket(request, cloud):
    """A bucket seen through each way of signing."""
    return oss2.Bucket(AUTHS[request.param], cloud.url, "bkt", region="cn-hangzhou")


@pytest.fixture
def plain(cloud):
    """The bucket through V1 keys; no retries."""
    return oss2.Bucket(AUTHS["v1"], cloud.url, "bkt", region="cn-hangzhou")


def read(found) -> bytes:
    return found.read()


@pytest.mark.parametrize("key", KEYS)
def test_objects_come_back_under_any_name(bucket, cloud, key):
    """What was put is got, listed, described and deleted under the same name; the SDK checks the CRC both ways."""
    data = key.encode() * 1000
    put = bucket.put_object(key, data, headers={"x-oss-meta-sku": "42", "Content-Type": "image/jpeg"})
    got = bucket.get_object(key)
    assert read(got) == data
    assert (got.headers["x-oss-meta-sku"], got.headers["Content-Type"]) == ("42", "image/jpeg")
    assert got.server_crc == got.client_crc == put.crc
    assert put.etag == hashlib.md5(data).hexdigest().upper()
    assert bucket.head_object(key).content_length == len(data)
    assert int(bucket.get_object_meta(key).headers["Content-Length"]) == len(data)
    assert key in [found.key for found in oss2.ObjectIterator(bucket)]
    bucket.delete_object(key)
    assert not bucket.object_exists(key)
    assert "SignatureDoesNotMatch" not in cloud.ledger.by_code


def test_ranges_and_conditions(bucket):
    """Parts of an object and conditional requests answer as the SDK expects them."""
    put = bucket.put_object("range", b"0123456789")
    assert read(bucket.get_object("range", byte_range=(2, 5))) == b"2345"
    assert read(bucket.get_object("range", byte_range=(7, None))) == b"789"
    assert read(bucket.get_object("range", byte_range=(None, 3))) == b"789"
    assert read(bucket.get_object("range", byte_range=(5, 100))) == b"0123456789"
    standard = {"x-oss-range-behavior": "standard"}
    assert read(bucket.get_object("range", byte_range=(5, 100), headers=standard)) == b"56789"
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.get_object("range", byte_range=(10, 20), headers=standard)
    assert (caught.value.status, caught.value.code) == (416, "InvalidRange")
    with pytest.raises(oss2.exceptions.NotModified):
        bucket.get_object("range", headers={"If-None-Match": put.etag})
    with pytest.raises(oss2.exceptions.PreconditionFailed):
        bucket.get_object("range", headers={"If-Match": "00"})


def test_listing_in_pages(bucket):
    """Both listings page through folders and keys without losing any, names escaped on the way."""
    keys = [f"list/{letter}/{number} 相" for letter in "abc" for number in range(3)]
    for key in [*keys, "list/top"]:
        bucket.put_object(key, b"")
    assert [found.key for found in oss2.ObjectIterator(bucket, prefix="list/", max_keys=2)] == [*keys, "list/top"]
    assert [found.key for found in oss2.ObjectIteratorV2(bucket, prefix="list/", max_keys=2)] == [*keys, "list/top"]
    names = [found.key for found in oss2.ObjectIterator(bucket, prefix="list/", delimiter="/", max_keys=1)]
    assert names == ["list/a/", "list/b/", "list/c/", "list/top"]
    names = [found.key for found in oss2.ObjectIteratorV2(bucket, prefix="list/", delimiter="/", max_keys=3)]
    assert names == ["list/a/", "list/b/", "list/c/", "list/top"]
    assert bucket.list_objects_v2(prefix="list/", start_after="list/c/2 相").object_list[0].key == "list/top"
    deleted = bucket.batch_delete_objects(keys)
    assert sorted(deleted.deleted_keys) == sorted(keys)


def test_multipart_upload(bucket, tmp_path):
    """A large file goes up in parts and comes back whole; a broken upload leaves nothing."""
    data = bytes(range(256)) * 4096
    file = tmp_path / "large"
    file.write_bytes(data)
    done = oss2.resumable_upload(
        bucket,
        "large",
        str(file),
        store=oss2.ResumableStore(root=str(tmp_path)),
        multipart_threshold=1,
        part_size=300_000,
    )
    assert done.etag.endswith("-4")
    assert read(bucket.get_object("large")) == data
    upload = bucket.init_multipart_upload("half").upload_id
    part = bucket.upload_part("half", upload, 1, b"x" * 10)
    assert [found.upload_id for found in oss2.MultipartUploadIterator(bucket, prefix="half")] == [upload]
    assert [found.size for found in oss2.PartIterator(bucket, "half", upload)] == [10]
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.complete_multipart_upload("half", upload, [oss2.models.PartInfo(1, "0" * 32)])
    assert caught.value.code == "InvalidPart"
    copied = bucket.upload_part_copy("bkt", "large", (0, 99), "half", upload, 2)
    parts = [oss2.models.PartInfo(1, part.etag), oss2.models.PartInfo(2, copied.etag)]
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.complete_multipart_upload("half", upload, parts)
    assert caught.value.code == "EntityTooSmall"
    bucket.abort_multipart_upload("half", upload)
    assert not bucket.object_exists("half")
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.upload_part("half", upload, 1, b"x")


def test_append_only_at_the_end(bucket):
    """An object grows at its end only; the SDK continues the CRC over all appends."""
    bucket.delete_object("log")
    first = bucket.append_object("log", 0, b"one,", init_crc=0)
    second = bucket.append_object("log", first.next_position, b"two", init_crc=first.crc)
    assert second.next_position == 7
    assert read(bucket.get_object("log")) == b"one,two"
    with pytest.raises(oss2.exceptions.PositionNotEqualToLength) as caught:
        bucket.append_object("log", 3, b"late")
    assert caught.value.next_position == 7
    bucket.put_object("fixed", b"x")
    with pytest.raises(oss2.exceptions.ObjectNotAppendable):
        bucket.append_object("fixed", 1, b"y")


def test_copy_keeps_or_replaces_what_is_said_of_an_object(bucket):
    """A copy has the same bytes, and the old or the new metadata as asked."""
    bucket.put_object("from 相.txt", b"text", headers={"x-oss-meta-a": "1"})
    bucket.copy_object("bkt", "from 相.txt", "kept")
    assert bucket.head_object("kept").headers["x-oss-meta-a"] == "1"
    bucket.copy_object(
        "bkt", "from 相.txt", "new", headers={"x-oss-metadata-directive": "REPLACE", "x-oss-meta-b": "2"}
    )
    assert "x-oss-meta-a" not in bucket.head_object("new").headers
    assert read(bucket.get_object("new")) == b"text"


def test_writes_that_are_not_taken(bucket):
    """A wrong digest, a forbidden overwrite and an impossible name are refused and change nothing."""
    bucket.put_object("kept", b"first")
    for key, headers, code in (
        ("kept", {"Content-MD5": base64.b64encode(bytes(16)).decode()}, "InvalidDigest"),
        ("kept", {"x-oss-forbid-overwrite": "true"}, "FileAlreadyExists"),
        ("/kept", {}, "InvalidObjectName"),
    ):
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            oss2.Bucket(bucket.auth, bucket.endpoint, "bkt", region="cn-hangzhou").put_object(key, b"second", headers)
        assert caught.value.code == code
    assert read(bucket.get_object("kept")) == b"first"


def test_buckets_come_and_go(cloud):
    """Buckets are made, described, listed and removed when they are empty."""
    made = oss2.Bucket(AUTHS["v4"], cloud.url, "made-here", region="cn-hangzhou")
    made.create_bucket()
    info = made.get_bucket_info()
    assert (info.name, info.location) == ("made-here", "oss-cn-hangzhou")
    assert made.get_bucket_location().location == "oss-cn-hangzhou"
    assert made.get_bucket_acl().acl == "private"
    made.put_object("a", b"12345")
    assert made.get_bucket_stat().storage_size_in_bytes == 5
    service = oss2.Service(AUTHS["v4"], cloud.url, region="cn-hangzhou")
    assert "made-here" in [found.name for found in oss2.BucketIterator(service)]
    with pytest.raises(oss2.exceptions.BucketNotEmpty):
        made.delete_bucket()
    made.delete_object("a")
    made.delete_bucket()
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        made.get_bucket_info()


def test_texts_are_compressed_for_those_who_take_it(plain):
    """A text of a kilobyte and more is gzip for who asks for gzip, whole for others."""
    text = json.dumps(list(range(1000))).encode()
    plain.put_object("numbers.json", text, headers={"Content-Type": "application/json"})
    assert "Content-Encoding" not in plain.get_object("numbers.json").headers
    asked = plain.get_object("numbers.json", headers={"Accept-Encoding": "gzip"})
    assert asked.headers["Content-Encoding"] == "gzip"
    assert read(asked) == text
