"""`local` as a provider: its conversation, its keys, its limits."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.model import Answer, Compute, ReadImage
from imgtag_pipeline.model import Image as Ref
from imgtag_pipeline.providers import get
from imgtag_pipeline.providers.contract import Provider
from imgtag_pipeline.providers.local import Local
from imgtag_pipeline.providers.without_vendor import completed

RED = io.BytesIO()
Image.new("RGB", (40, 30), "red").save(RED, "PNG")


def converse(provider, data):
    """The steps that the provider asked for, and what it answered, when its picture is `data`."""
    exchange = provider.exchange([Ref("a.png", "a.png")], {})
    steps = [exchange.send(None), exchange.send(data)]
    try:
        exchange.send(steps[1].function())
    except StopIteration as done:
        return steps, done.value
    raise AssertionError("the conversation goes on")


def test_it_reads_the_picture_and_computes_off_the_loop():
    """Two steps: the bytes, then a pure function for a thread; tags come back in one answer."""
    (reading, computing), (answer,) = converse(Local(max_bytes=1000, timeout=7), RED.getvalue())
    assert isinstance(reading, ReadImage)
    assert (reading.max_bytes, reading.timeout) == (1000, 7)
    assert isinstance(computing, Compute)
    assert computing.timeout == 7
    assert isinstance(answer, Answer)
    assert answer.tags[0].name == "red"


def test_a_picture_that_cannot_be_read_fails_alone():
    """The tagger's error goes through the conversation as it is."""
    with pytest.raises(PermanentError) as caught:
        converse(Local(), b"<html>")
    assert caught.value.code == "NotAnImage"


def test_its_limits_are_its_options():
    """max_pixels and color_count reach the tagger."""
    with pytest.raises(PermanentError) as caught:
        converse(Local(max_pixels=100), RED.getvalue())
    assert caught.value.code == "TooManyPixels"
    stripes = Image.new("RGB", (40, 30), "red")
    stripes.paste((0, 0, 255), (0, 0, 15, 30))
    file = io.BytesIO()
    stripes.save(file, "PNG")
    _, (answer,) = converse(Local(color_count=1), file.getvalue())
    assert [tag.name for tag in answer.tags if tag.kind == "color"] == ["red"]


def test_it_is_a_provider_that_costs_nothing():
    """The contract holds; no quota, no price."""
    local = get("local", color_count=5)
    assert isinstance(local, Provider)
    assert local == completed(Local(color_count=5))
    assert (local.address, local.batch_size, local.quota.qps) == ("local", 1, None)
    assert local.price.tiers == ((None, 0),)


def test_identity_holds_what_changes_results():
    """More colours are another identity; larger limits are not."""
    assert Local().identity() == Local(max_pixels=5, max_bytes=5, timeout=5).identity()
    assert Local().identity() != Local(color_count=4).identity()


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://h/a.jpg?x=1&OSSAccessKeyId=k&Expires=1800000000&Signature=" + "s" * 27, "https://h/a.jpg?x=1"),
        ("s3://bucket/a.jpg", "s3://bucket/a.jpg"),
        ("/data/what?Signature=a&OSSAccessKeyId=b.jpg", "file:///data/what%3FSignature=a&OSSAccessKeyId=b.jpg"),
    ],
)
def test_an_image_is_known_by_its_unsigned_url_or_its_path(url, key):
    """Signed anew is the same image; of a path every letter counts."""
    assert Local().key(url) == key


def test_a_data_url_has_a_short_key():
    """A picture inside its own URL is known by a digest, not by a megabyte of text."""
    one, other = (Local().key(f"data:image/png;base64,{text}" * 1000) for text in ("AAAA", "BBBB"))
    assert one != other
    assert len(one) < 100


@pytest.mark.parametrize(
    "options",
    [
        {"color_count": 0},
        {"color_count": 11},
        {"color_count": 2.5},
        {"color_count": True},
        {"max_pixels": 0},
        {"max_bytes": -1},
        {"timeout": 0},
        {"timeout": float("nan")},
    ],
)
def test_wrong_options_are_said_in_one_sentence(options):
    """What was given, and what is allowed."""
    (name,) = options
    with pytest.raises(ConfigError, match=rf"^{name} is .*; allowed: a (whole )?number from \S+ to \S+$"):
        Local(**options)


def test_pillow_is_imported_when_the_first_picture_is_tagged():
    """Naming the default provider costs no image library."""
    code = "import sys; from imgtag_pipeline.providers import get; get('local'); sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
