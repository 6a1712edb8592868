"""VIAPI at the emulator: who is let in, what is refused, what is answered and what it costs."""

import io
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from imgtag_pipeline.emulator import Account
from imgtag_pipeline.emulator.alibaba_viapi.codes import CODES
from imgtag_pipeline.testing import running_emulator

SYNTHETIC = pytest.mark.emulator(is_synthetic=True)
URL = "http://bkt.oss-cn-shanghai.aliyuncs.com/a.jpg"
IMAGE_PARAMETER = {
    "TaggingImage": "ImageURL",
    "RecognizeScene": "ImageURL",
    "DetectImageElements": "Url",
    "RecognizeLogo": "Tasks.1.ImageURL",
    "RecognizeImageColor": "Url",
    "RecognizeImageStyle": "Url",
    "ClassifyingRubbish": "ImageURL",
    "DetectFruits": "ImageURL",
    "RecognizeVehicleType": "ImageURL",
    "EvaluateCertificateQuality": "ImageURL",
    "RecognizeFood": "ImageURL",
    "TaggingAdImage": "ImageURL",
}


def parameters(action, url=URL):
    extra = {"Type": "IDCard"} if action == "EvaluateCertificateQuality" else {}
    return {IMAGE_PARAMETER[action]: url, **extra}


@SYNTHETIC
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
def test_both_signatures_are_accepted(client, emulator, scheme):
    """A call signed either way is answered, billed once, and its answer goes out once."""
    answer = client.viapi(scheme=scheme, ImageURL=URL)
    assert answer.status == 200
    assert 0 < len(answer.json["Data"]["Tags"]) <= 5
    assert emulator.ledger.billed_by_image == {URL: 1}
    assert emulator.ledger.answered_by_image == {URL: 1}


@SYNTHETIC
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"key": "nobody"}, 404, "InvalidAccessKeyId.NotFound"),
        ({"secret": "wrong"}, 400, "SignatureDoesNotMatch"),
        ({"minutes": -16}, 400, "InvalidTimeStamp.Expired"),
        ({"minutes": 16}, 400, "InvalidTimeStamp.Expired"),
        ({"token": "stolen"}, 400, "InvalidSecurityToken.Malformed"),
        ({"action": "Unknown"}, 404, "InvalidAction.NotFound"),
        ({"version": "20190930"}, 400, "UnsupportedOperation"),
    ],
)
def test_who_is_not_let_in(client, emulator, scheme, change, status, code):
    """A wrong key, secret, clock, token, action or version is refused in the vendor's form, and is not billed."""
    change = dict(change)
    if minutes := change.pop("minutes", None):
        change["now"] = datetime.now(UTC) + timedelta(minutes=minutes)
    answer = client.viapi(scheme=scheme, ImageURL=URL, **change)
    assert (answer.status, answer.code) == (status, code)
    assert {"RequestId", "HostId", "Code", "Message"} <= set(answer.json)
    assert emulator.ledger.billed == 0


@SYNTHETIC
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
def test_a_wrong_secret_is_told_the_string_to_sign(client, scheme):
    """As the real gateway does, the message repeats what should have been signed."""
    assert "server string to sign is:" in client.viapi(scheme=scheme, secret="wrong", ImageURL=URL).json["Message"]


@SYNTHETIC
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
def test_a_nonce_is_good_once(client, scheme):
    """The same nonce again is refused; a refused signature does not use it up."""
    assert client.viapi(scheme=scheme, nonce="n", secret="wrong", ImageURL=URL).code == "SignatureDoesNotMatch"
    assert client.viapi(scheme=scheme, nonce="n", ImageURL=URL).code == "ok"
    assert client.viapi(scheme=scheme, nonce="n", ImageURL=URL).code == "SignatureNonceUsed"


@SYNTHETIC
def test_an_unsigned_call_is_refused(client):
    """Without a signature the gateway says which part is missing."""
    assert client.send("POST", "/?Action=TaggingImage&Version=2019-09-30").code == "IncompleteSignature"
    headers = {"x-acs-action": "TaggingImage", "Authorization": "ACS3-HMAC-SHA256 Credential=emulator"}
    assert client.send("POST", "/", b"", headers).code == "IncompleteSignature"


@pytest.mark.emulator(
    is_synthetic=True,
    accounts=(
        Account("STS.1", "s", security_token="token+/=", name="a"),
        Account("STS.2", "s", security_token="token", expires_at=1.0),
        Account("off", "s", refusal="InvalidAccessKeyId.Inactive"),
    ),
)
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
def test_temporary_and_closed_accounts(client, scheme):
    """A temporary key needs its token, runs out, and a closed account is told so."""

    def code(**who):
        return client.viapi(scheme=scheme, secret="s", ImageURL=URL, **who).code

    assert code(key="STS.1", token="token+/=") == "ok"
    assert code(key="STS.1") == "InvalidSecurityToken.Malformed"
    assert code(key="STS.2", token="token") == "InvalidSecurityToken.Expired"
    assert code(key="off") == "InvalidAccessKeyId.Inactive"


@SYNTHETIC
@pytest.mark.parametrize("action", IMAGE_PARAMETER)
def test_every_action_wants_its_own_parameter(client, emulator, action):
    """The image is found under the action's own name, case included; without it the call is refused and free."""
    assert client.viapi(action, **parameters(action)).code == "ok"
    assert emulator.ledger.billed == 1
    wrong = {"ImageUrl": URL, "url": URL, "Type": "IDCard"}
    assert client.viapi(action, **wrong).code == "InvalidParameter.BadRequest"
    assert emulator.ledger.billed == 1


@SYNTHETIC
@pytest.mark.parametrize(
    ("action", "params", "code"),
    [
        ("RecognizeImageColor", {"Url": URL, "ColorCount": "11"}, "ParameterError"),
        ("RecognizeImageColor", {"Url": URL, "ColorCount": "two"}, "ParameterError"),
        ("EvaluateCertificateQuality", {"ImageURL": URL}, "InvalidParameter.BadRequest"),
        ("EvaluateCertificateQuality", {"ImageURL": URL, "Type": "Passport"}, "ParameterError"),
        ("TaggingImage", {"ImageURL": "http://a.example/相册.jpg"}, "InvalidImage.URL"),
    ],
)
def test_wrong_parameters(client, action, params, code):
    """Options out of range, missing ones, and Chinese characters in the URL are refused."""
    assert client.viapi(action, **params).code == code


@SYNTHETIC
@pytest.mark.parametrize("code", CODES)
def test_every_documented_error_on_demand(client, emulator, code):
    """A call can ask for any documented error; it comes with its status, and is not billed."""
    answer = client.viapi(fault=f"error:{code}", ImageURL=URL)
    assert (answer.status, answer.code) == (CODES[code].status, code)
    assert emulator.ledger.billed == 0
    assert emulator.ledger.by_code == {code: 1}


@pytest.fixture
def shown(tmp_path, picture):
    """Puts a file among the emulator's pictures and says its URL."""

    def show(name, data):
        (tmp_path / name).write_bytes(data)
        return f"http://bkt.oss-cn-shanghai.aliyuncs.com/{name}"

    with running_emulator(images=tmp_path) as emulator:
        show.emulator = emulator
        yield show


def noise(width, height, kind):
    """A picture that does not get smaller by compression."""
    pixels = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("action", "make", "code"),
    [
        ("TaggingImage", lambda p: p(6, 6, "PNG"), "ok"),
        ("TaggingImage", lambda p: p(5, 40, "PNG"), "InvalidImage.Resolution"),
        ("TaggingImage", lambda p: p(100, 100, "GIF", "L"), "InvalidImage.Content"),
        ("TaggingImage", lambda _: noise(1200, 1000, "PNG"), "InvalidParameter.TooLarge"),
        ("TaggingImage", lambda _: b"", "InvalidImage.Content"),
        ("TaggingImage", lambda _: b"<html>not an image</html>", "InvalidImage.Content"),
        ("TaggingImage", lambda p: p()[:1500], "InvalidImage.Decode"),
        ("RecognizeLogo", lambda p: p(100, 100, "GIF", "L"), "ok"),
        ("DetectImageElements", lambda p: p(1280, 1280, "PNG"), "ok"),
        ("DetectImageElements", lambda p: p(1281, 100, "PNG"), "InvalidImage.Resolution"),
        ("RecognizeImageColor", lambda p: p(2499, 20, "PNG"), "ok"),
        ("RecognizeImageColor", lambda p: p(2500, 20, "PNG"), "InvalidImage.Resolution"),
        ("RecognizeImageColor", lambda p: p(100, 100, "PNG", "L"), "InvalidImage.Content"),
        ("RecognizeImageStyle", lambda p: p(2999, 20, "WEBP"), "ok"),
        ("RecognizeImageStyle", lambda p: p(3000, 20, "WEBP"), "InvalidImage.Resolution"),
        ("ClassifyingRubbish", lambda p: p(100, 100, "BMP"), "InvalidImage.Content"),
        ("DetectFruits", lambda p: p(101, 101, "TIFF"), "ok"),
        ("DetectFruits", lambda p: p(100, 200), "InvalidImage.Resolution"),
        ("EvaluateCertificateQuality", lambda p: p(100, 200), "InvalidImage.Resolution"),
        ("RecognizeFood", lambda p: p(100, 4096, "PNG"), "ok"),
        ("RecognizeFood", lambda p: p(100, 4097, "PNG"), "InvalidImage.Resolution"),
    ],
)
def test_limits_on_format_size_and_pixels(shown, client_of, picture, action, make, code):
    """An image just inside the documented limits is answered and billed; one beyond is refused by its code, free."""
    url = shown("image.bin", make(picture))
    assert client_of(shown.emulator.url).viapi(action, **parameters(action, url)).code == code
    assert shown.emulator.ledger.billed == (code == "ok")


def test_an_image_that_cannot_be_fetched(shown, client_of):
    """A missing object, a dead server and a reference of the wrong form have the codes of the manual."""
    client = client_of(shown.emulator.url)
    assert client.viapi(ImageURL=URL).code == "InvalidImage.Download"
    assert client.viapi(ImageURL="http://127.0.0.1:9/a.jpg").code == "InvalidImage.Download"
    assert client.viapi(ImageURL="ftp://a.example/a.jpg").code == "InvalidImage.URL"


def test_images_in_other_regions_can_be_refused(client_of, tmp_path, picture):
    """Asked to be strict, the gateway takes only OSS in Shanghai (and what the emulator itself serves)."""
    (tmp_path / "a.jpg").write_bytes(picture())
    with running_emulator(images=tmp_path, foreign_hosts="refuse") as emulator:
        client = client_of(emulator.url)
        assert client.viapi(ImageURL="http://bkt.oss-cn-hangzhou.aliyuncs.com/a.jpg").code == "InvalidImage.Region"
        assert client.viapi(ImageURL=URL).code == "ok"
        assert client.viapi(ImageURL=emulator.url + "/_emulator/images/a.jpg").code == "ok"


def test_answers_come_from_the_pixels(shown, client_of, picture):
    """A grey picture is grey in Chinese and in colours, and the same at every call."""
    client = client_of(shown.emulator.url)
    url = shown("grey.png", picture(200, 200, "PNG"))
    first, second = client.viapi(ImageURL=url).json, client.viapi(ImageURL=url).json
    assert {"Value": "灰度", "Confidence": 100} in first["Data"]["Tags"]
    assert first["Data"] == second["Data"]
    assert first["RequestId"] != second["RequestId"]
    colors = client.viapi("RecognizeImageColor", Url=url, ColorCount="1").json["Data"]["ColorTemplateList"]
    assert [color["Label"] for color in colors] == ["gray"]
    assert len(colors[0]["Color"]) == 6


@SYNTHETIC
@pytest.mark.parametrize("scheme", ["rpc", "acs3"])
def test_several_logos_in_one_call(client, emulator, scheme):
    """The logo batch is answered image by image, in the order of the tasks' numbers, and billed as one call."""
    urls = {f"Tasks.{n}.ImageURL": f"http://a.example/{n}.jpg" for n in range(1, 13)}
    answer = client.viapi("RecognizeLogo", scheme=scheme, **urls).json
    assert [element["ImageURL"] for element in answer["Data"]["Elements"]] == list(urls.values())
    assert emulator.ledger.billed == 1
    assert len(emulator.ledger.billed_by_image) == 12


@pytest.mark.emulator(is_synthetic=True, shape="collapsed")
def test_collapsed_lists(client):
    """As the manual prints it, a list of one is an object and a number is not text."""
    answer = client.viapi("RecognizeLogo", **{"Tasks.1.ImageURL": URL}).json
    assert isinstance(answer["Data"]["Elements"], dict)
    assert isinstance(answer["Data"]["Elements"]["Results"], dict)
    found = client.viapi("EvaluateCertificateQuality", ImageURL=URL, Type="IDCard").json["Data"]["Elements"]
    element = found[0] if isinstance(found, list) else found
    assert isinstance(element["Pass"], bool)
    assert isinstance(element["Score"], float)


@SYNTHETIC
@pytest.mark.parametrize("fmt", ["XML", "xml"])
def test_xml_on_request(client, fmt):
    """Answers and errors come as XML when it was asked for, with the roots of the manual."""
    answer = client.viapi(fmt=fmt, ImageURL=URL)
    root = ET.fromstring(answer.body)
    assert root.tag == "TaggingImageResponse"
    assert len(root.findall("Data/Tags/Value")) > 0
    assert ET.fromstring(client.viapi(fmt=fmt).body).findtext("Code") == "InvalidParameter.BadRequest"
    assert answer.headers["content-type"] == "text/xml;charset=utf-8"
