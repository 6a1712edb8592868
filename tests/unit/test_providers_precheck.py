"""What the first bytes of an image tell, compared with real files, and that broken headers only tell less."""

from __future__ import annotations

import io
import random

import pytest
from PIL import Image

from imgtag_pipeline.providers.toolkit.precheck import Header, Limits, check_bytes, check_reference, sniff

LIMITS = Limits(("JPEG", "PNG"), 10_000, min_side=6, max_side=2000, max_pixels=1_000_000)


def picture(kind, size=(61, 37), **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + bytes(40_000)}),
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0MM\0*"}),
        ("TIFF", {}),
        ("TIFF", {"big_endian": True}),
    ],
)
def test_format_and_size_are_read_from_the_header(kind, options):
    """Of every format that a vendor takes, as Pillow writes them."""
    assert sniff(picture(kind, **options)) == Header(kind, 61, 37)


@pytest.mark.parametrize("data", [b"", b"<html>", b"II*\0", b"\xff\xd8\xff", b"RIFF0000WEBPVP9 ", b"BM" + bytes(24)])
def test_a_header_that_is_cut_tells_less(data):
    """A size that is not known is not refused."""
    header = sniff(data)
    assert header is None or header.width in (None, 0)


def test_broken_headers_never_fail_and_never_take_long():
    """Bytes at random after a right beginning."""
    chance = random.Random(1)
    starts = [picture(kind)[:40] for kind in ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")]
    for _ in range(3000):
        sniff(chance.choice(starts)[: chance.randrange(41)] + chance.randbytes(chance.randrange(60)))
    sniff(b"\xff" * 5_000_000)
    sniff(b"\xff\xd8\xff\xe0\0\2" * 1_000_000)


@pytest.mark.parametrize(
    ("data", "code", "named"),
    [
        (picture("PNG"), None, None),
        (b"", "EmptyFile", "0 bytes"),
        (bytes(10_001), "ImageTooLarge", "10,000"),
        (b"no image", "NotAnImage", "JPEG, PNG"),
        (picture("GIF"), "UnsupportedFormat", "JPEG, PNG"),
        (picture("PNG", (5, 50)), "TooFewPixels", "6"),
        (picture("PNG", (2001, 6)), "TooManyPixels", "2,000"),
        (picture("PNG", (1100, 1100)), "TooManyPixels", "1,000,000"),
        (b"\xff\xd8\xff\xe0", None, None),
    ],
)
def test_the_error_names_the_limit(data, code, named):
    """The row says what is allowed."""
    error = check_bytes(data, LIMITS)
    assert (error.code if error else None) == code
    if error is not None:
        assert named in str(error)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://h.example/a.jpeg", None),
        ("https://h.example/a.jfif", None),
        ("https://h.example/.png", None),
        ("https://h.example/a.unknown", None),
        ("https://h.example/a.gif?b", None),
        ("https://h.example/a.gif#b", "UnsupportedFormat"),
        ("https://h.example/a%2Egif", "UnsupportedFormat"),
        ("https://192.168.1.1/a.png", "HostNotPublic"),
        ("https://printer.local/a.png", "HostNotPublic"),
        ("https://8.8.8.8/a.png", None),
        ("ftp://h.example/a.png", "UnsupportedScheme"),
        ("", "UnsupportedScheme"),
    ],
)
def test_a_reference_alone_tells_some(url, code):
    """By scheme, host and extension; no name is looked up."""
    error = check_reference(url, LIMITS)
    assert (error.code if error else None) == code
