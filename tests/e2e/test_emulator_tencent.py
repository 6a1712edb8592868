"""Tencent's image tagging at the emulator, V1 and V2: the token, the body, the codes and the labels."""

import base64
import http.client
import json
from datetime import UTC, datetime, timedelta

import pytest

from imgtag_pipeline.core.signing import tencent
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.emulator.tencent_image.codes import V1_CODES, V2_CODES
from imgtag_pipeline.testing import running_emulator

SYNTHETIC = pytest.mark.emulator(
    is_synthetic=True, accounts=(Account(), Account("other", "other", app_id="2000002", name="other"))
)
URL = "http://a.example/a.jpg"
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
APP_ID = {"v1": "appid", "v2": "app_id"}


def fields(version, app_id="1000001", **more):
    return {APP_ID[version]: app_id, **more}


@SYNTHETIC
def test_v1_answers_in_chinese_unsorted(client, emulator):
    """V1 gives Chinese tags with whole numbers of 0 to 100, not in order of confidence."""
    answer = client.tencent("v1", fields("v1", url=URL))
    assert (answer.status, answer.code, answer.json["message"]) == (200, "ok", "success")
    numbers = [tag["tag_confidence"] for tag in answer.json["tags"]]
    assert all(isinstance(number, int) for number in numbers)
    assert numbers != sorted(numbers, reverse=True)
    assert emulator.ledger.billed_by_image == {URL: 1}


@SYNTHETIC
@pytest.mark.parametrize("name", ["app_id", "App_ID"])
def test_v2_answers_in_english(client, name):
    """V2 takes either spelling of the app id, and gives a list of items with probabilities of 0 to 1."""
    answer = client.tencent("v2", {name: "1000001", "url": URL}).json
    assert answer["code"] == 0
    items = answer["data"][0]["items"]
    assert all(0 <= item["probability"] <= 1 and item["label_name"][0].isupper() for item in items)


@pytest.mark.emulator(is_synthetic=True, shape="collapsed")
def test_v2_as_its_table_words_it(client):
    """In the collapsed shape `data` is an object and the name is `level_name`."""
    assert "level_name" in client.tencent("v2", fields("v2", url=URL)).json["data"]["items"][0]


@VERSIONS
def test_base64_form_and_missing_content_type(client, emulator, picture, version):
    """The same bytes as base64 without a Content-Type, and as a form, are the same image with the same labels."""
    text = base64.b64encode(picture()).decode()
    plain = client.tencent(version, fields(version, image=text), headers={"Content-Type": None})
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{APP_ID[version]}"\r\n\r\n1000001\r\n'.encode(),
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + picture() + b"\r\n--b--\r\n",
    ]
    form = client.tencent(version, b"".join(parts), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert plain.json == form.json
    assert plain.code == "ok"
    assert list(emulator.ledger.billed_by_image.values()) == [2]


@SYNTHETIC
@VERSIONS
@pytest.mark.parametrize(
    ("call", "code", "status"),
    [
        ({"secret": "wrong"}, "14", 403),
        ({"key": "nobody"}, "11", 403),
        ({"app_id": "2000002"}, "12", 403),
        ({"app_id": "9999999"}, "10", 403),
        ({"now": datetime.now(UTC) - timedelta(minutes=1)}, "9", 403),
        ({"headers": {"Authorization": "no token"}}, "5", 403),
        ({"headers": {"Authorization": None}}, "4", 401),
    ],
)
def test_a_token_that_is_not_accepted(client, emulator, version, call, code, status):
    """Wrong key, id, app id, an old token and none have their codes; V2 says so in the HTTP status as well."""
    answer = client.tencent(version, fields(version, call.get("app_id", "1000001"), url=URL), **call)
    assert (answer.code, answer.status) == (code, 200 if version == "v1" else status)
    assert emulator.ledger.billed == 0


@SYNTHETIC
def test_a_token_is_read_by_name_and_verified_as_received(client):
    """Fields in another order, with others among them, are accepted; a token may be used again until it expires."""
    now = int(datetime.now(UTC).timestamp())
    for text in (
        f"a=1000001&k=emulator&e={now + 30}&t={now}&r=7",
        f"a=1000001&b=bkt&k=emulator&t={now}&e={now + 30}&u=0&f=",
    ):
        headers = {"Authorization": tencent.token(text, "emulator")}
        codes = [client.tencent("v1", fields("v1", url=URL), headers=headers).code for _ in range(2)]
        assert codes == ["ok", "ok"]
    for text in (f"a=1000001&k=emulator&e=0&t={now}&f=x", f"a=1000001&k=emulator&e={now + 10**8}&t={now}"):
        headers = {"Authorization": tencent.token(text, "emulator")}
        assert client.tencent("v1", fields("v1", url=URL), headers=headers).code == "5"


@SYNTHETIC
@VERSIONS
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"app_id": "2000002", "appid": "2000002", "url": URL}, "6"),
        ({"url": URL}, "-1301"),
        ({"app_id": "1000001", "appid": "1000001"}, "-1301"),
        ({"app_id": "1000001", "appid": "1000001", "image": ""}, "-1300"),
        ({"app_id": "1000001", "appid": "1000001", "image": 5}, "21"),
        ({"app_id": "1000001", "appid": "1000001", "image": "data:image/png;base64,AAAA"}, "-1102"),
        ({"app_id": "1000001", "appid": "1000001", "url": "no url"}, "-1505"),
        ({"app_id": "1000001", "appid": "1000001", "url": "http://a/" + "x" * 2048}, "-1304"),
    ],
)
def test_a_body_that_is_not_accepted(client, version, body, code):
    """A wrong or missing app id, image or URL has its code; a URL wins over bytes."""
    assert client.tencent(version, body).code == code
    assert client.tencent(version, fields(version, url=URL, image="junk")).code == "ok"


@SYNTHETIC
def test_a_body_that_is_no_json(client):
    """The example of the manual, with its trailing comma, is malformed: code 3 in V1, HTTP 400 in V2."""
    body = b'{"app_id": "1000001", "image": "AAAA",}'
    assert client.tencent("v1", body).code == "3"
    assert client.tencent("v2", body).status == 400


@SYNTHETIC
def test_bodies_of_unknown_and_excessive_length(client):
    """V2 wants a Content-Length (411); more than 6 MB is too large (413, code 23 in V1)."""
    large = json.dumps({"image": "A" * (6 << 20)}).encode()
    assert client.tencent("v2", large).status == 413
    assert client.tencent("v1", large).code == "23"
    connection = http.client.HTTPConnection(client.host)
    connection.request("POST", "/imagetag/picture_classify", iter([b"{}"]), encode_chunked=True)
    assert connection.getresponse().status == 411
    connection.close()


@SYNTHETIC
@pytest.mark.parametrize(("version", "code"), [("v1", code) for code in V1_CODES] + [("v2", code) for code in V2_CODES])
def test_every_documented_error_on_demand(client, version, code):
    """A call can ask for any documented code, and in V2 for any documented HTTP status without a JSON body."""
    answer = client.tencent(version, fields(version, url=URL), headers={"x-emulator-fault": f"error:{code}"})
    if code.startswith("HTTP"):
        assert (f"HTTP{answer.status}", answer.body) == (code, b"")
    else:
        assert answer.code == code


def test_codes_of_images(client_of, tmp_path, picture):
    """What cannot be fetched or read has the code of its cause, and counts as billed since nobody says otherwise."""
    for name, data in {"a.html": b"<html>", "torn.jpg": picture()[:1500], "a.gif": picture(9, 9, "GIF", "L")}.items():
        (tmp_path / name).write_bytes(data)
    with running_emulator(images=tmp_path) as emulator:
        client = client_of(emulator.url)

        def codes(name):
            url = f"{emulator.url}/_emulator/images/{name}"
            return tuple(client.tencent(version, fields(version, url=url)).code for version in ("v1", "v2"))

        assert codes("missing.jpg") == ("-1308", "-1308")
        assert codes("a.html") == ("-1400", "-1102")
        assert codes("torn.jpg") == ("-1102", "-1102")
        assert codes("a.gif") == ("-1400", "ok")
        assert emulator.ledger.billed == 8


@pytest.mark.emulator(is_synthetic=True, qps=1.0)
@VERSIONS
def test_too_fast(client, version):
    """Over the quota the code is 15."""
    codes = {client.tencent(version, fields(version, url=URL)).code for _ in range(3)}
    assert codes == {"ok", "15"}


@VERSIONS
def test_a_chunked_body_is_refused_by_v2_alone(emulator, version):
    """V2's manual asks for a Content-Length and answers 411 without; V1's says nothing of it."""
    path = {"v1": "/v1/detection/imagetag_detect", "v2": "/imagetag/picture_classify"}[version]
    connection = http.client.HTTPConnection(emulator.url.removeprefix("http://"), timeout=10)
    connection.request("POST", path, iter([b'{"url"', b": 1}"]), encode_chunked=True)
    reply = connection.getresponse()
    assert reply.status == {"v1": 200, "v2": 411}[version]
    connection.close()
