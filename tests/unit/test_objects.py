"""What the embedded network tells of photographs, in which words, and how sure it says that it is."""

import hashlib
import io
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import skimage
from PIL import Image

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Local, get
from imgtag_pipeline.providers.without_vendor import completed
from imgtag_pipeline.tagger import COLOR_NAMES, RULES, describe
from imgtag_pipeline.tagger.objects.build import WHEEL_SHA256, build
from imgtag_pipeline.tagger.objects.engine import CLASSES, PATH
from imgtag_pipeline.tagger.objects.identity import SHA256, VERSION
from imgtag_pipeline.tagger.objects.onnx_file import read_onnx
from imgtag_pipeline.tagger.objects.tags import LEAST, Objects
from imgtag_pipeline.tagger.objects.vocabulary import PATH as VOCABULARY
from imgtag_pipeline.tagger.objects.vocabulary import UNSAID, load_vocabulary

SKIMAGE = Path(skimage.__file__).parent / "data"
MATPLOTLIB = Path(matplotlib.__file__).parent / "mpl-data" / "sample_data"
# What is told of each with a confidence of at least 0.5. A person in a space suit, coins, gravel and the like have no
# word here, and nothing is told of them. Known to be wrong: the dog (a horse's silhouette) and the weapon (a rocket).
TOLD = {
    "chelsea.png": {"cat", "animal"},
    "coffee.png": {"cup", "drink", "espresso"},
    "camera.png": {"tripod"},
    "grace_hopper.jpg": {"clothing"},
    "logo2.png": {"clock"},
    "astronaut.png": set(),
    "coins.png": set(),
    "gravel.png": set(),
    "grass.png": set(),
    "brick.png": set(),
    "hubble_deep_field.jpg": set(),
    "page.png": set(),
    "cell.png": set(),
    "horse.png": {"dog", "animal"},
    "rocket.jpg": {"weapon"},
}


def path_of(name):
    return next(folder / name for folder in (SKIMAGE, MATPLOTLIB) if (folder / name).exists())


def labels(tags, least=0.5):
    return {tag.name for tag in tags if tag.kind == "label" and tag.confidence >= least}


def told(name, **options):
    return describe(path_of(name).read_bytes(), objects=Objects(**options))


def probabilities(**shares):
    """A network's answer: so much for each of these words' classes, the rest spread evenly."""
    found = np.full(CLASSES, (1 - sum(shares.values())) / CLASSES)
    for word, share in shares.items():
        classes = load_vocabulary().lexicon[word]
        found[list(classes)] += share / len(classes)
    return found


def test_the_sample_photographs():
    """`df.imgtag.label(min_confidence=0.5)` without an account: the table above, for all pictures."""
    table = pd.DataFrame({"url": [str(path_of(name)) for name in TOLD]}).imgtag.label(min_confidence=0.5)
    shown = table[table["kind"] == "label"].groupby("url")["tag"].agg(set).to_dict()
    assert {name: shown.get(str(path_of(name)), set()) for name in TOLD} == TOLD


def test_a_tag_says_how_exact_it_is():
    """Level, parent and WordNet id; everyday words before exact ones, those before broad ones."""
    tags = [tag for tag in told("chelsea.png") if tag.kind == "label"]
    by_name = {tag.name: tag for tag in tags}
    cat, animal, tiger_cat = by_name["cat"], by_name["animal"], by_name["tiger cat"]
    assert (cat.level, cat.parent, cat.tag_id, cat.language) == (2, "animal", "n02121620", "en")
    assert (animal.level, animal.parent, animal.tag_id) == (1, None, "n00015388")
    assert (tiger_cat.level, tiger_cat.parent, tiger_cat.tag_id) == (3, "cat", "n02123159")
    assert [tag.name for tag in tags[:2]] == ["cat", "animal"]


def test_the_sure_stand_first_and_the_unsure_last():
    """Objects from 0.5, then colours and facts, then objects from 0.05; no object twice."""
    tags = told("chelsea.png")
    kinds = ["sure" if tag.kind == "label" and tag.confidence >= 0.5 else tag.kind for tag in tags]
    assert sorted(kinds, key=["sure", "color", "style", "label"].index) == kinds
    assert all(tag.confidence >= LEAST for tag in tags if tag.kind == "label")
    assert len({tag.name for tag in tags if tag.kind == "label"}) == kinds.count("sure") + kinds.count("label")


def test_guessing_is_no_confidence():
    """A network that knows nothing says nothing; `confidence_raw` is what it said."""
    assert Objects().tags_of(probabilities()) == ()
    (cat, *_) = Objects().tags_of(probabilities(cat=0.8))
    prior = len(load_vocabulary().lexicon["cat"]) / CLASSES
    assert cat.name == "cat"
    assert cat.confidence == pytest.approx(0.8, abs=1e-3)
    assert cat.confidence_raw == pytest.approx(0.8 + 0.2 * prior, abs=1e-3)


def test_chinese_where_there_is_chinese():
    """Everyday and broad words and the parents; exact ones stay English and say so."""
    by_name = {tag.name: tag for tag in told("chelsea.png", language="zh") if tag.kind == "label"}
    assert by_name["猫"].language == "zh"
    assert by_name["猫"].parent == "动物"
    assert by_name["tiger cat"].language == "en"
    assert by_name["tiger cat"].parent == "猫"


def test_words_of_ones_own():
    """Only these are told, by the caller's spelling; one that is also a standard word keeps its level."""
    assert labels(told("chelsea.png", words=("feline", "Cup"))) == {"feline"}
    (cup,) = [tag for tag in told("coffee.png", words=("feline", "Cup")) if tag.kind == "label"]
    assert (cup.name, cup.level, cup.parent) == ("Cup", 2, None)


@pytest.mark.parametrize(
    ("word", "near"), [("canin", "canine"), ("xyzzyx", "give common English nouns"), ("muggs", "mug")]
)
def test_a_word_that_is_not_there_is_refused_with_near_ones(word, near):
    """Before anything is read."""
    with pytest.raises(ConfigError, match=f"^words has '{word}', which is not in the lexicon; .*{near}"):
        Local(words=["dog", word])


def test_words_are_given_as_a_list_or_as_a_text():
    """The command line has texts only."""
    assert get("local", words="canine, mug") == completed(Local(words=["canine", "mug"]))
    assert Local(words="mug,canine").identity() == Local(words=["canine", "mug"]).identity()


def test_a_photograph_that_lies_on_its_side_is_seen_upright():
    """By its EXIF data, as a viewer shows it."""
    cat = Image.open(path_of("chelsea.png")).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    cat.transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", quality=95, exif=exif)
    assert "cat" in labels(describe(file.getvalue(), objects=Objects()), 0.85)


def test_a_cut_out_is_seen_on_white():
    """Transparent pixels have colours of their own, which nobody sees."""
    coffee = Image.open(path_of("coffee.png")).convert("RGBA")
    coffee.putalpha(0)
    file = io.BytesIO()
    coffee.save(file, "PNG")
    assert labels(describe(file.getvalue(), objects=Objects())) == set()


def test_the_identity_tells_objects_apart():
    """Without objects it is that of older stores; with them, what changes answers and nothing else."""
    assert Local(objects=False).identity() == {"provider": "local", "color_count": 3, "tagger": 1}
    standard = Local().identity()
    assert standard["objects"].endswith(SHA256[:12])
    assert Local(engine="numpy", threads=1, timeout=5).identity() == standard
    others = [Local(language="zh"), Local(words="dog"), Local(objects=False), Local(color_count=4)]
    assert standard not in [each.identity() for each in others]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"objects": 1}, "objects is 1; allowed: True or False"),
        ({"language": "de"}, "language is 'de'; allowed: en, zh"),
        ({"engine": "torch"}, "engine is 'torch'; allowed: auto, numpy, onnxruntime"),
        ({"objects": False, "words": "dog"}, "objects is False"),
        ({"threads": 0}, "threads is 0; allowed: a whole number"),
    ],
)
def test_wrong_options_are_said_in_one_sentence(options, sentence):
    """What was given, and what is allowed."""
    with pytest.raises(ConfigError, match=sentence):
        Local(**options)


def test_the_vocabulary_holds_together():
    """A class for each of the network's; every parent is a word; no name with two meanings among the standard ones."""
    vocabulary = load_vocabulary()
    standard = vocabulary.standard()
    names = [word.name for word in standard]
    assert len(vocabulary.classes) == CLASSES
    assert len(names) == len(set(names))
    assert {word.parent for word in standard if word.parent} <= set(names)
    assert all(word.zh and word.level in (1, 2) for word in vocabulary.words)
    assert all("(" not in name and "/" not in name for name in names)
    assert {word.name.lower() for word in vocabulary.classes} <= set(vocabulary.lexicon)
    assert not any(UNSAID & set(word.classes) for word in standard)


def test_the_data_file_is_what_was_shipped():
    """Its hash stands in the code and in the identity; in the file stand where it came from and its licence."""
    data = PATH.read_bytes()
    assert hashlib.sha256(data).hexdigest() == SHA256
    metadata = read_onnx(data).metadata
    assert metadata["source_sha256"] == WHEEL_SHA256
    assert metadata["license"] == "Apache-2.0"
    assert len(data) < 5_200_000


def test_a_damaged_data_file_is_said(monkeypatch, tmp_path):
    """One sentence, before any picture."""
    from imgtag_pipeline.tagger.objects import engine

    broken = tmp_path / "objects.onnx"
    broken.write_bytes(PATH.read_bytes()[:1000])
    monkeypatch.setattr(engine, "PATH", broken)
    monkeypatch.setattr(engine, "_engines", {})
    with pytest.raises(ConfigError, match="is damaged"):
        engine.runner("numpy")


def test_only_tensors_are_unpickled():
    """A checkpoint that would run code is refused by the script that builds the data file."""
    with pytest.raises(Exception, match="not allowed"):
        build(b"cos\nsystem\n(S'true'\ntR.")


def test_no_object_has_the_name_of_a_colour_or_a_fact():
    """In a wide table they would be one column."""
    names = {word.name for word in load_vocabulary().standard()}
    assert not names & {*COLOR_NAMES, *(rule.name for rule in RULES)}


def test_a_changed_vocabulary_is_another_tagger():
    """Whoever changes the words puts `VERSION` up, and this hash with it."""
    told = hashlib.sha256(VOCABULARY.read_bytes()).hexdigest()[:12]
    assert (VERSION, told) == (2, "7f2be75940ef")
