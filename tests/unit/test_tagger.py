"""The tagger on real photographs (those inside scikit-image and matplotlib) and on drawn ones."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage
from PIL import Image, ImageFilter

from imgtag_pipeline.tagger import RULES, describe

PHOTOS = Path(skimage.__file__).parent / "data"
HOPPER = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
FACTS = {rule.name for rule in RULES}


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def names(data, **options):
    return {tag.name for tag in describe(data, **options)}


def tag(data, name):
    return next((tag for tag in describe(data) if tag.name == name), None)


@pytest.mark.parametrize(
    ("photo", "present", "absent"),
    [
        ("astronaut.png", {"square", "vivid", "sharp", "red", "gray"}, {"greyscale", "blurred", "dark", "landscape"}),
        ("camera.png", {"greyscale", "sharp", "square", "high-contrast", "gray"}, {"vivid", "muted", "blurred"}),
        ("coffee.png", {"landscape", "3:2", "orange", "vivid"}, {"greyscale", "portrait", "blue"}),
        ("chelsea.png", {"landscape", "orange", "sharp"}, {"greyscale", "dark", "bright", "transparent"}),
        ("rocket.jpg", {"landscape", "dark", "blue"}, {"greyscale", "bright", "high-contrast"}),
        ("hubble_deep_field.jpg", {"black", "dark", "sharp"}, {"bright", "vivid", "white"}),
        ("moon.png", {"greyscale", "low-contrast", "gray"}, {"high-contrast", "vivid"}),
        ("retina.jpg", {"red", "square", "vivid"}, {"blue", "greyscale"}),
        ("page.png", {"greyscale", "sharp", "white", "panorama"}, {"blurred", "portrait"}),
        ("no_time_for_that_tiny.gif", {"animated", "portrait"}, {"landscape", "sharp", "blurred"}),
    ],
)
def test_photographs_are_told_as_a_person_would(photo, present, absent):
    """Each photograph has the tags that a person would give it, and none that a person would object to."""
    found = names((PHOTOS / photo).read_bytes())
    assert present <= found
    assert not absent & found


def test_admiral_hopper_is_an_upright_picture():
    """A JPEG portrait: upright, 5:6, black uniform, in colour."""
    found = names(HOPPER.read_bytes())
    assert {"portrait", "black", "sharp"} <= found
    assert "greyscale" not in found


@pytest.mark.parametrize("photo", ["astronaut.png", "camera.png", "coffee.png", "grass.png", "rocket.jpg"])
def test_a_photograph_out_of_focus_is_blurred(photo):
    """The same photograph sharp and blurred: the tag follows, and never both."""
    image = Image.open(PHOTOS / photo).convert("RGB")
    sharp, blurred = encoded(image), encoded(image.filter(ImageFilter.GaussianBlur(max(image.size) / 130)))
    assert "sharp" in names(sharp)
    assert "blurred" not in names(sharp)
    assert "blurred" in names(blurred)
    assert "sharp" not in names(blurred)


def test_a_few_straight_edges_are_sharp_enough():
    """A flag of three flat stripes is sharp although hardly a pixel of it is an edge."""
    flag = np.zeros((600, 800, 3), np.uint8)
    flag[:200], flag[200:400], flag[400:] = (200, 20, 20), (250, 250, 250), (20, 20, 200)
    assert "sharp" in names(encoded(Image.fromarray(flag)))


def test_a_blank_page_is_neither_sharp_nor_blurred():
    """Where there is nothing to see, nothing is said of its sharpness."""
    assert not names(encoded(Image.new("RGB", (300, 300), "white"))) & {"sharp", "blurred"}


@pytest.mark.parametrize(
    ("size", "present", "absent"),
    [
        ((400, 300), {"landscape", "4:3"}, {"portrait", "square", "panorama"}),
        ((300, 400), {"portrait", "3:4"}, {"landscape", "square", "tall", "4:3"}),
        ((300, 300), {"square"}, {"landscape", "portrait"}),
        ((310, 300), {"square"}, {"landscape", "portrait"}),
        ((1920, 1080), {"landscape", "16:9"}, {"panorama"}),
        ((1080, 1920), {"portrait", "9:16"}, {"tall"}),
        ((390, 844), {"portrait", "tall"}, {"panorama"}),
        ((3000, 600), {"landscape", "panorama"}, {"tall"}),
        ((1, 1), {"square"}, {"sharp"}),
        ((20000, 1), {"landscape", "panorama"}, {"square"}),
    ],
)
def test_the_shape_is_named(size, present, absent):
    """Orientation always, an aspect where it has a name."""
    found = names(encoded(Image.new("RGB", size, "teal")))
    assert present <= found
    assert not absent & found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "shape"), [(1, "landscape"), (3, "landscape"), (6, "portrait"), (8, "portrait")]
)
def test_exif_rotation_is_honoured(kind, orientation, shape):
    """A camera held upright stores a picture lying on its side; it counts as upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    shape = "portrait" if orientation >= 5 else "landscape"
    assert shape in names(encoded(Image.new("RGB", (90, 60), "teal"), kind, exif=exif))


@pytest.mark.parametrize(
    ("color", "tone"), [((20, 20, 20), "dark"), ((128, 128, 128), None), ((240, 240, 240), "bright")]
)
def test_tone_by_mean_luma(color, tone):
    """Dark, bright, or neither."""
    found = names(encoded(Image.new("RGB", (64, 64), color))) & {"dark", "bright"}
    assert found == ({tone} if tone else set())


def test_a_checker_board_has_high_contrast():
    """Half black, half white is the highest contrast there is."""
    board = (np.indices((8, 8)).sum(0) % 2 * 255).astype(np.uint8).repeat(40, 0).repeat(40, 1)
    found = tag(encoded(Image.fromarray(board)), "high-contrast")
    assert found.confidence == 1.0
    assert found.extra == {"value": 0.5, "threshold": 0.27}


def test_see_through_pixels_do_not_count():
    """A red disc on nothing is all red, and transparent; what hides behind alpha 0 has no say."""
    logo = Image.new("RGBA", (200, 200), (0, 0, 255, 0))
    logo.paste((255, 0, 0, 255), (50, 50, 150, 150))
    colors = [tag for tag in describe(encoded(logo)) if tag.kind == "color"]
    assert [(tag.name, tag.extra["hex"]) for tag in colors] == [("red", "FF0000")]
    assert tag(encoded(logo), "transparent").extra["value"] == 0.75


def test_an_image_of_nothing_still_has_a_shape():
    """A wholly transparent picture has no colours, but is not empty."""
    assert names(encoded(Image.new("RGBA", (60, 40)))) == {"transparent", "landscape", "3:2"}


def test_an_opaque_alpha_channel_is_not_transparent():
    """An alpha channel that hides nothing is not worth a tag."""
    assert "transparent" not in names(encoded(Image.new("RGBA", (60, 40), (9, 9, 9, 255))))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_frames_make_an_animation_and_only_the_first_is_looked_at(kind):
    """GIF, APNG and animated WebP: tagged by their first frame."""
    frames = [Image.new("RGB", (60, 60), color) for color in ("red", "blue", "lime")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
    assert {"animated", "red"} <= names(data)
    assert not names(data) & {"blue", "green"}


@pytest.mark.parametrize("kind", ["TIFF", "MPO"])
def test_pages_are_no_animation(kind):
    """Pages of a TIFF and the second picture of a phone's JPEG do not move."""
    data = encoded(Image.new("RGB", (60, 60), "red"), kind, save_all=True, append_images=[Image.new("RGB", (60, 60))])
    assert "animated" not in names(data)


def test_confidence_is_half_at_the_threshold_and_one_well_beyond():
    """The stated meaning of every fact's confidence holds for every rule."""
    for rule in RULES:
        assert rule.tag(rule.threshold).confidence == 0.5
        assert rule.tag(rule.sure).confidence == 1.0
        assert rule.tag(rule.sure + (rule.sure - rule.threshold)).confidence == 1.0
        assert rule.tag(rule.threshold - (rule.sure - rule.threshold) * 0.01) is None
        assert rule.tag(None) is None


def test_order_and_fields():
    """Colours first by share, then facts by confidence; every confidence within 0..1, none raw."""
    tags = describe((PHOTOS / "astronaut.png").read_bytes())
    colors = [tag for tag in tags if tag.kind == "color"]
    facts = [tag for tag in tags if tag.kind == "style"]
    assert list(tags) == colors + facts
    assert [tag.measure for tag in colors] == sorted((tag.measure for tag in colors), reverse=True)
    assert [tag.confidence for tag in facts] == sorted((tag.confidence for tag in facts), reverse=True)
    assert all(0 <= tag.confidence <= 1 and tag.confidence_raw is None for tag in tags)
    assert all(set(tag.extra) == {"value", "threshold"} and tag.parent for tag in facts)


def test_the_same_bytes_always_get_the_same_tags():
    """Deterministic, also from eight threads at once."""
    photos = [path.read_bytes() for path in sorted(PHOTOS.glob("*.[pj]*g"))[:12]]
    alone = [describe(data) for data in photos]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(describe, photos * 2)) == alone * 2


def test_size_hardly_matters():
    """A photograph keeps its tags when it is stored at twice the size."""
    image = Image.open(PHOTOS / "coffee.png").convert("RGB")
    large = image.resize((1200, 800), Image.Resampling.LANCZOS)
    assert names(encoded(image)) == names(encoded(large))


def test_pillow_settings_stay_as_they_were():
    """Nothing global of Pillow is touched by tagging."""
    before = Image.MAX_IMAGE_PIXELS
    describe((PHOTOS / "camera.png").read_bytes())
    assert before == Image.MAX_IMAGE_PIXELS
