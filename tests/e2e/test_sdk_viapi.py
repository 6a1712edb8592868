"""The vendor's own SDKs for VIAPI talk to the emulator: each call is verified, answered, and parsed by their models."""

import asyncio
import io
import json

import pytest

pytest.importorskip("alibabacloud_imagerecog20190930")
pytest.importorskip("aliyunsdkimagerecog")

from alibabacloud_imagerecog20190930 import models
from alibabacloud_imagerecog20190930.client import Client
from alibabacloud_tea_openapi.exceptions import ClientException
from alibabacloud_tea_openapi.models import Config
from alibabacloud_tea_util.models import RuntimeOptions
from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.auth.credentials import StsTokenCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkcore.request import CommonRequest
from aliyunsdkimagerecog.request.v20190930.RecognizeLogoRequest import RecognizeLogoRequest
from aliyunsdkimagerecog.request.v20190930.TaggingImageRequest import TaggingImageRequest

from imgtag_pipeline.emulator import Account

TOKEN = "CAIS+tok/en==%2B"
pytestmark = [
    pytest.mark.sdk,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.emulator(
        is_synthetic=True, accounts=(Account(), Account("STS.1", "short", security_token=TOKEN, name="sts"))
    ),
]
ALGORITHMS = pytest.mark.parametrize("algorithm", [None, "v2"], ids=["acs3", "rpc"])
URL = "http://bkt.oss-cn-shanghai.aliyuncs.com/a b+c*d~e%25/x.jpg"
# method -> the argument that names the image, further arguments, and where the labels are in the parsed answer
CALLS = {
    "tagging_image": ("image_url", {}, lambda data: [tag.value for tag in data.tags]),
    "recognize_scene": ("image_url", {}, lambda data: [tag.value for tag in data.tags]),
    "detect_image_elements": ("url", {}, lambda data: [element.type for element in data.elements]),
    "recognize_image_color": ("url", {"color_count": 2}, lambda data: [c.label for c in data.color_template_list]),
    "recognize_image_style": ("url", {}, lambda data: data.styles),
    "classifying_rubbish": ("image_url", {}, lambda data: [element.rubbish for element in data.elements]),
    "detect_fruits": ("image_url", {}, lambda data: [element.box[0] for element in data.elements]),
    "recognize_vehicle_type": ("image_url", {}, lambda data: [element.name for element in data.elements]),
    "evaluate_certificate_quality": ("image_url", {"type": "IDCard"}, lambda data: [e.pass_ for e in data.elements]),
    "recognize_food": ("image_url", {}, lambda data: [food.category for food in data.top_fives]),
}


def request_for(method, suffix="Request"):
    return getattr(models, "".join(word.capitalize() for word in method.split("_")) + suffix)


@pytest.fixture
def sdk(emulator):
    """Builds the current SDK's client for the emulator's address."""
    address = emulator.url.removeprefix("http://")

    def build(algorithm=None, **changes):
        settings = {"access_key_id": "emulator", "access_key_secret": "emulator", "endpoint": address, **changes}
        return Client(Config(protocol="http", region_id="cn-shanghai", signature_algorithm=algorithm, **settings))

    return build


@ALGORITHMS
@pytest.mark.parametrize("method", CALLS)
def test_every_action(sdk, emulator, method, algorithm):
    """Each action is answered in the shape of the SDK's models, by its blocking and its async method alike."""
    argument, extra, labels = CALLS[method]
    client, request = sdk(algorithm), request_for(method)(**{argument: URL, **extra})
    blocking = getattr(client, method)(request)
    awaited = asyncio.run(getattr(client, f"{method}_async")(request))
    for response in (blocking, awaited):
        assert response.status_code == 200
        assert response.body.request_id
        assert labels(response.body.data)
    assert blocking.body.data.to_map() == awaited.body.data.to_map()
    assert emulator.ledger.billed_by_image == {URL: 2}


@ALGORITHMS
def test_a_job(sdk, algorithm):
    """The asynchronous action is submitted and polled through the SDK until its result is there."""
    client = sdk(algorithm)
    job_id = client.tagging_ad_image(models.TaggingAdImageRequest(image_url=URL)).body.request_id
    poll = models.GetAsyncJobResultRequest(job_id=job_id)
    states = [client.get_async_job_result(poll).body.data.status for _ in range(2)]
    done = asyncio.run(client.get_async_job_result_async(poll)).body.data
    assert [*states, done.status] == ["QUEUING", "PROCESSING", "PROCESS_SUCCESS"]
    assert "tagInfo" in json.loads(done.result)["tags"][0]["value"]


@pytest.mark.emulator
@ALGORITHMS
@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "async"])
@pytest.mark.parametrize("way", ["address", "proxy"])
def test_bytes_by_the_advance_methods(sdk, emulator, picture, algorithm, is_async, way):
    """Bytes go through authorisation and upload, at the emulator's address or under the vendor's host names."""
    if way == "proxy":  # nothing of the SDK is set: all its hosts are the vendor's, reached through a proxy
        client, runtime = sdk(algorithm, endpoint=None), RuntimeOptions(http_proxy=emulator.url)
    else:
        client, runtime = sdk(algorithm), RuntimeOptions()
        client._open_platform_endpoint = emulator.url.removeprefix("http://")  # Config's own setting is not used
    request = models.RecognizeImageColorAdvanceRequest(url_object=io.BytesIO(picture(64, 64, "PNG")), color_count=1)
    if is_async:
        response = asyncio.run(client.recognize_image_color_advance_async(request, runtime))
    else:
        response = client.recognize_image_color_advance(request, runtime)
    assert [color.label for color in response.body.data.color_template_list] == ["gray"]
    assert next(iter(emulator.ledger.billed_by_image)).startswith("sha256:")


@ALGORITHMS
def test_a_temporary_key(sdk, emulator, algorithm):
    """A temporary key with its token, full of marks, is accepted; the token of another is not."""
    settings = {"access_key_id": "STS.1", "access_key_secret": "short"}
    request = models.TaggingImageRequest(image_url=URL)
    assert sdk(algorithm, security_token=TOKEN, **settings).tagging_image(request).status_code == 200
    with pytest.raises(ClientException) as refused:
        sdk(algorithm, security_token="other", **settings).tagging_image(request)
    assert refused.value.code == "InvalidSecurityToken.Malformed"


@ALGORITHMS
@pytest.mark.parametrize("is_async", [False, True], ids=["blocking", "async"])
def test_a_wrong_secret(sdk, emulator, algorithm, is_async):
    """A wrong secret is refused as the vendor does, with the string to sign; nothing is billed."""
    client, request = sdk(algorithm, access_key_secret="wrong"), models.TaggingImageRequest(image_url=URL)
    with pytest.raises(ClientException) as refused:
        asyncio.run(client.tagging_image_async(request)) if is_async else client.tagging_image(request)
    assert (refused.value.code, refused.value.status_code) == ("SignatureDoesNotMatch", 400)
    assert "server string to sign is:" in refused.value.message
    assert emulator.ledger.billed == 0


def test_throttling_tells_how_long(sdk, emulator):
    """The SDK reads the time to wait from the throttled answer."""
    from alibabacloud_tea_openapi.exceptions import ThrottlingException

    from imgtag_pipeline.emulator.faults import parse_all

    emulator.faults.set(parse_all(["throttle:3#1"]))
    with pytest.raises(ThrottlingException) as refused:
        sdk().tagging_image(models.TaggingImageRequest(image_url=URL))
    assert refused.value.retry_after == 3


def older(emulator, request):
    """A typed request of the older SDK, sent to the emulator."""
    request.set_endpoint(emulator.url.removeprefix("http://"))
    request.set_protocol_type("http")
    return request


def tagging(emulator, url=URL):
    request = TaggingImageRequest()
    request.set_ImageURL(url)
    return older(emulator, request)


@pytest.mark.parametrize("fmt", ["JSON", "XML"])
def test_the_older_sdk(emulator, fmt):
    """The older SDK, with its empty SignatureType and a form body, is verified; it may ask for XML."""
    request = tagging(emulator)
    request.set_accept_format(fmt)
    answer = AcsClient("emulator", "emulator", "cn-shanghai").do_action(request)
    assert answer.startswith(b'{"RequestId"' if fmt == "JSON" else b"<?xml")
    assert emulator.ledger.billed_by_image == {URL: 1}


def test_the_older_sdk_and_logos(emulator):
    """RecognizeLogo, gone from the current SDK, takes several images in one call."""
    urls = [f"http://a.example/{n}.jpg" for n in range(1, 12)]
    request = RecognizeLogoRequest()
    request.set_Taskss([{"ImageURL": url} for url in urls])
    answer = AcsClient("emulator", "emulator", "cn-shanghai").do_action_with_exception(older(emulator, request))
    assert [element["ImageURL"] for element in json.loads(answer)["Data"]["Elements"]] == urls


def test_a_generic_request_of_the_older_sdk(emulator):
    """A request by names alone, without the imagerecog package, works as well."""
    request = CommonRequest(emulator.url.removeprefix("http://"), "2019-09-30", "DetectFruits")
    request.set_method("POST")
    request.set_protocol_type("http")
    request.add_body_params("ImageURL", URL)
    answer = AcsClient("emulator", "emulator", "cn-shanghai").do_action_with_exception(request)
    assert json.loads(answer)["Data"]["Elements"]


def test_the_older_sdk_with_a_token_and_a_wrong_secret(emulator):
    """A temporary key is accepted; with a wrong secret the SDK finds its own string in the gateway's message."""
    credential = StsTokenCredential("STS.1", "short", TOKEN)
    assert AcsClient(region_id="cn-shanghai", credential=credential).do_action_with_exception(tagging(emulator))
    with pytest.raises(ServerException) as refused:
        AcsClient("emulator", "wrong", "cn-shanghai").do_action_with_exception(tagging(emulator))
    assert refused.value.get_http_status() == 400
    assert refused.value.get_error_code() == "InvalidAccessKeySecret"
