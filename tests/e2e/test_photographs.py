"""Real photographs, read the ways a user keeps them: the tags are those of the picture, not of its address."""

from pathlib import Path

import fsspec
import matplotlib
import pandas as pd
import pytest
import skimage

import imgtag_pipeline as imgtag
from imgtag_pipeline.testing import running_emulator

SKIMAGE = Path(skimage.__file__).parent / "data"
MATPLOTLIB = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data"
PHOTOGRAPHS = {
    "astronaut.png": SKIMAGE,
    "camera.png": SKIMAGE,
    "coffee.png": SKIMAGE,
    "chelsea.png": SKIMAGE,
    "rocket.jpg": SKIMAGE,
    "grace_hopper.jpg": MATPLOTLIB,
}
FACTS = ["rank", "tag", "confidence", "kind", "status"]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A server on this machine that serves the photographs by http."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, home in PHOTOGRAPHS.items():
        (folder / name).write_bytes((home / name).read_bytes())
    with running_emulator(images=folder) as running:
        yield running


@pytest.fixture(scope="module")
def references(cloud):
    """The photographs' references by the way they are read, in one order."""
    memory = fsspec.filesystem("memory")
    for name, home in PHOTOGRAPHS.items():
        memory.pipe_file(f"/photographs/{name}", (home / name).read_bytes())
    yield {
        "path": [str(home / name) for name, home in PHOTOGRAPHS.items()],
        "file": [(home / name).as_uri() for name, home in PHOTOGRAPHS.items()],
        "http": [f"{cloud.url}/_emulator/images/{name}" for name in PHOTOGRAPHS],
        "memory": [f"memory://photographs/{name}" for name in PHOTOGRAPHS],
    }
    memory.rm("/photographs", recursive=True)


@pytest.fixture(scope="module")
def from_paths(references):
    """The photographs' tags, read from plain paths."""
    return label(references["path"])


def label(urls):
    return pd.DataFrame({"url": urls}, index=list(PHOTOGRAPHS)).imgtag.label(col="url", allow_private=True)


def tags_of(table, name):
    return set(table.loc[[name], "tag"])


def test_every_photograph_has_tags(from_paths):
    """Six photographs, six answers, no failure; colours come with their share and every tag with a confidence."""
    assert from_paths.attrs["imgtag"]["ok"] == len(PHOTOGRAPHS)
    assert set(from_paths["status"]) == {"ok"}
    assert list(dict.fromkeys(from_paths.index)) == list(PHOTOGRAPHS)
    assert from_paths["confidence"].between(0, 1).all()


def test_a_colour_photograph_is_not_greyscale(from_paths):
    """The astronaut, the coffee and the cat have colours; the camera man has none."""
    assert "greyscale" in tags_of(from_paths, "camera.png")
    for name in ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "grace_hopper.jpg"):
        assert "greyscale" not in tags_of(from_paths, name)


def test_the_form_of_a_photograph(from_paths):
    """Square, wider than high, higher than wide: as everybody sees it."""
    assert "square" in tags_of(from_paths, "astronaut.png")
    assert "landscape" in tags_of(from_paths, "coffee.png")
    assert "portrait" in tags_of(from_paths, "grace_hopper.jpg")


@pytest.mark.parametrize("way", ["file", "http", "memory"])
def test_the_tags_are_the_same_whichever_way_it_was_read(way, references, from_paths):
    """Only the `url` column tells how a photograph was reached."""
    table = label(references[way])
    pd.testing.assert_frame_equal(table[FACTS], from_paths[FACTS])
    assert list(table["url"].unique()) == references[way]


def test_all_ways_in_one_column(references, from_paths):
    """A column may mix paths, files, http and memory."""
    ways = list(references)
    mixed = [references[ways[place % len(ways)]][place] for place in range(len(PHOTOGRAPHS))]
    pd.testing.assert_frame_equal(label(mixed)[FACTS], from_paths[FACTS])


def test_paths_may_be_path_objects(references, from_paths):
    """What `Path.glob` gives is a reference as it is."""
    table = label([Path(path) for path in references["path"]])
    pd.testing.assert_frame_equal(table[FACTS], from_paths[FACTS])


def test_this_machines_addresses_are_read_only_where_they_are_allowed(references, tmp_path):
    """An address of this machine is a failed row that says how to allow it; allowed, the next run asks again."""
    table = pd.DataFrame({"url": [references["http"][0], references["path"][0]]})
    guarded = table.imgtag.label(col="url", shape="nested", checkpoint=tmp_path / "tags")
    assert list(guarded["status"]) == ["failed", "ok"]
    assert guarded["error_code"].iloc[0] == "AddressNotPublic"
    assert "127.0.0.1" in guarded["error"].iloc[0]
    assert "allow_private=True (--allow-private)" in guarded["error"].iloc[0]
    allowed = table.imgtag.label(col="url", shape="nested", checkpoint=tmp_path / "tags", allow_private=True)
    assert list(allowed["status"]) == ["ok", "ok"]


def test_a_photograph_through_the_signed_cloud(cloud, references):
    """The emulator fetches the photograph by http and answers from its pixels, with the vendor's five tags at most."""
    provider = imgtag.providers.Viapi(
        action="TaggingImage", endpoint=cloud.url, credentials=imgtag.providers.Keys("emulator", "emulator"), qps=1000
    )
    table = pd.DataFrame({"url": references["http"]}).imgtag.label(provider=provider)
    assert set(table["status"]) == {"ok"}
    assert table.groupby(level=0).size().max() <= 5
    assert table.attrs["imgtag"]["billed"] == {"yes": len(PHOTOGRAPHS), "no": 0, "unknown": 0}
