"""Colour names: the vendor's vocabulary, its published examples, and what people call colours."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imgtag_pipeline.tagger import COLOR_NAMES, describe, oklab
from imgtag_pipeline.tagger.colors import nearest_names


def name_of(hex_color):
    rgb = np.array([[int(hex_color[at : at + 2], 16) for at in (0, 2, 4)]], np.uint8)
    return COLOR_NAMES[nearest_names(oklab.from_rgb(rgb))[0][0]]


def colors(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return [tag for tag in describe(file.getvalue(), **options) if tag.kind == "color"]


def stripes(*parts):
    """A 100x100 picture of coloured columns: (hex, width)."""
    columns = [[int(color[at : at + 2], 16) for at in (0, 2, 4)] for color, width in parts for _ in range(width)]
    return np.broadcast_to(np.array(columns, np.uint8), (100, 100, 3))


@pytest.mark.parametrize(
    ("hex_color", "name"),
    [
        # printed by RecognizeImageColor's own pages (help.aliyun.com/document_detail/152006.html and 133940.html)
        ("270315", "red"),
        ("5A0014", "red"),
        ("F139CC", "magenta"),
        ("610492", "purple"),
        ("EC4886", "red"),
        ("2C1C19", "gray"),
        ("B4764E", "orange"),
        ("D9B58A", "orange"),
        ("754533", "orange"),
        # what people say
        ("000000", "black"),
        ("0A0A14", "black"),
        ("FFFFFF", "white"),
        ("FFFAF0", "white"),
        ("808080", "gray"),
        ("D3D3D3", "gray"),
        ("708090", "gray"),
        ("FF0000", "red"),
        ("800000", "red"),
        ("FF6347", "red"),
        ("FFA500", "orange"),
        ("8B4513", "orange"),
        ("FFD700", "yellow"),
        ("FFFF00", "yellow"),
        ("F0E68C", "yellow"),
        ("00FF00", "green"),
        ("228B22", "green"),
        ("808000", "green"),
        ("9ACD32", "green"),
        ("00FFFF", "cyan"),
        ("008080", "cyan"),
        ("40E0D0", "cyan"),
        ("0000FF", "blue"),
        ("000080", "blue"),
        ("87CEEB", "blue"),
        ("4682B4", "blue"),
        ("800080", "purple"),
        ("4B0082", "purple"),
        ("FF00FF", "magenta"),
        ("DA70D6", "magenta"),
    ],
)
def test_colors_have_the_names_that_people_and_the_vendor_give_them(hex_color, name):
    """A table of colours with their names."""
    assert name_of(hex_color) == name


def test_there_are_eleven_names():
    """As many as the vendor documents, each once."""
    assert len(COLOR_NAMES) == len(set(COLOR_NAMES)) == 11


def test_shares_are_of_the_area_and_the_largest_comes_first():
    """Half red, 30 % blue, 20 % white: said so, with their hex values."""
    found = colors(stripes(("0000FF", 30), ("FF0000", 50), ("FFFFFF", 20)))
    assert [(tag.name, tag.extra["hex"], tag.measure) for tag in found] == [
        ("red", "FF0000", 0.5),
        ("blue", "0000FF", 0.3),
        ("white", "FFFFFF", 0.2),
    ]
    assert all(tag.extra["share"] == tag.measure for tag in found)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
def test_at_most_as_many_colors_as_asked(count):
    """`color_count` bounds the list; what is not there is not made up."""
    picture = stripes(("FF0000", 30), ("0000FF", 25), ("FFFFFF", 20), ("00FF00", 15), ("000000", 10))
    assert len(colors(picture, color_count=count)) == min(count, 5)


def test_shades_of_one_name_are_one_color():
    """Dark and light blue are one tag, whose hex lies between them."""
    (found,) = colors(stripes(("000080", 50), ("6495ED", 50)))
    assert (found.name, found.measure) == ("blue", 1.0)
    assert "000080" < found.extra["hex"] < "6495ED"


def test_specks_are_left_out():
    """A colour on less than a hundredth of the area is not worth a tag."""
    picture = stripes(("FF0000", 100)).copy()
    picture[:8, :8] = (0, 0, 255)
    assert [tag.name for tag in colors(picture, color_count=10)] == ["red"]


def test_confidence_falls_towards_the_border_of_a_name():
    """Pure green is sure, a green that is nearly grey is not; never below one half."""
    (sure,), (unsure,) = colors(stripes(("00A000", 100))), colors(stripes(("6A786A", 100)))
    assert sure.confidence == 1.0
    assert 0.5 <= unsure.confidence < 0.75


@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=50))
def test_every_color_has_exactly_one_name(pixels):
    """Any sRGB colour has a name, at a distance from the next that is finite and not negative."""
    names, distance = nearest_names(oklab.from_rgb(np.array(pixels, np.uint8)))
    assert names.min() >= 0
    assert names.max() < len(COLOR_NAMES)
    assert np.isfinite(distance).all()
    assert (distance >= 0).all()


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_color_survives_the_way_to_oklab_and_back(rgb):
    """The hex of a single-coloured picture is that colour."""
    expected = "{:02X}{:02X}{:02X}".format(*rgb)
    assert oklab.to_hex(oklab.from_rgb(np.array([rgb], np.uint8))[0]) == expected
