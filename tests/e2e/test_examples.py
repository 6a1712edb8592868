"""Labels of one's own from a few pictures, and feature vectors as a column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Local, get

SKIMAGE = Path(skimage.__file__).parent / "data"
SUBJECTS = {"whiskers": "chelsea.png", "kitchen": "coffee.png", "road": "motorcycle_left.png", "field": "grass.png"}


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Of each subject eight different parts: five to learn of, three to be asked about."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(3)
    rows = []
    for label, name in SUBJECTS.items():
        if not (SKIMAGE / name).exists():
            continue
        whole = Image.open(SKIMAGE / name).convert("RGB")
        side = int(min(whole.size) * 0.75)
        for number in range(8):
            x, y = (int(rng.integers(0, extent - side + 1)) for extent in whole.size)
            path = folder / f"{label}{number}.jpg"
            whole.crop((x, y, x + side, y + side)).save(path, quality=92)
            rows.append({"url": str(path), "label": label, "learn": number < 5})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def examples(crops):
    return crops[crops["learn"]][["url", "label"]]


def labels(table):
    return table[table["kind"] == "label"]


def test_five_pictures_a_label_are_enough(crops, examples):
    """Further pictures of the same kinds are told by these labels and by no other word."""
    asked = crops[~crops["learn"]]
    told = labels(asked[["url"]].imgtag.label(provider=Local(examples=examples), min_confidence=0.5))
    best = told.groupby("url")["tag"].first()
    assert set(told["tag"]) <= set(SUBJECTS)
    assert (asked.set_index("url")["label"].reindex(best.index) == best).all()
    assert len(best) >= 0.9 * len(asked)


def test_a_picture_that_is_none_of_them_is_none_of_them(examples):
    """A cameraman and a brick wall are neither."""
    urls = [str(SKIMAGE / name) for name in ("camera.png", "brick.png", "page.png")]
    told = labels(pd.DataFrame({"url": urls}).imgtag.label(provider=Local(examples=examples), min_confidence=0.5))
    assert told.empty


def test_words_stand_beside_examples(examples):
    """Both are told where both are given."""
    provider = Local(examples=examples, words="feline")
    told = labels(pd.DataFrame({"url": [str(SKIMAGE / "chelsea.png")]}).imgtag.label(provider=provider))
    assert {"whiskers", "feline"} <= set(told["tag"])


def test_examples_are_given_in_many_forms(examples, tmp_path):
    """pandas, pyarrow, pairs, a dictionary, a CSV file on the command line: the same provider."""
    examples.to_csv(tmp_path / "examples.csv", index=False)
    pairs = list(examples.itertuples(index=False, name=None))
    forms = [pa.Table.from_pandas(examples), pairs, examples.to_dict("list"), str(tmp_path / "examples.csv")]
    identity = Local(examples=examples).identity()
    assert all(Local(examples=form).identity() == identity for form in forms)
    assert get("local", examples=str(tmp_path / "examples.csv")).identity() == identity
    assert Local(examples=pairs[:-1]).identity() != identity
    assert identity != Local().identity()


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        ([("a.jpg", "cat")], "needs two labels or more"),
        ({"url": ["a.jpg"]}, "a table with the columns url and label"),
        (5, "a table with the columns url and label"),
        ([("a.jpg", None), ("b.jpg", "dog")], "a row without a url or without a label"),
        ("/no/such.csv", "cannot be read as a CSV file"),
    ],
)
def test_examples_that_cannot_be_used_are_one_sentence(examples, sentence):
    """Before any picture is read."""
    with pytest.raises(ConfigError, match=sentence):
        Local(examples=examples)


def test_an_example_that_cannot_be_read_ends_the_run(examples):
    """It is the caller's mistake, not the failure of every picture."""
    pairs = [*examples.itertuples(index=False, name=None), ("/no/such.jpg", "kitchen")]
    with pytest.raises(ConfigError, match="an example of 'kitchen' cannot be used: there is no file"):
        examples[["url"]].imgtag.label(provider=Local(examples=pairs))


@pytest.mark.parametrize("shape", ["long", "nested"])
def test_features_are_a_column(shape, crops, tmp_path):
    """Of fixed size, in the first row of each image; pictures that are alike have vectors that are alike."""
    asked = pd.concat([crops[crops["label"] == label].head(2) for label in ("whiskers", "kitchen")])
    urls = [*asked["url"], None, "/no/such.jpg", asked["url"].iloc[0]]
    pd.DataFrame({"url": urls}).to_parquet(tmp_path / "in.parquet")
    provider = Local(features=True)
    words = {"provider": provider, "shape": shape, "checkpoint": str(tmp_path / "tags"), "max_failed": 1}
    imgtag.enrich(str(tmp_path / "in.parquet"), str(tmp_path / "out.parquet"), **words)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("features").type == pa.list_(pa.field("element", pa.float32()), 1280)
    plain = table.drop_columns("features").to_pylist()
    told = [row["tag"] for row in plain] if shape == "long" else [t["tag"] for row in plain for t in row["tags"] or ()]
    assert "" not in told
    vectors = table["features"].to_pylist()
    if shape == "long":
        vectors = [vector for vector, row in zip(vectors, plain, strict=True) if row["rank"] in (1, None)]
    assert [vector is not None for vector in vectors] == [True] * 4 + [False, False, True]
    assert vectors[6] == vectors[0]
    points = np.array(vectors[:4], np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    likeness = points @ points.T
    assert min(likeness[0, 1], likeness[2, 3]) > likeness[:2, 2:].max()
    again = imgtag.enrich(str(tmp_path / "in.parquet"), str(tmp_path / "again.parquet"), **words)
    assert again.known == 5
    assert pq.read_table(tmp_path / "again.parquet").equals(table)


def test_where_features_have_no_place_it_is_said(crops):
    """A wide table, a table that has such a column, a tagger without the network."""
    frame = crops[["url"]].assign(features=1)
    with pytest.raises(ConfigError, match="give shape='nested'"):
        crops[["url"]].imgtag.label(provider=Local(features=True), shape="wide")
    with pytest.raises(ConfigError, match="already has 'features'"):
        frame.imgtag.label(provider=Local(features=True), shape="nested")
    with pytest.raises(ConfigError, match="objects is False"):
        Local(objects=False, features=True)
