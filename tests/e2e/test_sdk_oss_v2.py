"""The newer SDK, alibabacloud-oss-v2, stores, lists and tags through the emulator unchanged."""

import io
import json
from datetime import timedelta

import pytest
from PIL import Image

from imgtag_pipeline.emulator import Account, EmulatorOptions, run_in_thread

oss = pytest.importorskip("alibabacloud_oss_v2")
requests = pytest.importorskip("requests")

pytestmark = pytest.mark.sdk
TOKEN = "CAIS+tok/en=="
TEMPORARY = Account(key_id="STS.temporary", secret="short", security_token=TOKEN)
OPTIONS = EmulatorOptions(qps=None, accounts=(Account(), TEMPORARY))


def picture() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((320, 200)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


PICTURE = picture()


@pytest.fixture(scope="module")
def cloud():
    with run_in_thread(OPTIONS) as emulator:
        yield emulator


def client(cloud, version="v4", key=("emulator", "emulator"), **settings):
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(*key)
    config.region, config.endpoint, config.signature_version = "cn-hangzhou", cloud.url, version
    config.use_path_style = True
    config.retry_max_attempts = 1
    for name, value in settings.items():
        setattr(config, name, value)
    return oss.Client(config)


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ("v4", ("emulator", "emulator")),
        ("v1", ("emulator", "emulator")),
        ("v4", ("STS.temporary", "short", TOKEN)),
    ],
)
@pytest.mark.parametrize("name", ["example.jpg", "dir/相册 夜景+1.jpg"])
def test_second_sdk_stores_and_lists(cloud, version, key, name):
    """The newer SDK writes, reads, lists, copies, uploads in parts and deletes through the emulator."""
    sdk = client(cloud, version, key)
    data = name.encode() * 50_000
    sdk.put_object(oss.PutObjectRequest(bucket="second", key=name, body=data))
    assert sdk.get_object(oss.GetObjectRequest(bucket="second", key=name)).body.read() == data
    pages = sdk.list_objects_v2_paginator().iter_page(oss.ListObjectsV2Request(bucket="second", max_keys=1))
    assert name in [found.key for page in pages for found in page.contents or ()]
    sdk.copy_object(oss.CopyObjectRequest(bucket="second", key="copy", source_key=name))
    assert sdk.head_object(oss.HeadObjectRequest(bucket="second", key="copy")).content_length == len(data)
    oss.Uploader(sdk, part_size=200_000).upload_from(
        oss.PutObjectRequest(bucket="second", key="large"), io.BytesIO(data)
    )
    assert sdk.get_object(oss.GetObjectRequest(bucket="second", key="large")).body.read() == data
    sdk.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(
            bucket="second", objects=[oss.DeleteObject(key=name), oss.DeleteObject(key="large")]
        )
    )
    assert not sdk.is_object_exist("second", name)
    assert sdk.get_bucket_info(oss.GetBucketInfoRequest(bucket="second")).bucket_info.location == "oss-cn-hangzhou"


@pytest.mark.parametrize("process", ["imm/tagimage", "image/labels,thr_0"])
@pytest.mark.parametrize("key", [("emulator", "emulator"), ("STS.temporary", "short", TOKEN)])
@pytest.mark.parametrize("additional", [None, ["host", "range"]])
def test_second_sdk_tags_pictures(cloud, process, key, additional):
    """Processing through V4 headers, with further headers signed, and through presigned URLs."""
    sdk = client(cloud, key=key, additional_headers=additional)
    sdk.put_object(oss.PutObjectRequest(bucket="second", key="dir/相 1.jpg", body=PICTURE))
    request = oss.GetObjectRequest(bucket="second", key="dir/相 1.jpg", process=process)
    found = json.loads(sdk.get_object(request).body.read())
    assert found.get("Tags") or found.get("Labels")
    presigned = sdk.presign(request, expires=timedelta(seconds=60))
    reply = requests.get(presigned.url, headers=presigned.signed_headers, timeout=10)
    assert reply.status_code == 200
    assert {**reply.json(), "RequestId": ""} == {**found, "RequestId": ""}


def test_second_sdk_signs_no_process_with_v1(cloud):
    """Its V1 signer leaves x-oss-process out of what it signs; OSS and the emulator refuse that."""
    sdk = client(cloud, "v1")
    sdk.put_object(oss.PutObjectRequest(bucket="second", key="a.jpg", body=PICTURE))
    with pytest.raises(oss.exceptions.OperationError) as caught:
        sdk.get_object(oss.GetObjectRequest(bucket="second", key="a.jpg", process="imm/tagimage"))
    assert caught.value.unwrap().code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("key", "code"), [(("emulator", "wrong"), "SignatureDoesNotMatch"), (("nobody", "x"), "InvalidAccessKeyId")]
)
def test_second_sdk_is_told_what_is_wrong(cloud, key, code):
    """A wrong secret or key id reaches the newer SDK as its own error, with code, request id and EC."""
    with pytest.raises(oss.exceptions.OperationError) as caught:
        client(cloud, key=key).get_object(oss.GetObjectRequest(bucket="second", key="a"))
    error = caught.value.unwrap()
    assert (error.status_code, error.code) == (403, code)
    assert error.request_id
    assert error.ec
