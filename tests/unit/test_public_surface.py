"""What a user sees of the package: names, words, help."""

import inspect
import pickle
import re
import typing
from dataclasses import fields
from types import ModuleType

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.options import Options, OptionWords

VERBS = {
    "label": imgtag.label,
    "alabel": imgtag.alabel,
    "enrich": imgtag.enrich,
    "plan": imgtag.plan,
    "df.imgtag.label": pd.DataFrame().imgtag.label,
    "df.imgtag.plan": pd.DataFrame().imgtag.plan,
    "s.imgtag.label": pd.Series(dtype=str).imgtag.label,
    "s.imgtag.plan": pd.Series(dtype=str).imgtag.plan,
}
WORDS = [one.name for one in fields(Options)]


def test_all_is_what_is_visible():
    """`__all__` is sorted, every name is there, and no other name of ours is visible beside the modules."""
    assert imgtag.__all__ == sorted(set(imgtag.__all__))
    visible = {name for name, value in vars(imgtag).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    assert visible | {"events", "providers"} == set(imgtag.__all__)


@pytest.mark.parametrize("name", imgtag.__all__)
def test_every_name_says_what_it_is(name):
    """`help` has an answer for each."""
    assert inspect.getdoc(getattr(imgtag, name))


@pytest.mark.parametrize("name", imgtag.providers.__all__)
def test_the_providers_are_there_by_name(name):
    """Also those whose file is imported only when it is asked for."""
    assert getattr(imgtag.providers, name) is not None


def test_the_words_are_written_down_once_and_completely():
    """The keyword arguments for type checkers, the options and their description name the same words, in one order."""
    assert list(typing.get_type_hints(OptionWords)) == WORDS
    described = [line.partition(":")[0] for line in inspect.getdoc(Options).partition("\n\n")[2].splitlines()]
    assert described == WORDS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_the_same_words(verb):
    """With the same defaults, keyword-only, and each is explained in the help."""
    parameters = inspect.signature(VERBS[verb]).parameters
    taken = [name for name in parameters if name in WORDS]
    assert taken == WORDS
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in WORDS)
    assert {name: parameters[name].default for name in WORDS} == {name: getattr(Options(), name) for name in WORDS}
    assert all(f"\n{name} : " in inspect.getdoc(VERBS[verb]) for name in WORDS)


def test_the_defaults_are_those_of_the_contract():
    """The embedded provider, the long shape, failures as rows, no caps, a bar only when somebody looks."""
    options = Options()
    assert (options.provider, options.shape, options.errors) == ("local", "long", "rows")
    assert options.retry_failed is False
    for name in ("min_confidence", "top_k", "vocabulary", "checkpoint", "qps", "budget", "max_calls", "progress"):
        assert getattr(options, name) is None


def test_the_accessor_keeps_no_state():
    """pandas builds a new accessor whenever it likes."""
    frame = pd.DataFrame({"url": []})
    assert vars(frame.imgtag) == {"_frame": frame} or list(vars(frame.imgtag)) == ["_frame"]


@pytest.mark.parametrize("name", [name for name in imgtag.__all__ if inspect.isclass(getattr(imgtag, name))])
def test_errors_travel_between_processes(name):
    """An error of a worker of Airflow, Prefect or Dask arrives with its code and message."""
    kind = getattr(imgtag, name)
    if not issubclass(kind, BaseException):
        return
    facts = {"code": "Code"} if issubclass(kind, imgtag.CallError) else {}
    error = pickle.loads(pickle.dumps(kind("what was wrong", **facts)))
    assert type(error) is kind
    assert str(error) == "what was wrong"
    assert getattr(error, "code", "Code") == "Code"


def test_one_question_is_asked_of_an_error():
    """Transient, throttled, permanent or fatal stands on its class, and how a program ends with it."""
    assert issubclass(imgtag.Interrupted, KeyboardInterrupt)
    assert issubclass(imgtag.ConfigError, ValueError)
    codes = {imgtag.ConfigError: 2, imgtag.FatalError: 3, imgtag.StoreError: 3, imgtag.CapReached: 4}
    codes |= {imgtag.Interrupted: 130, imgtag.RowsFailed: 1}
    assert {kind: kind.exit_code for kind in codes} == codes


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_the_sections_of_numpydoc(verb):
    """Parameters with type and default for each option, what is returned and raised, and an example."""
    doc = inspect.getdoc(VERBS[verb])
    for section in ("Parameters", "Returns", "Raises", "Examples"):
        assert re.search(rf"(?m)^{section}\n-+$", doc), section
    for name in WORDS:
        assert re.search(rf"(?m)^{name} : .+, default .+\n    [^ ]", doc), name
    assert "**words" not in doc
