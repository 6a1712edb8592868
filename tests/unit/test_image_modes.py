"""How each image is handed over: as URL, or read here and sent as bytes; made to fit only when that is asked for."""

from __future__ import annotations

import io
import json
from base64 import b64decode

import pytest
from PIL import Image as Pictures

from imgtag_pipeline.errors import ConfigError, PermanentError, RefusedHereError
from imgtag_pipeline.images import check_before
from imgtag_pipeline.images.access import refusal
from imgtag_pipeline.model import Answer, Box, Call, Compute, Image, ReadImage, Tag
from imgtag_pipeline.providers import Keys, OssLabels, TencentV1, TencentV2, Viapi
from imgtag_pipeline.providers.contract import fitting
from imgtag_pipeline.providers.toolkit.image_modes import as_of_original
from imgtag_pipeline.providers.toolkit.precheck import Limits, check_bytes, extension_of
from imgtag_pipeline.tagger.decode import open_picture
from imgtag_pipeline.tagger.fit import fit_image

KEYS = Keys("emulator", "emulator", app_id="1000001")
LIMITS = Limits(("JPEG", "PNG"), 10_000_000)


def picture(kind="PNG", size=(64, 48), mode="RGB", **options) -> bytes:
    buffer = io.BytesIO()
    Pictures.effect_noise(size, 80).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def viapi(action="TaggingImage", **options):
    return Viapi(action=action, credentials=KEYS, **options)


PROVIDERS = [viapi(), TencentV1(credentials=KEYS), TencentV2(credentials=KEYS)]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("url", "is_read"),
    [
        ("https://h.example/a.jpg", False),
        ("https://h.example/a.heic", False),
        ("https://b.oss-cn-shanghai.aliyuncs.com/a.jpg", False),
        ("http://10.0.0.1/a.jpg", True),
        ("http://localhost/a.jpg", True),
        ("s3://bucket/a.jpg", True),
        ("oss://bucket/a.jpg", True),
        ("memory://a.jpg", True),
        ("/home/me/a.jpg", True),
        ("file:///home/me/a.jpg", True),
        ("data:image/png;base64,AAAA", True),
        ("http://[bad/a.jpg", False),
        ("http:///a.jpg", False),
    ],
)
def test_what_the_vendor_cannot_fetch_is_read_here(provider, url, is_read):
    """By default, per image; what the vendor can fetch goes as its URL."""
    assert provider.reads(url) is is_read
    step = next(provider.exchange([Image("k", url)], {}), None)
    assert isinstance(step, ReadImage) is is_read


@pytest.mark.parametrize(
    ("url", "hosts", "is_read"),
    [
        ("https://b.oss-cn-beijing.aliyuncs.com/a.jpg", "region", True),
        ("https://b.oss-cn-beijing.aliyuncs.com/a.jpg?Signature=x&OSSAccessKeyId=y&Expires=1", "region", True),
        ("https://b.oss-cn-beijing.aliyuncs.com/a.jpg", "any", False),
        ("https://example.com/a.jpg", "region", False),
        ("https://example.com/a.jpg", "oss", True),
    ],
)
def test_objects_of_another_region_go_as_bytes(url, hosts, is_read):
    """VIAPI fetches from OSS of Shanghai."""
    assert viapi(image_hosts=hosts).reads(url) is is_read


def test_an_object_that_is_not_public_is_read_with_its_keys():
    """Through its file system, with what the caller gave in storage_options."""
    exchange = viapi().exchange([Image("k", "https://bkt.oss-cn-beijing.aliyuncs.com/d/%E4%B8%AD.jpg")], {})
    assert next(exchange).image.url.startswith("https://")
    step = exchange.throw(PermanentError("forbidden", code="HTTP403"))
    assert (step.image.key, step.image.url) == ("k", "oss://bkt/d/中.jpg")
    assert exchange.send(picture()).operation == "AuthorizeFileUpload"


@pytest.mark.parametrize("mode", ["auto", "url", "bytes"])
@pytest.mark.parametrize("fit", [False, True])
def test_the_manner_is_no_part_of_the_identity(mode, fit):
    """What was asked one way is known the other way, and stores of before stay good."""
    if fit and mode == "url":
        with pytest.raises(ConfigError, match="fit needs the bytes"):
            viapi(image_mode=mode, fit=fit)
        return
    assert viapi(image_mode=mode, fit=fit).identity() == {"provider": "viapi/TaggingImage"}
    assert TencentV1(credentials=KEYS, image_mode=mode, fit=fit).identity() == {"provider": "tencent_v1"}
    assert TencentV2(credentials=KEYS, image_mode=mode, fit=fit).identity() == {"provider": "tencent_v2"}


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/home/me/a.jpg", "LocalNotAllowed"),
        ("a.jpg", "LocalNotAllowed"),
        ("C:\\a.jpg", "LocalNotAllowed"),
        ("file:///a.jpg", "LocalNotAllowed"),
        ("FILE:///a.jpg", "LocalNotAllowed"),
        ("file:a.jpg", "LocalNotAllowed"),
        ("local:///a.jpg", "LocalNotAllowed"),
        ("simplecache::file:///a.jpg", "LocalNotAllowed"),
        ("filecache::local:///a.jpg", "LocalNotAllowed"),
        ("zip://a.jpg::/home/me/a.zip", "LocalNotAllowed"),
        ("zip://a.jpg::simplecache::file:///a.zip", "LocalNotAllowed"),
        ("git://a.jpg", "LocalNotAllowed"),
        ("reference::s3://bucket/a.json", "LocalNotAllowed"),
        ("dir::file:///a", "LocalNotAllowed"),
        ("s3://bucket/a.jpg", None),
        ("zip://a.jpg::s3://bucket/a.zip", None),
        ("memory://a.jpg", None),
        ("data:,a", None),
        ("https://h.example/a.jpg", None),
        ("https://h.example/a.jpg?x=a::b", None),
        ("http://127.0.0.1/a.jpg", "AddressNotPublic"),
        ("ftp://h.example/a.jpg", "AddressNotPublic"),
        ("s3://user@host/a.jpg", "AddressNotPublic"),
    ],
)
@pytest.mark.parametrize("allow_local", [False, True])
@pytest.mark.parametrize("allow_private", [False, True])
def test_what_is_read_needs_the_callers_word(url, code, allow_local, allow_private):
    """Files of this machine by allow_local, private hosts by allow_private; the sentence names the option."""
    error = refusal(url, allow_private=allow_private, allow_local=allow_local)
    found = error.code if error else None
    if code == "LocalNotAllowed" and allow_local:
        assert found != code
    elif code == "AddressNotPublic" and allow_private:
        assert error is None
    else:
        assert found == code
        if error is not None:
            assert isinstance(error, RefusedHereError)
            assert {"LocalNotAllowed": "--allow-local", "AddressNotPublic": "--allow-private"}[code] in str(error)


# --- formats --------------------------------------------------------------------------------------------------------

OTHERS = {
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60),
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(60),
    "ICO": b"\0\0\1\0\1\0\x10\x10" + bytes(60),
    "SVG": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "JP2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
    "PSD": b"8BPS\0\1" + bytes(60),
    "JXL": b"\xff\x0a" + bytes(60),
    "EPS": b"%!PS-Adobe-3.0 EPSF" + bytes(60),
    "GIF": b"GIF89a\x40\0\x40\0" + bytes(60),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_format_has_one_code_in_every_mode(kind):
    """By the extension where the vendor would fetch it, by the bytes where it is read here."""
    by_bytes = check_bytes(OTHERS[kind], LIMITS)
    by_name = extension_of(f"a.{kind.lower()}", LIMITS)
    assert by_bytes.code == by_name.code == "UnsupportedFormat"
    assert str(by_bytes) == str(by_name) == f"the image is {kind}; allowed: JPEG, PNG; convert it first"


@pytest.mark.parametrize(("name", "data"), [("a.pdf", b"%PDF-1.4"), ("a.html", b"<html>"), ("a.zip", b"PK\3\4")])
def test_what_is_no_image_has_one_code_in_every_mode(name, data):
    """Files of other kinds."""
    assert check_bytes(data, LIMITS).code == extension_of(name, LIMITS).code == "NotAnImage"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (picture("PNG"), None),
        (picture("JPEG"), None),
        (picture("BMP"), None),
        (picture("PNG", mode="RGBA"), "NotRGB"),
        (picture("PNG", mode="LA"), "NotRGB"),
        (picture("PNG", mode="L"), "NotRGB"),
        (picture("PNG", mode="P"), "NotRGB"),
        (picture("JPEG", mode="L"), "NotRGB"),
        (picture("JPEG", mode="CMYK"), "NotRGB"),
    ],
)
def test_colours_are_told_from_the_header(data, code):
    """Two actions take three channels only; others do not mind."""
    error = viapi("RecognizeImageColor").check_head(data, len(data))
    assert (error.code if error else None) == code
    assert error is None or "fit=True" in str(error)
    assert viapi().check_head(data, len(data)) is None
    assert viapi("RecognizeImageColor", fit=True).check_head(data, len(data)) is None


# --- before a call --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.png", picture(), None),
        ("a.png", b"", "EmptyFile"),
        ("missing.png", None, "NotFound"),
        ("a.png", OTHERS["HEIC"], "UnsupportedFormat"),
        ("a.png", b"hello", "NotAnImage"),
        ("a.png", picture() + bytes(3 << 20), "ImageTooLarge"),
        ("a.png", picture(size=(4, 40)), "TooFewPixels"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_what_fails_here_is_known_before_a_call(tmp_path, name, data, code, form):
    """Size and first bytes of a file of this machine tell it."""
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    provider = viapi(image_mode="bytes")
    error = check_before(provider, form.format(path), allow_private=False, allow_local=True)
    assert (error.code if error else None) == code


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("foo://bucket/a.jpg", "UnsupportedScheme"),
        ("memory://a.jpg", None),
        ("https://h.example/a.jpg", None),
        ("https://h.example/a.heic", None),
        ("data:,hello", "NotAnImage"),
        ("data:image/png", "NotReadable"),
        ("http://10.0.0.1/a.jpg", "AddressNotPublic"),
    ],
)
def test_what_is_elsewhere_is_told_by_its_reference_alone(url, code):
    """Nothing is fetched for a plan."""
    error = check_before(viapi(image_mode="bytes"), url, allow_private=False, allow_local=True)
    assert (error.code if error else None) == code


def test_a_folder_and_a_pipe_are_not_opened(tmp_path):
    """A pipe would hold whoever opens it."""
    import os

    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        error = check_before(viapi(), str(tmp_path / name), allow_private=False, allow_local=True)
        assert error.code == "NotAFile"


# --- fitting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "limits", "size"),
    [
        (picture("WEBP", (300, 200)), {}, (300, 200)),
        (picture("GIF", (300, 200)), {}, (300, 200)),
        (picture("TIFF", (300, 200), "I;16"), {}, (300, 200)),
        (picture("PNG", (300, 200), "RGBA"), {"max_side": 150}, (150, 100)),
        (picture("JPEG", (300, 200)), {"max_pixels": 15_000}, (150, 100)),
        (picture("JPEG", (3000, 2000)), {"max_side": 1280}, (1280, 853)),
        (picture("AVIF", (300, 200)), {"max_side": 150}, (150, 100)),
        (picture("JPEG2000", (300, 200)), {}, (300, 200)),
    ],
)
def test_an_image_is_fitted_into_the_limits(data, limits, size):
    """As a JPEG; no smaller than it has to be."""
    known = {"max_bytes": 3 << 20, "min_side": 6, "max_side": None, "max_pixels": None} | limits
    made = fit_image(data, **known)
    with Pictures.open(io.BytesIO(made.data)) as found:
        assert (found.format, found.size) == ("JPEG", size) == ("JPEG", (made.width, made.height))
    assert check_bytes(made.data, Limits(("JPEG",), **known)) is None


def test_too_many_bytes_are_shrunk_until_they_fit():
    """Quality first, then size."""
    data = picture("BMP", (1200, 900))
    made = fit_image(data, max_bytes=40_000, min_side=10, max_side=None, max_pixels=None)
    assert len(made.data) <= 40_000
    assert made.width / made.height == pytest.approx(4 / 3, abs=0.02)


def test_what_no_size_can_satisfy_is_said():
    """A long strip has no side left when it is short enough; nothing is made larger."""
    with pytest.raises(PermanentError, match="all limits at once") as caught:
        fit_image(picture(size=(4000, 110)), max_bytes=None, min_side=100, max_side=1000, max_pixels=None)
    assert caught.value.code == "CannotBeFitted"


def test_a_turned_photograph_stays_turned():
    """The vendor turns the fitted image as it would have turned the original."""
    exif = Pictures.Exif()
    exif[0x0112] = 6
    made = fit_image(
        picture("WEBP", (300, 200), exif=exif), max_bytes=None, min_side=None, max_side=150, max_pixels=None
    )
    with Pictures.open(io.BytesIO(made.data)) as found:
        assert (found.getexif()[0x0112], found.size) == (6, (150, 100))


def fitted_call(provider, url, data):
    """The call that is made about these bytes."""
    exchange = provider.exchange([Image("k", url)], {})
    step = next(exchange)
    if isinstance(step, ReadImage):
        step = exchange.send(data)
    if isinstance(step, Compute):
        step = exchange.send(step.function())
    assert isinstance(step, Call)
    return exchange, step


def test_with_fit_only_what_would_be_refused_is_changed():
    """A good image goes byte for byte, or as its URL where the vendor can fetch it."""
    provider = fitting(TencentV1(credentials=KEYS))
    good, other = picture(), picture("WEBP")
    assert json.loads(fitted_call(provider, "https://h.example/a.png", good)[1].request.body)["url"]
    sent = json.loads(fitted_call(provider, "/home/a.png", good)[1].request.body)
    assert b64decode(sent["image"]) == good
    sent = json.loads(fitted_call(provider, "https://h.example/a.webp", other)[1].request.body)
    assert b64decode(sent["image"])[:3] == b"\xff\xd8\xff"


def test_with_fit_what_this_machine_cannot_reach_goes_as_its_url():
    """The vendor may reach it."""
    exchange = fitting(TencentV1(credentials=KEYS)).exchange([Image("k", "https://h.example/a.png")], {})
    next(exchange)
    call = exchange.throw(PermanentError("no", code="HTTP403"))
    assert json.loads(call.request.body)["url"] == "https://h.example/a.png"


def outcome_of(provider, url, data):
    """What an exchange without a call comes to."""

    def talk():
        exchange = provider.exchange([Image("k", url)], {})
        assert isinstance(next(exchange), ReadImage)
        exchange.send(data)

    with pytest.raises(StopIteration) as done:
        talk()
    return done.value.value


@pytest.mark.parametrize(
    ("url", "data", "code"),
    [
        ("https://h.example/a.webp", None, "UnsupportedFormat"),
        ("/home/a.webp", picture("WEBP"), "UnsupportedFormat"),
        ("/home/a.jpg", picture(size=(2600, 50)), "TooManyPixels"),
        ("/home/a.jpg", picture() + bytes(10 << 20), "ImageTooLarge"),
    ],
)
def test_a_failure_that_fit_mends_names_it(url, data, code):
    """By its words in Python and on the command line."""
    (error,) = outcome_of(viapi("RecognizeImageColor"), url, data)
    assert (type(error), error.code) == (PermanentError, code)
    assert "fit=True (--fit)" in str(error)


@pytest.mark.parametrize("data", [picture(size=(4, 40)), b"hello", OTHERS["SVG"]])
def test_a_failure_that_fit_does_not_mend_does_not_name_it(data):
    """Too few pixels, no image at all, a drawing."""
    (error,) = outcome_of(viapi(), "/home/a.png", data)
    assert isinstance(error, PermanentError)
    assert "fit" not in str(error)


def test_answers_about_a_fitted_image_speak_of_the_original():
    """Boxes in its pixels; how it was fitted stands in `extra`."""
    made = fit_image(picture(size=(400, 300)), max_bytes=None, min_side=None, max_side=200, max_pixels=None)
    tag = Tag("a", box=Box(10, 20, 30, 40), extra={"kept": 1})
    (found,) = as_of_original(Answer((tag,)), made).tags
    assert found.box == Box(20, 40, 60, 80)
    assert found.extra["kept"] == 1
    assert found.extra["fit"]["from"].startswith("PNG 400x300, ")
    assert found.extra["fit"]["to"].startswith("JPEG 200x150, ")


def test_fit_is_refused_where_no_bytes_are_sent():
    """One sentence."""
    with pytest.raises(ConfigError, match="'oss_labels' does not"):
        fitting(OssLabels(region="cn-hangzhou", credentials=KEYS))


# --- HEIC -----------------------------------------------------------------------------------------------------------


def test_heic_names_the_package_that_reads_it(monkeypatch):
    """For the local tagger as for a vendor, and a later run asks again."""
    monkeypatch.setattr("imgtag_pipeline.tagger.decode.find_spec", lambda name: None)
    with pytest.raises(RefusedHereError, match=r"imgtag_pipeline\[heif\]") as caught:
        open_picture(OTHERS["HEIC"])
    assert caught.value.code == "UnsupportedFormat"
    error = viapi().precheck("https://h.example/a.heic")
    assert "fit=True (--fit)" in str(error)
    assert "imgtag_pipeline[heif]" in str(error)


def test_heic_is_read_where_the_package_is_installed():
    """Photographs of telephones, tagged here or fitted for a vendor."""
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Pictures.new("RGB", (64, 48), "teal")).save(buffer)
    found = open_picture(buffer.getvalue())
    assert (found.width, found.height) == (64, 48)
    made = fit_image(buffer.getvalue(), max_bytes=None, min_side=None, max_side=32, max_pixels=None)
    assert (made.format, made.width, made.height) == ("HEIC", 32, 24)


@pytest.mark.parametrize("data", [picture("JPEG")[:400], picture("PNG")[:3000], b"GIF89a\x40\0\x40\0"])
def test_a_torn_image_is_not_fitted(data):
    """One error for whatever Pillow says."""
    with pytest.raises(PermanentError) as caught:
        fit_image(data, max_bytes=100, min_side=None, max_side=10, max_pixels=None)
    assert caught.value.code == "TornImage"


def test_a_later_run_tells_of_a_fitted_job_as_the_first_would():
    """The job's id is all that is kept; fitting the image again gives the same boxes."""
    from datetime import UTC, datetime

    from imgtag_pipeline.model import Job, Reply

    provider = viapi("TaggingAdImage", fit=True)
    data = picture("WEBP")
    exchange = provider.exchange([Image("k", "/home/a.webp")], {"k": Job("job-1", datetime.now(UTC))})
    assert next(exchange).operation == "GetAsyncJobResult"
    found = {"sceneInfo": [[{"category": "beach", "score": 0.5}]]}
    result = json.dumps({"tags": [{"value": json.dumps({"tagInfo": found})}]})
    body = {"RequestId": "r", "Data": {"Status": "PROCESS_SUCCESS", "Result": result}}
    step = exchange.send(Reply(200, {}, json.dumps(body).encode()))
    assert isinstance(step, ReadImage)
    step = exchange.send(data)
    with pytest.raises(StopIteration) as done:
        exchange.send(step.function())
    ((tag,),) = [answer.tags for answer in done.value.value]
    assert (tag.name, "fit" in tag.extra) == ("beach", True)
