"""The safe decoder: bytes of unknown origin become upright RGB pixels, or one error of ours."""

import io

import numpy as np
import pytest
from PIL import Image

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.images import upright_rgb


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def corners():
    """Four colours, so that every way of turning it looks different."""
    image = Image.new("RGB", (40, 20), "red")
    image.paste("lime", (20, 0, 40, 10))
    image.paste("blue", (0, 10, 20, 20))
    return image


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_every_orientation_comes_out_upright(kind, orientation):
    """As a viewer shows it, whichever of the eight ways the pixels are stored."""
    stored = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    upright = corners()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_of(upright if stored is None else upright.transpose(stored), kind, exif=exif)
    np.testing.assert_array_equal(upright_rgb(data), np.asarray(upright))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_every_mode_comes_out_as_rgb(mode):
    """Eight bits a channel."""
    image = Image.new(mode, (6, 4))
    pixels = upright_rgb(file_of(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert (pixels.shape, pixels.dtype) == ((4, 6, 3), np.uint8)


def test_what_is_see_through_is_white():
    """Whatever colour it has underneath."""
    assert upright_rgb(file_of(Image.new("RGBA", (2, 2), (9, 9, 9, 0)))).min() == 255


def test_a_jpeg_is_decoded_no_larger_than_it_has_to_be():
    """Its short side keeps `least` pixels."""
    data = file_of(Image.new("RGB", (1600, 800)), "JPEG")
    assert upright_rgb(data).shape == (800, 1600, 3)
    assert 224 <= min(upright_rgb(data, least=224).shape[:2]) < 448


@pytest.mark.parametrize(
    ("data", "options", "code"),
    [
        (b"", {}, "EmptyFile"),
        (b"<html></html>", {}, "NotAnImage"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, "UnsupportedFormat"),
        (file_of(Image.effect_noise((90, 90), 90))[:900], {}, "TornImage"),
        (file_of(Image.new("RGB", (100, 100))), {"max_pixels": 9999}, "TooManyPixels"),
        (file_of(Image.new("RGB", (2000, 2000))), {"max_decode_bytes": 1 << 20}, "TooManyPixels"),
    ],
)
def test_what_cannot_be_decoded_is_one_error(data, options, code):
    """Before anything is decompressed where the header tells."""
    with pytest.raises(PermanentError) as caught:
        upright_rgb(data, **options)
    assert caught.value.code == code
