"""Tencent's own SDK, qcloud_image, talks to the emulator unchanged, which stands in as its HTTP proxy."""

import pytest

qcloud_image = pytest.importorskip("qcloud_image")

pytestmark = pytest.mark.sdk


@pytest.fixture
def sdk(emulator, monkeypatch):
    """Builds the SDK's client; it has no setting for its host, but `requests` knows about proxies."""
    monkeypatch.setenv("http_proxy", emulator.url)
    monkeypatch.setenv("no_proxy", "")
    return lambda secret="emulator": qcloud_image.Client("1000001", "emulator", secret, "bucket")


def test_a_file_and_bytes(sdk, emulator, picture, tmp_path):
    """Each way of giving the image is verified, answered and parsed; bytes go without a Content-Type."""
    path = tmp_path / "a.jpg"
    path.write_bytes(picture())
    client = sdk()
    by_file = client.tag_detect(qcloud_image.CIFile(str(path)))
    by_bytes = client.tag_detect(qcloud_image.CIBuffer(picture()))
    assert (by_file["code"], by_file["message"], by_file["httpcode"]) == (0, "success", 200)
    assert by_file["tags"] == by_bytes["tags"] != []
    assert emulator.ledger.billed == 2


@pytest.mark.emulator(is_synthetic=True)
def test_a_url(sdk, emulator):
    """A URL is labelled under the SDK's own host name."""
    answer = sdk().tag_detect(qcloud_image.CIUrl("http://a.example/a.jpg"))
    assert answer["code"] == 0
    assert {"tag_name", "tag_confidence"} == set(answer["tags"][0])
    assert emulator.ledger.billed_by_image == {"http://a.example/a.jpg": 1}


@pytest.mark.emulator(is_synthetic=True)
def test_a_wrong_secret(sdk, emulator):
    """A wrong secret is code 14, and free."""
    assert sdk("wrong").tag_detect(qcloud_image.CIUrl("http://a.example/a.jpg"))["code"] == 14
    assert emulator.ledger.billed == 0
