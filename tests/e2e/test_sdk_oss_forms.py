"""PostObject: HTML forms with a signed policy, posted as a browser would."""

import base64
import hmac
import json

import pytest

from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread

oss2 = pytest.importorskip("oss2")
requests = pytest.importorskip("requests")

pytestmark = pytest.mark.sdk


@pytest.fixture(scope="module")
def cloud():
    with run_in_thread(EmulatorOptions()) as emulator:
        yield emulator


@pytest.fixture
def plain(cloud):
    """The bucket through V1 keys."""
    return oss2.Bucket(oss2.Auth("emulator", "emulator"), cloud.url, "bkt")


def read(found) -> bytes:
    return found.read()


def form(cloud, *, secret="emulator", conditions=(), expires="2999-01-01T00:00:00.000Z", **fields):
    policy = base64.b64encode(json.dumps({"expiration": expires, "conditions": list(conditions)}).encode()).decode()
    signature = base64.b64encode(hmac.digest(secret.encode(), policy.encode(), "sha1")).decode()
    named = {"OSSAccessKeyId": "emulator", "policy": policy, "Signature": signature, "key": "forms/${filename}"}
    file = {"file": ("相 a.bin", b"\r\n--bytes\x00\r\n", "image/png")}
    return requests.post(f"{cloud.url}/bkt", data={**named, **fields}, files=file, timeout=10)


def test_form_upload(cloud, plain):
    """A form with a signed policy is an upload: the file is stored byte by byte with its type."""
    reply = form(cloud, success_action_status="201", conditions=[["starts-with", "$key", "forms/"], {"bucket": "bkt"}])
    assert reply.status_code == 201
    assert b"<PostResponse>" in reply.content
    got = plain.get_object("forms/相 a.bin")
    assert read(got) == b"\r\n--bytes\x00\r\n"
    assert got.headers["Content-Type"] == "image/png"
    assert form(cloud).status_code == 204


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"secret": "wrong"}, 403, "SignatureDoesNotMatch"),
        ({"OSSAccessKeyId": "nobody"}, 403, "InvalidAccessKeyId"),
        ({"policy": "", "Signature": ""}, 403, "AccessDenied"),
        ({"expires": "2000-01-01T00:00:00.000Z"}, 403, "AccessDenied"),
        ({"expires": "soon"}, 400, "InvalidPolicyDocument"),
        ({"conditions": [["eq", "$key", "other"]]}, 403, "AccessDenied"),
        ({"conditions": [["content-length-range", 1, 5]]}, 400, "EntityTooLarge"),
        ({"conditions": [["content-length-range", "a", "b"]]}, 400, "InvalidPolicyDocument"),
        ({"key": "/"}, 400, "InvalidObjectName"),
    ],
)
def test_form_that_is_refused(cloud, changes, status, code):
    """A form whose signature, policy or conditions do not hold stores nothing."""
    reply = form(cloud, **changes)
    assert reply.status_code == status
    assert f"<Code>{code}</Code>".encode() in reply.content
