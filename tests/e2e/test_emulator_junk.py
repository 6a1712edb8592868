"""Whatever is thrown at the emulator's gateways, they answer in their vendor's form and never fall over."""

import asyncio
import json
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from imgtag_pipeline.core.signing import rpc, tencent
from imgtag_pipeline.emulator import Emulator, EmulatorOptions
from imgtag_pipeline.emulator.gateway import Refused, WireRequest
from imgtag_pipeline.emulator.gateways import all_families
from imgtag_pipeline.errors import ConfigError

FEW = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
TEXT = st.text(max_size=60) | st.sampled_from(
    ["http://[", "//", "data:,x", "file:///etc/passwd", "http://a:b/", "%", "\x00"]
)
PATHS = ["/", "/v1/detection/imagetag_detect", "/imagetag/picture_classify", "/viapi-upload/x", "/bucket/key"]
HEADERS = ["Authorization", "Content-Type", "x-acs-action", "x-acs-version", "x-acs-date", "Host", "x-oss-date"]
VALUES = TEXT | st.sampled_from(
    [
        "ACS3-HMAC-SHA256 Credential=emulator,SignedHeaders=host;x-acs-date,Signature=00",
        "multipart/form-data; boundary=b",
        "application/x-www-form-urlencoded",
        "TaggingImage",
        "2019-09-30",
        "OSS emulator:abc",
        "AAAAAAAAAAAAAAAAAAAAAAAAAGE9MQ==",
    ]
)


class Gateways:
    """All gateways without a socket, in a loop of their own."""

    def __init__(self, runner):
        self.cloud = Emulator(EmulatorOptions(qps=None)).cloud
        self.families = all_families(self.cloud)
        self._runner = runner

    def answer(self, request):
        """The reply of the first gateway that claims the request; None when nobody does."""
        for family in self.families:
            if family.matches(request):
                try:
                    return self._runner.run(family.answer(request, family.admit(request)))
                except Refused as refusal:
                    return family.refuse(request, refusal)
        return None


@pytest.fixture(scope="module")
def gateways():
    with asyncio.Runner() as runner:
        found = Gateways(runner)
        yield found
        runner.run(found.cloud.close())


def wire(method="POST", path="/", query="", headers=None, body=b""):
    given = CIMultiDict(headers or {})
    return WireRequest(method, path, query, given, body, 1.0, given.get("Host", "").lower(), given.get("Host", ""))


@FEW
@given(
    st.sampled_from(["GET", "POST", "PUT", "HEAD", "DELETE", "BREW"]),
    st.sampled_from(PATHS),
    st.sampled_from(["", "Action=TaggingImage"]) | TEXT,
    st.dictionaries(st.sampled_from(HEADERS), VALUES),
    st.binary(max_size=200)
    | st.sampled_from([b"Action=TaggingImage", b'{"appid": 1}', b"\r\n--b\r\n\r\n--b--viapi-upload/"]),
)
def test_junk_is_refused_politely(gateways, method, path, query, headers, body):
    """Any request at all gets a reply with a status of HTTP, or belongs to nobody."""
    reply = gateways.answer(wire(method, path, query, headers, body))
    assert reply is None or 200 <= reply.status < 600


@FEW
@given(
    st.sampled_from(["TaggingImage", "RecognizeImageColor", "RecognizeLogo", "TaggingAdImage", "GetAsyncJobResult"]),
    st.dictionaries(st.sampled_from(["ImageURL", "Url", "Tasks.1.ImageURL", "ColorCount", "JobId", "Format"]), TEXT),
)
def test_signed_junk_for_viapi(gateways, action, params):
    """Any value of any parameter, rightly signed, is answered or refused with a documented code."""
    params = {**params, "Action": action, "Version": "2019-09-30"}
    nonce = str(next(NONCES))
    params |= rpc.sign(
        "POST", params, access_key_id="emulator", access_key_secret="emulator", now=datetime.now(UTC), nonce=nonce
    )
    reply = gateways.answer(wire(body=urlencode(params, errors="replace").encode()))
    assert reply.code in {"ok", *gateways.families[0].codes}


NONCES = iter(range(10**9))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT, lambda inner: st.lists(inner), max_leaves=3
)


@FEW
@given(st.sampled_from(PATHS[1:3]), st.dictionaries(st.sampled_from(["url", "image", "app_id", "appid"]), JSON))
def test_signed_junk_for_tencent(gateways, path, fields):
    """Any JSON under a right token is answered or refused with a documented code."""
    token = tencent.sign(app_id="1000001", secret_id="emulator", secret_key="emulator", now=datetime.now(UTC), rand=1)
    body = json.dumps({"app_id": "1000001", "appid": "1000001", **fields}).encode()
    reply = gateways.answer(wire(path=path, headers={"Authorization": token, "Content-Length": "1"}, body=body))
    assert reply.code in {"ok", *gateways.families[2].codes}


@pytest.mark.parametrize(
    "wrong",
    [{"qps": 0}, {"qps": -1.0}, {"action_qps": {"TaggingImage": 0}}, {"latency": -1.0}, {"faults": ("boom",)}],
)
def test_options_that_make_no_sense(wrong):
    """Options are checked when the emulator is built, before it listens."""
    with pytest.raises(ConfigError):
        Emulator(EmulatorOptions(**wrong))


def test_paths_that_are_not_there(tmp_path):
    """A missing folder or fixture file is said at once."""
    for wrong in ({"images": tmp_path / "no"}, {"fixtures": tmp_path / "no.json"}):
        with pytest.raises(ConfigError):
            Emulator(EmulatorOptions(**wrong))
