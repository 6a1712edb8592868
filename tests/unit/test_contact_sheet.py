"""Small copies of pictures with their tags below."""

import pandas as pd
from PIL import Image

from imgtag_pipeline.cli.contact_sheet import contact_sheet
from imgtag_pipeline.cli.photographs import FOLDER, write_photographs


def test_the_photographs_are_small_and_few():
    """A handful in the wheel, at most 1 MB."""
    files = list(FOLDER.glob("*.jpg"))
    assert 3 <= len(files) <= 8
    assert sum(path.stat().st_size for path in files) < 1_000_000


def test_every_picture_has_its_place(tmp_path):
    """Of the table's own, in order; one that is missing is grey, and all are drawn on."""
    paths = [str(path) for path in write_photographs(tmp_path)]
    table = pd.DataFrame({"url": [*paths, str(tmp_path / "missing.jpg")]}).imgtag.label(min_confidence=0.5)
    sheet = contact_sheet(table, columns=2, tags=2)
    assert sheet.size == (2 * 216, 3 * (200 + 3 * 17 + 16))
    assert sheet.getpixel((8 + 5, 2 * 267 + 8 + 100)) == (221, 221, 221)
    assert len(sheet.convert("L").getcolors(300)) > 100


def test_no_picture_is_an_empty_sheet():
    """And no error."""
    table = pd.DataFrame({"url": [], "tag": [], "confidence": [], "error_code": []})
    assert isinstance(contact_sheet(table), Image.Image)
