"""What cannot be read: every broken, hostile or foreign file is a `PermanentError` with a code, and nothing else."""

import io
import struct
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.tagger import FORMATS, describe


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(size=(64, 48)):
    """A small picture with something in it."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    return Image.fromarray(np.stack([x * 3 % 256, y * 5 % 256, (x * y) % 256], -1).astype(np.uint8))


def png_header(width, height, body=b""):
    """A PNG that claims a size, with `body` as its compressed pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def gif_header(width, height):
    frame = b"," + struct.pack("<HHHH", 0, 0, width, height) + b"\x00\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\x00\x00" + b"\x00" * 6 + frame + b";"


def webp_header(width, height):
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x00" * 4 + size + b"\x00" * 8


def bmp_header(width, height):
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + info


def jpeg_header(width, height):
    data = bytearray(encoded(photo(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def code(data, **options):
    with pytest.raises(PermanentError) as caught:
        describe(data, **options)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert caught.value.billing == "no"
    return caught.value.code


@pytest.mark.parametrize(
    "data",
    [
        png_header(20_000, 10_000),
        png_header(2**31 - 1, 2**31 - 1),
        gif_header(20_000, 10_000),
        webp_header(20_000, 10_000),
        webp_header(2**24, 2**24),
        bmp_header(20_000, 10_000),
        jpeg_header(20_000, 10_000),
    ],
    ids=["png", "png-extreme", "gif", "webp", "webp-extreme", "bmp", "jpeg"],
)
def test_a_200_megapixel_header_is_refused_before_anything_is_decoded(data):
    """The claim is enough: too many pixels, with both numbers in the message, and no warning of Pillow's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert code(data) == "TooManyPixels"


def test_the_limit_on_pixels_is_the_callers():
    """One pixel over is refused, and the message says how many are allowed."""
    data = encoded(photo((100, 50)))
    assert describe(data, max_pixels=5000)
    with pytest.raises(PermanentError, match=r"100x50 pixels; at most 4,999 are read"):
        describe(data, max_pixels=4999)


def test_a_picture_above_pillows_own_limit_is_read_without_a_warning():
    """Between Pillow's 89 million pixels and ours lies no warning."""
    data = encoded(Image.new("1", (9500, 9600)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {tag.name for tag in describe(data)} >= {"black", "dark"}


def test_a_png_that_inflates_without_end_stops_at_its_size():
    """A compressed flood behind a small header costs no more than the header allows."""
    bomb = zlib.compress(b"\x00" * 50_000_000, 9)
    assert {tag.name for tag in describe(png_header(40, 30, bomb))} >= {"black", "landscape"}


def test_a_gif_of_thousands_of_frames_costs_one():
    """Frames after the second are not even counted."""
    frame = b"!\xf9\x04\x00\x0a\x00\x00\x00," + struct.pack("<HHHH", 0, 0, 900, 900) + b"\x00\x02\x02\x44\x01\x00"
    first = encoded(Image.new("RGB", (900, 900), "red"), "GIF").rstrip(b";")
    found = {tag.name: tag for tag in describe(first + frame * 20_000 + b";")}
    assert found["animated"].extra["value"] == 2
    assert "red" in found


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        (b"", "EmptyFile", "0 bytes"),
        (b"<!DOCTYPE html><html><body>404", "NotAnImage", "this is HTML"),
        (b"\xef\xbb\xbf\n  <HTML>", "NotAnImage", "this is HTML"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "NotAnImage", "this is XML"),
        (b'{"error": "gone"}', "NotAnImage", "this is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "NotAnImage", "this is plain text"),
        (b"%PDF-1.7", "NotAnImage", "a PDF document"),
        (b"PK\x03\x04...", "NotAnImage", "ZIP"),
        (b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "NotAnImage", "a video"),
        (bytes(range(200)), "NotAnImage", "unknown data"),
        (b"   \n", "NotAnImage", "blanks"),
        (b'<?xml version="1.0"?>\n<svg xmlns="x"/>', "UnsupportedFormat", "SVG"),
        (b"\x00\x00\x01\x00\x01\x00\x10\x10", "UnsupportedFormat", "icon"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "UnsupportedFormat", "PostScript"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(data, expected, words):
    """The message says what the file is instead, so that the row explains itself."""
    assert code(data) == expected
    with pytest.raises(PermanentError, match=words):
        describe(data)


def test_the_named_formats_are_the_ones_that_are_read():
    """What `FORMATS` promises is decoded here."""
    for kind in FORMATS:
        assert describe(encoded(photo(), kind)), kind


@pytest.mark.parametrize("kind", FORMATS)
def test_half_a_file_is_torn(kind):
    """A download that broke off is a failed row, whatever the format."""
    data = encoded(photo((200, 150)), kind)
    assert code(data[: len(data) // 2]) == "TornImage"


def test_a_torn_progressive_jpeg_is_torn():
    """Half the scans would give a picture; it is not passed off as the whole."""
    data = encoded(photo((200, 150)), "JPEG", progressive=True)
    assert code(data[: len(data) * 2 // 3]) == "TornImage"


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("1", "TIFF"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
        ("I", "TIFF"),
        ("I;16", "PNG"),
        ("I;16", "TIFF"),
        ("F", "TIFF"),
    ],
)
def test_every_pixel_mode_is_read(mode, kind):
    """A light grey picture is light grey in all modes that files come in."""
    if mode == "I;16":
        image = Image.fromarray(np.full((40, 60), 190 * 257, np.uint16))
    elif mode == "I":
        image = Image.fromarray(np.full((40, 60), 190 * 257, np.int32))
    elif mode == "F":
        image = Image.fromarray(np.full((40, 60), 0.75, np.float32))
    else:
        image = Image.new("RGB", (60, 40), (190, 190, 190)).convert(mode, dither=Image.Dither.NONE)
    found = {tag.name for tag in describe(encoded(image, kind))}
    assert {"greyscale", "landscape"} <= found
    assert found & {"gray", "white"}


def test_floating_point_pixels_of_any_range_are_read():
    """Negative, infinite and missing values are pixels too."""
    values = np.linspace(-5, 9, 2400, dtype=np.float32).reshape(40, 60)
    values[0, :3] = np.nan, np.inf, -np.inf
    assert describe(encoded(Image.fromarray(values), "TIFF"))
    assert describe(encoded(Image.fromarray(np.full((40, 60), -3.0, np.float32)), "TIFF"))


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_a_palette_with_transparency_is_read(transparency):
    """A see-through palette entry, or one alpha for each."""
    assert describe(encoded(photo().convert("P"), "PNG", transparency=transparency))


def test_a_damaged_exif_block_does_not_cost_the_picture():
    """The pixels are fine; only the notes beside them are not."""
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff\x01\x12")
    assert "landscape" in {tag.name for tag in describe(data)}


SEEDS = [encoded(photo(), kind) for kind in FORMATS] + [
    encoded(photo(), "JPEG", progressive=True),
    encoded(photo().convert("P"), "PNG", transparency=1),
    encoded(photo(), "TIFF", compression="tiff_lzw"),
    encoded(photo(), "GIF", save_all=True, append_images=[photo().rotate(90)]),
    encoded(photo(), "WEBP", save_all=True, append_images=[photo().rotate(90)]),
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=400, deadline=None)
@given(
    data=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=12),
    cut=st.integers(0, 1 << 20),
    is_cut=st.booleans(),
)
def test_no_damage_makes_anything_but_a_permanent_error(data, changes, cut, is_cut):
    """Flipped and missing bytes: tags or a `PermanentError`, never another exception."""
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    if is_cut:
        del damaged[cut % len(damaged) :]
    with suppress(PermanentError):
        assert describe(bytes(damaged), max_pixels=2_000_000)


@given(st.binary(max_size=300))
def test_random_bytes_are_no_image(data):
    """Noise is refused like anything else that is not an image."""
    with pytest.raises(PermanentError):
        describe(data)
