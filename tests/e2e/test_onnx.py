"""Any ONNX model as a provider: each kind gives the right table, or one sentence that says what is wrong."""

import dataclasses
import json
import time
from pathlib import Path

import pandas as pd
import pytest
import skimage
from PIL import Image
from typer.testing import CliRunner

import imgtag_pipeline as imgtag
from imgtag_pipeline.cli import app
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Onnx, get
from imgtag_pipeline.tagger.objects.engine import PATH
from imgtag_pipeline.testing.models import LABELS, SAID, ColorModel

pytest.importorskip("onnxruntime")

RAW = {**SAID, "mean": 0, "scale": 1}
KINDS = {
    "NCHW": ColorModel(),
    "NHWC": ColorModel(layout="NHWC"),
    "fixed batch of 1": ColorModel(batch=1),
    "fixed batch of 4": ColorModel(batch=4),
    "half": ColorModel(kind="half"),
    "uint8": ColorModel(kind="uint8"),
    "softmax inside": ColorModel(activation="Softmax"),
    "sigmoid tagger": ColorModel(activation="Sigmoid"),
    "free sides": ColorModel(side="S"),
    "everything free, NHWC": ColorModel(layout="NHWC", side="S", metadata={**SAID, "layout": "NHWC"}),
}


@pytest.fixture
def pictures(tmp_path):
    """A red, a torn, a green, a missing and eight blue pictures."""
    for name, color in [("red", "#ff0000"), ("green", "#00ff00"), ("blue", "#0000ff")]:
        Image.new("RGB", (60, 40), color).save(tmp_path / f"{name}.png")
    (tmp_path / "torn.png").write_bytes((tmp_path / "red.png").read_bytes()[:60])
    for number in range(8):
        (tmp_path / f"blue{number}.png").write_bytes((tmp_path / "blue.png").read_bytes())
    return [str(tmp_path / f"{name}.png") for name in ("red", "torn", "green", "missing")] + [
        str(tmp_path / f"blue{number}.png") for number in range(8)
    ]


@pytest.fixture
def save(tmp_path):
    def saved(model, name="model.onnx"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(model if isinstance(model, bytes) else model.data())
        return str(path)

    return saved


def labelled(urls, provider, **words):
    return imgtag.label(pd.DataFrame({"url": urls}), provider=provider, progress=False, **words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 8])
def test_every_kind_of_model_gives_the_same_table(kind, batch, pictures, save):
    """Twelve pictures in batches; the torn and the missing one are rows of their own."""
    table = labelled(pictures, Onnx(model=save(KINDS[kind]), batch=batch), min_confidence=0.5)
    assert list(table["tag"].fillna(table["error_code"])) == ["red", "TornImage", "green", "NotFound"] + ["blue"] * 8
    sure = 0.9933 if kind == "sigmoid tagger" else 0.9999
    assert table["confidence"].dropna().to_numpy() == pytest.approx(sure, abs=1e-3)
    assert table.attrs["imgtag"]["calls"] == 0


@pytest.mark.parametrize(
    ("model", "options", "sentence"),
    [
        (
            ColorModel(metadata={**SAID, "labels": ["red", "green"]}),
            {},
            "gives 3 (values) values for a picture, and there are 2",
        ),
        (b"this is text", {}, "is not an ONNX model"),
        (ColorModel().data()[:-200], {}, "ONNX model"),
        (ColorModel(side=100_000), {}, "which is too large; allowed: sides up to 4,096"),
        (ColorModel(metadata=None), {"labels": LABELS}, "give mean= and scale=, for example mean=0 scale=255"),
        (ColorModel(metadata=None), {"mean": 0, "scale": 255}, "has no labels in its metadata"),
        (ColorModel(inputs=2), {}, "has 2 inputs (image, more0); a model of images has one"),
        (ColorModel(), {"output": "boxes"}, "output is 'boxes'; "),
        (ColorModel(), {"labels": "no.txt"}, "labels is 'no.txt', and there is no such file"),
        (ColorModel(metadata={**SAID, "mean": [1, 2]}), {}, "the model's metadata is not understood"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(model, options, sentence, pictures, save):
    """The caller's mistake, before any picture is read; in Python, in the plan and on the command line."""
    provider = Onnx(model=save(model), **options)
    for verb in (imgtag.label, imgtag.plan):
        with pytest.raises(ConfigError) as caught:
            verb(pd.DataFrame({"url": pictures}), provider=provider)
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)


def test_no_such_model_is_one_sentence():
    """And so is none at all."""
    with pytest.raises(ConfigError, match="no such file"):
        Onnx(model="/no/such.onnx").identity()
    with pytest.raises(ConfigError, match="'onnx' needs model=; the path or URL of an ONNX file"):
        get("onnx")


def test_the_identity_is_what_changes_answers(save):
    """The model, its labels, and what it is shown; not its place, the batch or the threads."""
    path = save(ColorModel())
    plain = Onnx(model=path).identity()
    assert Onnx(model=path, batch=2, threads=1, timeout=5, layout="NCHW").identity() == plain
    assert Onnx(model=save(ColorModel(), "other.onnx")).identity() == plain
    others = [
        Onnx(model=path, labels=["r", "g", "b"]),
        Onnx(model=path, scale=128),
        Onnx(model=path, framing="pad"),
        Onnx(model=path, activation="sigmoid"),
        Onnx(model=path, least=0.2),
        Onnx(model=save(ColorModel(bias=-4), "biased.onnx")),
    ]
    found = [json.dumps(one.identity()) for one in others]
    assert len({*found, json.dumps(plain)}) == 7


def test_a_model_that_is_written_anew_is_loaded_anew(save):
    """By size and time of change of a file on this machine."""
    provider = Onnx(model=save(ColorModel()))
    before = provider.identity()
    save(ColorModel(bias=-4.25, activation="Softmax"))
    assert provider.identity() != before


def test_a_stored_answer_is_not_computed_again(pictures, save, tmp_path):
    """The tag store knows the model by what it is."""
    store = str(tmp_path / "tags")
    labelled(pictures, Onnx(model=save(ColorModel())), checkpoint=store)
    again = labelled(pictures, Onnx(model=save(ColorModel(), "moved.onnx"), batch=3), checkpoint=store)
    assert again.attrs["imgtag"]["known"] == len(pictures)


FOLDERS = {
    "Hugging Face": {
        "config.json": {"id2label": {"0": "red", "2": "blue", "1": "green"}},
        "preprocessor_config.json": {
            "do_normalize": True,
            "image_mean": [0, 0, 0],
            "image_std": [1, 1, 1],
            "rescale_factor": 1 / 255,
            "resample": 3,
            "size": {"shortest_edge": 36},
            "crop_size": {"height": 32, "width": 32},
        },
    },
    "timm": {
        "config.json": {
            "label_names": list(LABELS),
            "pretrained_cfg": {
                "input_size": [3, 32, 32],
                "mean": [0, 0, 0],
                "std": [1, 1, 1],
                "crop_pct": 0.9,
                "interpolation": "bilinear",
            },
        }
    },
    "a list of labels": {"labels.txt": "red\ngreen\nblue\n"},
}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_files_beside_a_model_say_what_it_wants(folder, pictures, save, tmp_path):
    """Also where the model lies in a folder `onnx` below them."""
    path = save(ColorModel(metadata=None, side="S"), "onnx/model.onnx")
    for name, content in FOLDERS[folder].items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    options = {"mean": 0, "scale": 255} if folder == "a list of labels" else {}
    provider = Onnx(model=path, **options)
    assert list(labelled(pictures[:1], provider, min_confidence=0.5)["tag"]) == ["red"]
    if folder != "a list of labels":
        assert provider.loaded().labeller.preprocessing.height == 32
        assert provider.loaded().labeller.preprocessing.crop == pytest.approx(8 / 9 if "Hugging" in folder else 0.9)


def test_a_wd14_tagger_is_known_by_its_csv(pictures, save, tmp_path):
    """BGR, 0 to 255, on a white square; its categories are parents."""
    model = ColorModel(layout="NHWC", activation="Sigmoid", metadata=None, bias=-5.0)
    path = save(dataclasses.replace(model, kind="float"))
    rows = "tag_id,name,category,count\n7,blue_one,4,9\n8,green_one,0,9\n9,red_one,9,9\n"
    (tmp_path / "selected_tags.csv").write_text(rows)
    table = labelled(pictures[:1], Onnx(model=path), min_confidence=0.9)
    assert set(table["tag"]) >= {"red_one"}
    red = table[table["tag"] == "red_one"].iloc[0]
    assert (red["parent"], red["tag_id"]) == ("rating", "9")
    assert Onnx(model=path).loaded().labeller.preprocessing.fit == "pad"


def test_a_model_behind_a_url(pictures):
    """Any fsspec file system, the files beside it too."""
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/models/m.onnx", ColorModel(metadata=None).data())
    memory.pipe_file("/models/labels.txt", b"red\ngreen\nblue")
    table = labelled(pictures[:1], Onnx(model="memory://models/m.onnx", mean=0, scale=255), min_confidence=0.5)
    assert list(table["tag"]) == ["red"]


def test_on_the_command_line(pictures, save, tmp_path):
    """`--provider onnx --option model=...`, lists included; plan and doctor say what there is to say."""
    path = save(ColorModel(metadata=None))
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    pd.DataFrame({"url": pictures}).to_csv(tmp_path / "in.csv", index=False)
    options = ["--provider", "onnx", "--option", f"model={path}", "--option", "mean=0,0,0", "--option", "scale=255"]
    options += ["--option", f"labels={tmp_path / 'names.txt'}"]
    run = CliRunner().invoke
    said = run(
        app, ["label", str(tmp_path / "in.csv"), "--out", str(tmp_path / "out.csv"), "--max-failed", "2", *options]
    )
    assert said.exit_code == 0, said.output
    assert "blue" in set(pd.read_csv(tmp_path / "out.csv")["tag"])
    assert "no calls, 11 images computed here" in run(app, ["plan", str(tmp_path / "in.csv"), *options]).output
    told = run(app, ["doctor", *options, "--image", pictures[0]]).output
    assert "3: red, green, blue" in told
    assert "images a second" in told
    assert "red 1.00" in told
    assert "credential" not in told
    assert "(needs model=)" in run(app, ["providers"]).output
    missing = run(app, ["plan", str(tmp_path / "in.csv"), "--provider", "onnx"])
    assert (missing.exit_code, missing.output.count("\n")) == (2, 1)


def test_the_packages_own_network_is_such_a_model():
    """Labels, preprocessing and activation stand in its metadata; it names the same class as `local`."""

    cup = str(Path(skimage.__file__).parent / "data" / "coffee.png")
    table = labelled([cup], Onnx(model=str(PATH)), top_k=1)
    assert list(table["tag"]) == ["espresso"]
    assert table["confidence"].iloc[0] == pytest.approx(0.95, abs=0.02)


def test_another_output_as_features(pictures, save):
    """A column of fixed size; an output that is not there is said."""
    provider = Onnx(model=str(PATH), features="features")
    table = labelled(pictures[:2], provider, shape="nested")
    assert len(table["features"].iloc[0]) == 1280
    assert table["features"].iloc[1] is None
    assert "" not in [tag["tag"] for tag in table["tags"].iloc[0]]
    assert provider.identity() != Onnx(model=str(PATH)).identity()
    with pytest.raises(ConfigError, match=r"features is 'pool'; allowed: an output of .*: logits, features"):
        labelled(pictures[:1], Onnx(model=str(PATH), features="pool"))


def test_a_picture_that_takes_too_long_does_not_take_the_others_along(pictures, save, monkeypatch):
    """The batch is tried once more one by one; the slow one waits for the next run."""
    from imgtag_pipeline.tagger.onnx_models import labeller

    plain = labeller.upright_image

    def slow(data, **words):
        if data == Path(pictures[2]).read_bytes():
            time.sleep(0.8)
        return plain(data, **words)

    monkeypatch.setattr(labeller, "upright_image", slow)
    table = labelled(pictures, Onnx(model=save(ColorModel()), timeout=0.3), min_confidence=0.5)
    assert (
        list(table["tag"].fillna(table["error_code"]))
        == ["red", "TornImage", "ComputeTimeout", "NotFound"] + ["blue"] * 8
    )
