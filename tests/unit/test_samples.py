"""The demo's sample pictures."""

import pytest

from imgtag_pipeline.cli.demo_pictures import draw_samples, write_samples
from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.tagger import describe

SAMPLES = draw_samples()
EXPECTED = {
    "sunset.jpg": {"red", "orange", "purple", "landscape", "vivid", "sharp"},
    "forest.jpg": {"green", "landscape"},
    "portrait.jpg": {"greyscale", "portrait", "gray"},
    "bokeh.jpg": {"blurred", "purple", "dark"},
    "chess.png": {"black", "white", "high-contrast", "greyscale", "square"},
    "logo.png": {"transparent", "blue", "red", "vivid"},
    "spinner.gif": {"animated", "blue", "bright"},
    "lemons.jpg": {"portrait", "yellow", "blue", "3:4"},
    "mountains.jpg": {"panorama", "blue", "green"},
    "screenshot.png": {"tall", "white", "blue", "bright"},
    "night.jpg": {"dark", "black", "orange"},
    "snow.webp": {"bright", "white"},
}


def test_a_dozen_pictures_and_two_broken_files():
    """Names are distinct; two of them cannot be read."""
    assert len({sample.name for sample in SAMPLES}) == len(SAMPLES) == 14
    assert {sample.name for sample in SAMPLES if not sample.is_broken} == set(EXPECTED)


@pytest.mark.parametrize("sample", [one for one in SAMPLES if not one.is_broken], ids=lambda sample: sample.name)
def test_each_picture_shows_what_it_is_there_for(sample):
    """The tags that make the demo worth reading."""
    assert EXPECTED[sample.name] <= {tag.name for tag in describe(sample.data)}


def test_every_fact_of_note_appears_in_some_sample():
    """Between them the samples show each kind of fact."""
    seen = {tag.parent for sample in SAMPLES if not sample.is_broken for tag in describe(sample.data)}
    groups = {"orientation", "aspect", "tone", "contrast", "colorfulness", "sharpness", "transparency", "animation"}
    assert groups <= seen


@pytest.mark.parametrize(("name", "code"), [("torn.jpg", "TornImage"), ("moved.jpg", "NotAnImage")])
def test_the_broken_files_fail_for_their_own_reason(name, code):
    """One torn, one a web page."""
    (sample,) = (one for one in SAMPLES if one.name == name)
    with pytest.raises(PermanentError) as caught:
        describe(sample.data)
    assert caught.value.code == code


def test_the_same_pictures_each_time():
    """Drawn twice, equal byte for byte."""
    assert draw_samples() == SAMPLES


def test_they_can_be_written_to_a_folder(tmp_path):
    """A folder is made and holds every file."""
    paths = write_samples(tmp_path / "a" / "b")
    assert [path.name for path in paths] == [sample.name for sample in SAMPLES]
    assert [path.read_bytes() for path in paths] == [sample.data for sample in SAMPLES]
    assert sum(path.stat().st_size for path in paths) < 400_000
