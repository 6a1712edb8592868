"""VIAPI's longer conversations at the emulator: jobs, uploads, and answers that a fixture file prescribes."""

import hashlib
import json
from datetime import UTC, datetime

import pytest

from imgtag_pipeline.testing import FakeClock, running_emulator

SYNTHETIC = pytest.mark.emulator(is_synthetic=True)
URL = "http://bkt.oss-cn-shanghai.aliyuncs.com/a.jpg"


def jobs(client, job_id):
    return client.viapi("GetAsyncJobResult", method="GET", JobId=job_id)


@SYNTHETIC
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
def test_a_job_from_submit_to_result(client, emulator, scheme):
    """The submit's request id is the job; it waits, runs and is done; one call is billed and no poll."""
    job_id = client.viapi("TaggingAdImage", scheme=scheme, ImageURL=URL).json["RequestId"]
    states = [jobs(client, job_id).json["Data"]["Status"] for _ in range(3)]
    assert states == ["QUEUING", "PROCESSING", "PROCESS_SUCCESS"]
    result = json.loads(jobs(client, job_id).json["Data"]["Result"])
    assert result["tags"][0]["confidence"] == -1
    assert set(json.loads(result["tags"][0]["value"])["tagInfo"]) == {"humanInfo", "sceneInfo", "objectInfo"}
    assert emulator.ledger.billed_by_image == {URL: 1}


@pytest.mark.emulator(is_synthetic=True, job_polls=0, job_statuses=("LIMIT_RETRY_FAILED", "TIMEOUT_FAILED"))
def test_jobs_that_end_badly(client):
    """Jobs end as the options say, one after the other, under HTTP 200."""
    ends = []
    for _ in range(3):
        answer = jobs(client, client.viapi("TaggingAdImage", ImageURL=URL).json["RequestId"])
        ends.append((answer.status, answer.json["Data"]["Status"]))
    assert ends == [(200, "LIMIT_RETRY_FAILED"), (200, "TIMEOUT_FAILED"), (200, "TIMEOUT_FAILED")]


def test_a_job_about_no_image(client, emulator):
    """An image that cannot be fetched makes a job that fails with its code, and costs nothing."""
    job_id = client.viapi("TaggingAdImage", ImageURL=URL).json["RequestId"]
    data = [jobs(client, job_id).json["Data"] for _ in range(3)][-1]
    assert (data["Status"], data["ErrorCode"]) == ("PROCESS_FAILED", "InvalidImage.Download")
    assert emulator.ledger.billed == 0


def test_jobs_run_on_the_clock_and_expire(client_of):
    """A job lasts as long as it is told, and is forgotten after half an hour; an unknown one is a bad request."""
    clock = FakeClock(wall=datetime.now(UTC))
    with running_emulator(is_synthetic=True, clock=clock, job_polls=0, job_seconds=60.0) as emulator:
        client = client_of(emulator.url)
        job_id = client.viapi("TaggingAdImage", now=clock.now(), ImageURL=URL).json["RequestId"]

        def poll(job_id):
            return client.viapi("GetAsyncJobResult", now=clock.now(), JobId=job_id)

        assert poll(job_id).json["Data"]["Status"] == "QUEUING"
        clock.stall(61)
        assert poll(job_id).json["Data"]["Status"] == "PROCESS_SUCCESS"
        clock.stall(1800)
        assert poll(job_id).code == "InvalidParameter.BadRequest"
        assert poll("unknown").code == "InvalidParameter.BadRequest"


def upload(client, ticket, data, **changes):
    fields = {
        "OSSAccessKeyId": ticket["AccessKeyId"],
        "policy": ticket["EncodedPolicy"],
        "Signature": ticket["Signature"],
        "key": ticket["ObjectKey"],
        "success_action_status": "201",
        **changes,
    }
    parts = [f'--b\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    parts.append(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + data + b"\r\n--b--\r\n")
    return client.send("POST", "/", b"".join(parts), {"Content-Type": "multipart/form-data; boundary=b"})


def test_the_upload_path(client, emulator, picture):
    """Bytes that were uploaded with an authorised form are labelled under the URL that the form implies."""
    authorize = {"Product": "imagerecog", "RegionId": "cn-shanghai"}
    ticket = client.viapi("AuthorizeFileUpload", version="2019-12-19", method="GET", **authorize).json
    data = picture(64, 64, "PNG") + b"\r\n--not the boundary\r\n\r\n"
    assert upload(client, ticket, data, Signature="wrong").status == 403
    assert upload(client, ticket, data).status == 201
    url = f"http://{ticket['Bucket']}.{ticket['Endpoint']}/{ticket['ObjectKey']}"
    assert client.host in url
    assert client.viapi(ImageURL=url).code == "ok"
    assert client.send("GET", f"/{ticket['ObjectKey']}").body == data
    assert emulator.ledger.billed_by_image == {f"sha256:{hashlib.sha256(data).hexdigest()}": 1}


SIGNED = "Expires=1700000000&OSSAccessKeyId=LTAI5tExampleKeyId01&Signature=vjbyPxybdZaNmGa%2ByT272YEAiv4%3D"


def test_fixtures_prescribe_answers(client_of, tmp_path):
    """A fixture file gives tags, whole replies, and errors, by URL or by file name."""
    path = tmp_path / "fixtures.json"
    fixed = {
        "http://a.example/dog.jpg": [{"name": "dog", "confidence": 0.5}, "grass"],
        "raw.jpg": {"RequestId": "R", "Data": {"Tags": None}},
        "bad.jpg": {"error": "InvalidImage.Unsafe"},
        "one.jpg": {"by_action": {"RecognizeFood": {"error": "Timeout"}}},
    }
    path.write_text(json.dumps(fixed))
    with running_emulator(is_synthetic=True, fixtures=path) as emulator:
        client = client_of(emulator.url)
        tags = client.viapi(ImageURL="http://a.example/dog.jpg?" + SIGNED).json
        assert tags["Data"]["Tags"] == [{"Confidence": 100, "Value": "草地"}, {"Confidence": 50, "Value": "狗"}]
        assert client.viapi(ImageURL="http://b.example/x/raw.jpg").json == fixed["raw.jpg"]
        assert client.viapi(ImageURL="http://b.example/bad.jpg").code == "InvalidImage.Unsafe"
        assert client.viapi("RecognizeFood", ImageURL="http://b.example/one.jpg").code == "Timeout"
        assert client.viapi(ImageURL="http://b.example/one.jpg").code == "ok"
