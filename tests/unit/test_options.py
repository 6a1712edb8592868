"""What a caller may ask for: checked when it is said, refused in one sentence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.options import Options, failed_limit


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"shape": "tall"}, "shape is 'tall'; allowed: 'long', 'wide', 'nested'"),
        ({"shape": None}, "shape is None; allowed"),
        ({"errors": "ignore"}, "errors is 'ignore'; allowed: 'rows', 'drop', 'raise'"),
        ({"min_confidence": 1.1}, "min_confidence is 1.1; allowed: a number from 0 to 1"),
        ({"min_confidence": "0.5"}, "min_confidence is '0.5'; allowed: a number"),
        ({"min_confidence": float("nan")}, "min_confidence is nan"),
        ({"top_k": 0}, "top_k is 0; allowed: a whole number of 1 or more"),
        ({"top_k": 2.5}, "top_k is 2.5; allowed: a whole number"),
        ({"top_k": True}, "top_k is True"),
        ({"qps": 0}, "qps is 0; allowed: a number from 0.001"),
        ({"qps": float("inf")}, "qps is inf"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"concurrency": 10_000}, "from 1 to 4096"),
        ({"budget": -1}, "budget is -1; allowed: a number of 0 or more"),
        ({"max_calls": 1.5}, "max_calls is 1.5; allowed: a whole number"),
        ({"price": -0.1}, "price is -0.1"),
        ({"price": float("inf")}, "price is inf; allowed: a number from 0 to"),
        ({"budget": float("inf")}, "budget is inf; allowed: a number of 0 or more, at most"),
        ({"max_calls": 10**30}, "a whole number of 0 or more, at most"),
        ({"grace": -1}, "grace is -1"),
        ({"put_every": 0}, "put_every is 0; allowed: a number from 0.05 to 5"),
        ({"provider": None}, "provider is NoneType; allowed: an address"),
        ({"provider": object()}, "provider is object"),
        ({"vocabulary": ["cat"]}, "for shape='wide' only"),
        ({"shape": "wide", "vocabulary": "cat"}, "a list of tag names"),
        ({"shape": "wide", "vocabulary": 7}, "a list of tag names"),
        ({"retry_failed": "no"}, "retry_failed is of type str; allowed: True or False"),
        ({"storage_options": "anon"}, "storage_options is of type str; allowed: a dictionary"),
        ({"policy": 3}, "policy is of type int; allowed: an imgtag.RetryPolicy"),
        ({"breaker": None}, "breaker is of type NoneType; allowed: an imgtag.BreakerLimits"),
        ({"checkpoint": 7}, "checkpoint is of type int; allowed: a folder"),
        ({"shape": "wide", "vocabulary": ["cat", 7]}, "a list of tag names"),
        ({"shape": "wide", "vocabulary": ["cat", ""]}, "a list of tag names"),
        ({"shape": "wide", "vocabulary": ["cat", "dog", "cat"]}, "names a tag twice"),
        ({"topk": 1}, "unknown option 'topk'; allowed: provider, .*; did you mean 'top_k'"),
        ({"zzz": 1}, "unknown option 'zzz'; allowed: "),
    ],
)
def test_a_wrong_word_is_refused(words, says):
    """What was wrong and what is allowed, before anything happens."""
    with pytest.raises(ConfigError, match=says):
        Options.of(words)


@pytest.mark.parametrize(
    "words",
    [
        {"min_confidence": 0},
        {"min_confidence": 1},
        {"top_k": 1},
        {"budget": 0},
        {"max_calls": 0},
        {"qps": 0.5},
        {"shape": "wide", "vocabulary": []},
        {"shape": "wide", "vocabulary": ("cat",)},
        {"errors": "drop"},
    ],
)
def test_the_bounds_are_allowed(words):
    """The least and the most that a word may be."""
    options = Options.of(words)
    assert all(
        getattr(options, name) == (tuple(value) if name == "vocabulary" else value) for name, value in words.items()
    )


def test_one_kept_column_may_be_a_name():
    """`keep="sku"` is `keep=["sku"]`, not three letters; a label that is a number is one, too."""
    assert Options.of({"keep": "sku"}).keep == ("sku",)
    assert Options.of({"keep": 5}).keep == (5,)


def test_a_checkpoint_may_be_a_path():
    """A `Path` is the folder that it names."""
    assert Options.of({"checkpoint": Path("/tmp/tags")}).checkpoint == "/tmp/tags"


def test_a_vocabulary_may_be_a_column():
    """Of a frame or an array, as it comes from where a job keeps it."""
    for words in (pd.Series(["cat", "dog"]), np.array(["cat", "dog"]), ("cat", "dog")):
        assert Options.of({"shape": "wide", "vocabulary": words}).vocabulary == ("cat", "dog")


def test_labels_of_columns_are_their_text():
    """A frame's columns may be numbers or tuples."""
    assert Options.of({"key": 5, "keep": [("a", "b"), "c"]}).key == "5"


def test_secrets_are_not_shown():
    """Storage options and the address of Redis may hold passwords."""
    options = Options(storage_options={"secret": "canary"}, redis_url="redis://:canary@host/0")
    assert "canary" not in repr(options)


def test_numpy_numbers_are_numbers():
    """A cell of a frame is a number as any other."""
    options = Options.of({"top_k": np.int64(3), "budget": np.float64(0.5), "min_confidence": np.float32(0.5)})
    assert (options.top_k, options.budget, options.min_confidence) == (3, 0.5, 0.5)


def test_a_checkpoint_url_does_not_stand_in_the_options_repr():
    """It may carry a password."""
    assert "hunter2" not in repr(Options(checkpoint="ftp://me:hunter2@host/tags"))


@pytest.mark.parametrize(
    ("value", "allowed"), [(None, None), (0, 0), ("3", 3), ("1%", 2), ("0%", 0), ("0.5%", 1), ("100%", 200)]
)
def test_failed_images_are_allowed_as_a_number_or_a_share(value, allowed):
    """Of 200 images."""
    assert failed_limit(value, 200) == allowed


@pytest.mark.parametrize("value", [-1, "-1", "x", "%", "101%", "nan%", "1.5", True])
def test_a_limit_of_failed_images_that_is_none_is_refused(value):
    """The sentence says both forms."""
    with pytest.raises(ConfigError, match="a share such as '1%'"):
        failed_limit(value)
