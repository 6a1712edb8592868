"""Who is let in, and how a bucket is named: three URL styles, presigned URLs, keys and clocks, through oss2."""

import base64
import io
import json
import time

import pytest
from PIL import Image

from imgtag_pipeline.emulator import Account, EmulatorOptions, run_in_thread
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions

oss2 = pytest.importorskip("oss2")
requests = pytest.importorskip("requests")

pytestmark = pytest.mark.sdk
TOKEN = "CAIS+tok/en=="
ACCOUNTS = (
    Account(),
    Account(key_id="STS.temporary", secret="short", security_token=TOKEN),
    Account(key_id="STS.old", secret="short", security_token=TOKEN, expires_at=1.0),
)
OPTIONS = EmulatorOptions(
    qps=None, accounts=ACCOUNTS, oss=OssOptions(domains={"img.example.com": "bkt"}, region="cn-hangzhou")
)
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
        first = oss2.Bucket(AUTHS["v4"], emulator.url, "bkt", region="cn-hangzhou")
        first.put_object("first", b"makes the bucket, in whatever order the tests run")
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


def read(found) -> bytes:
    return found.read()


# --- oss2: the three styles, presigned URLs ---------------------------------------------------------------------


@pytest.mark.parametrize("auth", AUTHS)
@pytest.mark.parametrize(
    ("endpoint", "is_cname"), [("http://oss-cn-hangzhou.aliyuncs.com", False), ("http://img.example.com", True)]
)
def test_bucket_in_the_host(cloud, auth, endpoint, is_cname):
    """Virtual-host and custom-domain requests mean the same objects as path-style ones."""
    proxies = {"http": cloud.url}
    by_host = oss2.Bucket(
        AUTHS[auth], endpoint, "bkt", is_cname=is_cname, region="cn-hangzhou", proxies=proxies, enable_crc=True
    )
    by_host.put_object("dir/相 1.jpg", PICTURE)
    by_path = oss2.Bucket(AUTHS["v1"], cloud.url, "bkt")
    assert read(by_path.get_object("dir/相 1.jpg")) == PICTURE
    assert json.loads(read(by_host.get_object("dir/相 1.jpg", process="imm/tagimage")))["success"] is True


def test_region_of_the_host_is_the_region_of_the_signature(cloud):
    """A V4 signature for one region is refused by the host of another."""
    elsewhere = oss2.Bucket(
        AUTHS["v4"],
        "http://oss-cn-beijing.aliyuncs.com",
        "bkt",
        region="cn-hangzhou",
        proxies={"http": cloud.url},
    )
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        elsewhere.list_objects()
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize("is_slash_safe", [False, True])
@pytest.mark.parametrize("process", ["imm/tagimage", "image/labels,thr_0", None])
def test_presigned_urls(bucket, process, is_slash_safe):
    """A presigned URL answers for its object and its process, and for nothing else."""
    bucket.put_object("dir/相 1.jpg", PICTURE)
    params = {"x-oss-process": process} if process else {}
    url = bucket.sign_url("GET", "dir/相 1.jpg", 60, params=params, slash_safe=is_slash_safe)
    reply = requests.get(url, timeout=10)
    assert reply.status_code == 200
    if process:
        assert reply.json().get("Tags") or reply.json().get("Labels")
    else:
        assert reply.content == PICTURE
    assert requests.get(url.replace("1.jpg", "2.jpg"), timeout=10).status_code == 403
    assert requests.get(url + "&x-oss-process=image%2Flabels", timeout=10).status_code == 403
    assert requests.put(url, data=b"x", timeout=10).status_code == 403


@pytest.mark.parametrize("auth", ["v1", "v4"])
def test_presigned_url_expires(auth):
    """After its seconds a presigned URL is refused."""
    with run_in_thread(EmulatorOptions(clock_offset=120.0)) as later:
        bucket = oss2.Bucket(AUTHS[auth], later.url, "bkt", region="cn-hangzhou")
        bucket.put_object("a.txt", b"x")
        assert requests.get(bucket.sign_url("GET", "a.txt", 180), timeout=10).status_code == 200
        reply = requests.get(bucket.sign_url("GET", "a.txt", 60), timeout=10)
    assert reply.status_code == 403
    assert b"Request has expired." in reply.content


# --- oss2: who is let in ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (oss2.Auth("emulator", "wrong"), "SignatureDoesNotMatch"),
        (oss2.AuthV4("emulator", "wrong"), "SignatureDoesNotMatch"),
        (oss2.Auth("nobody", "emulator"), "InvalidAccessKeyId"),
        (oss2.AuthV4("nobody", "emulator"), "InvalidAccessKeyId"),
        (oss2.Auth("STS.temporary", "short"), "InvalidAccessKeyId"),
        (oss2.StsAuth("STS.temporary", "short", "other"), "InvalidSecurityToken"),
        (oss2.StsAuth("emulator", "emulator", "token"), "InvalidSecurityToken"),
        (oss2.StsAuth("STS.old", "short", TOKEN), "SecurityTokenExpired"),
        (oss2.AnonymousAuth(), "AccessDenied"),
    ],
)
def test_wrong_credentials_are_refused_in_the_vendors_form(cloud, auth, code):
    """The SDK raises the vendor's own code, with what was signed where that helps; anonymous callers pay nothing."""
    bucket = oss2.Bucket(auth, cloud.url, "bkt", region="cn-hangzhou")
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.get_object("example.jpg", process="imm/tagimage")
    assert (caught.value.status, caught.value.code) == (403, code)
    assert caught.value.request_id
    assert ("StringToSign" in caught.value.details) == (code == "SignatureDoesNotMatch")
    assert cloud.ledger.billed == (code != "AccessDenied")


@pytest.mark.parametrize("auth", ["v1", "v4"])
def test_clock_that_is_off_is_told_so(auth):
    """Sixteen minutes apart, the request is refused, and the reply's Date says the right time."""
    with run_in_thread(EmulatorOptions(clock_offset=960.0)) as emulator:
        bucket = oss2.Bucket(AUTHS[auth], emulator.url, "bkt", region="cn-hangzhou")
        with pytest.raises(oss2.exceptions.ServerError) as caught:
            bucket.get_object("a")
        assert caught.value.code == "RequestTimeTooSkewed"
        ahead = oss2.utils.http_to_unixtime(caught.value.headers["Date"]) - time.time()
        assert ahead == pytest.approx(960, abs=30)


def test_error_without_a_body_is_in_a_header(cloud):
    """HEAD has no body, so the error document comes in x-oss-err."""
    url = oss2.Bucket(AUTHS["v4"], cloud.url, "bkt", region="cn-hangzhou").sign_url("HEAD", "no-such", 60)
    reply = requests.head(url, timeout=10)
    assert reply.status_code == 404
    assert reply.content == b""
    assert b"<Code>NoSuchKey</Code>" in base64.b64decode(reply.headers["x-oss-err"])
