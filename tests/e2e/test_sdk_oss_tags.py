"""Image tagging on stored objects through oss2: answers, errors, quota, bill, lost replies."""

import gzip
import io
import json

import pytest
from PIL import Image

from imgtag_pipeline.emulator import Account, EmulatorOptions, run_in_thread
from imgtag_pipeline.emulator.alibaba_oss.codes import CODES
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.alibaba_oss.tagging import is_billed
from imgtag_pipeline.emulator.faults import parse_all

oss2 = pytest.importorskip("oss2")
requests = pytest.importorskip("requests")

pytestmark = pytest.mark.sdk
TOKEN = "CAIS+tok/en=="
TEMPORARY = Account(key_id="STS.temporary", secret="short", security_token=TOKEN)
OPTIONS = EmulatorOptions(qps=None, accounts=(Account(), TEMPORARY))
AUTHS = {
    "v1": oss2.Auth("emulator", "emulator"),
    "v4": oss2.AuthV4("emulator", "emulator"),
    "sts-v1": oss2.StsAuth("STS.temporary", "short", TOKEN),
    "sts-v4": oss2.StsAuth("STS.temporary", "short", TOKEN, auth_version="v4"),
}


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((320, 200)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


PICTURE = picture()


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
    """The bucket through V1 keys."""
    return oss2.Bucket(oss2.Auth("emulator", "emulator"), cloud.url, "bkt")


def read(found) -> bytes:
    return found.read()


@pytest.mark.parametrize("process", ["imm/tagimage", "image/labels", "image/labels,thr_0"])
def test_tags_of_a_stored_picture(bucket, cloud, process):
    """The answer is gzip and chunked though nobody asked, and describes the picture's pixels; it is billed once."""
    bucket.put_object("dir/picture.jpg", PICTURE)
    got = bucket.get_object("dir/picture.jpg", process=process)
    assert got.headers["Content-Encoding"] == "gzip"
    assert got.headers["Transfer-Encoding"] == "chunked"
    assert got.headers["Content-Type"] == "application/json;charset=utf-8"
    assert int(got.headers["x-oss-hash-crc64ecma"]) == bucket.head_object("dir/picture.jpg").server_crc
    found = json.loads(read(got))
    if process == "imm/tagimage":
        assert found["ImageUri"] == "oss://bkt/dir/picture.jpg"
        names = {tag["TagName"]: tag for tag in found["Tags"]}
        assert names["横图"]["ParentTagName"] == "方向"
        assert names["方向"]["TagLevel"] == 1
    else:
        assert {"横图", "灰度"} <= {label["LabelName"] for label in found["Labels"]}
        assert all(label["LabelConfidence"] >= (0.0 if "thr" in process else 0.7) for label in found["Labels"])
    assert cloud.ledger.billed == cloud.ledger.billed_by_image["oss://bkt/dir/picture.jpg"] == 1


def test_client_that_trusts_the_checksum_is_misled(plain, tmp_path):
    """As at the vendor, the checksum is the object's: downloading a processed answer to a file fails in oss2."""
    plain.put_object("a.jpg", PICTURE)
    with pytest.raises(oss2.exceptions.InconsistentError):
        plain.get_object_to_file("a.jpg", str(tmp_path / "answer"), process="imm/tagimage")


@pytest.mark.parametrize(
    ("data", "process", "code"),
    [
        (None, "imm/tagimage", "NoSuchKey"),
        (b"no picture", "imm/tagimage", "BadRequest"),
        (b"", "image/labels", "BadRequest"),
        (bytes((20 << 20) + 1), "image/labels", "ImageTooLarge"),
        (PICTURE, "image/labels,thr_101", "InvalidArgument"),
        (PICTURE, "image/resize,w_10", "NotImplemented"),
    ],
)
def test_pictures_that_cannot_be_tagged(plain, data, process, code):
    """Missing, broken and too large objects and wrong processes are refused with their own codes."""
    plain.delete_object("bad.jpg")
    if data is not None:
        plain.put_object("bad.jpg", data)
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        plain.get_object("bad.jpg", process=process)
    assert caught.value.code == code


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_documented_error_on_demand(plain, cloud, code):
    """Each code can be asked for; it comes with its HTTP status and is billed as its status says."""
    plain.put_object("a.jpg", PICTURE)
    cloud.faults.set(parse_all([f"error:{code}"]))
    if CODES[code].status == 200:
        assert json.loads(read(plain.get_object("a.jpg", process="imm/tagimage")))["success"] is False
    else:
        with pytest.raises(oss2.exceptions.OssError) as caught:
            plain.get_object("a.jpg", process="imm/tagimage")
        assert caught.value.status == CODES[code].status
        shown = {"ImmClient": "Imm Client", "ImmServer": "Imm Server"}.get(code.partition(".")[0], code)
        assert caught.value.details.get("Code", shown) == shown
    assert cloud.ledger.billed == is_billed(code)


def test_quota_is_enforced_on_tagging_alone():
    """Too many processing requests in a second are throttled and not billed; objects are not counted."""
    with run_in_thread(EmulatorOptions(qps=1)) as emulator:
        bucket = oss2.Bucket(AUTHS["v1"], emulator.url, "bkt")
        for _ in range(5):
            bucket.put_object("a.jpg", PICTURE)
        bucket.get_object("a.jpg", process="imm/tagimage")
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            bucket.get_object("a.jpg", process="imm/tagimage")
        assert (caught.value.status, caught.value.code) == (503, "TotalQpsLimitExceeded")
        assert emulator.ledger.billed == 1


def test_reply_to_a_put_can_be_lost(plain, cloud):
    """The object is stored, then the connection drops: the client cannot know, and asking again is harmless."""
    plain.delete_object("lost")
    cloud.faults.set(parse_all(["reset-after#1@PutObject"]))
    with pytest.raises(oss2.exceptions.RequestError):
        plain.put_object("lost", b"stored all the same")
    assert read(plain.get_object("lost")) == b"stored all the same"
    plain.put_object("lost", b"stored all the same")


def test_manuals_field_table_on_request():
    """With the shape of the manual's table, imm/tagimage names its fields as there, and all of them are text."""
    with run_in_thread(EmulatorOptions(qps=None, oss=OssOptions(tagimage_shape="table"))) as emulator:
        bucket = oss2.Bucket(AUTHS["v1"], emulator.url, "bkt")
        bucket.put_object("a.jpg", PICTURE)
        tags = json.loads(read(bucket.get_object("a.jpg", process="imm/tagimage")))["Tags"]
    assert set(tags[0]) == {"TagId", "TagLevel", "TagName", "ParentTagId", "ParentTagName", "TagScore"}
    assert all(isinstance(value, str) for tag in tags for value in tag.values())
    assert (tags[0]["ParentTagId"], tags[1]["ParentTagId"]) == ("0", tags[0]["TagId"])


def test_pictures_of_a_folder_and_of_fixtures(tmp_path):
    """A folder of pictures is in every bucket, and a fixture's answer goes before the pixels."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "a.jpg").write_bytes(PICTURE)
    (tmp_path / "fixtures.json").write_text(
        json.dumps({"b.jpg": [{"name": "cat", "confidence": 0.9}], "c.jpg": {"error": "CpuLimitExceeded"}})
    )
    options = EmulatorOptions(qps=None, images=tmp_path, fixtures=tmp_path / "fixtures.json")
    with run_in_thread(options) as emulator:
        bucket = oss2.Bucket(AUTHS["v1"], emulator.url, "any-bucket")
        assert bucket.head_object("dir/a.jpg").content_type == "image/jpeg"
        assert json.loads(read(bucket.get_object("dir/a.jpg", process="image/labels")))["Labels"]
        labels = json.loads(read(bucket.get_object("b.jpg", process="image/labels")))["Labels"]
        assert [(label["LabelName"], label["LabelConfidence"]) for label in labels] == [("猫", 0.9)]
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            bucket.get_object("c.jpg", process="imm/tagimage")
        assert caught.value.code == "CpuLimitExceeded"


def test_compressed_answer_is_one_gzip_stream(plain):
    """The bytes on the wire are gzip, whatever the request accepts."""
    plain.put_object("a.jpg", PICTURE)
    url = plain.sign_url("GET", "a.jpg", 60, params={"x-oss-process": "imm/tagimage"})
    with requests.get(url, headers={"Accept-Encoding": "identity"}, stream=True, timeout=10) as reply:
        raw = reply.raw.read(decode_content=False)
    assert json.loads(gzip.decompress(raw))["httpStatusCode"] == 200
