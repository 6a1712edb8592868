"""The guide beside the code: its files exist, and its floors are those of the layer test."""

import re
from pathlib import Path

import imgtag_pipeline

ROOT = Path(imgtag_pipeline.__file__).parent
GUIDE = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_that_is_named_is_there():
    """A word's home moves with its file."""
    named = {name for name in re.findall(r"`([a-z_0-9/]+\.py)`", GUIDE) if not name.startswith("tests/")}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_room_is_on_a_floor():
    """All folders are named."""
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} - {"testing"}
    assert [room for room in sorted(rooms) if f"`{room}`" not in GUIDE] == []


def test_the_words_are_in_order():
    """So that one is found."""
    table = GUIDE.split("## Words")[1].split("## Floors")[0]
    words = re.findall(r"(?m)^\| ([a-z ]+) \|", table)[1:]
    assert words == sorted(words)
    assert len(words) >= 25
