"""The bar: for people who look, and in nobody's way."""

import io
import sys
import warnings
from types import SimpleNamespace

import pytest

from imgtag_pipeline.run.events import Progress, RunStart
from imgtag_pipeline.run.progress import Bar, is_watched, line

EVENT = Progress(
    rows_done=5000,
    total_rows=12000,
    images=9000,
    images_expected=10800,
    done=4321,
    known=300,
    failed=12,
    calls=4100,
    yuan=8.2,
    rate=18.44,
    pace=20.0,
    eta=352.0,
    throttled=31,
    cap_used=0.41,
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Closed(io.StringIO):
    def isatty(self):
        raise ValueError("I/O operation on closed file")


def shown(monkeypatch, stream, wanted=None):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    with Bar(wanted, "viapi/TaggingImage") as bar:
        bar(EVENT)
    return stream.getvalue() if stream else ""


def test_a_person_at_a_terminal_sees_how_far_it_is(monkeypatch):
    """Images that have an outcome, rate, time left and money, on standard error."""
    monkeypatch.setenv("COLUMNS", "130")
    text = shown(monkeypatch, Terminal())
    for words in ("40%", "4,321/10,800 images", "18.4/s", "5:52 left", "8.20 yuan", "4,100 calls", "cap 41%"):
        assert words in text


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (40, ("40%", "4,321/10,800 images", "18.4/s", "5:52 left")),
        (80, ("40%", "4,321/10,800 images", "18.4/s", "5:52 left", "8.20 yuan", "cap 41%", "12 failed")),
        (120, ("40% |", "4,321/10,800 images", "8.20 yuan", "cap 41%", "31 throttled", "12 failed", "4,100 calls")),
        (160, ("viapi/TaggingImage: 40% |", "300 known")),
    ],
)
def test_nothing_important_is_cut(width, words):
    """What does not fit is left out whole, the least important first."""
    text = line(EVENT, "viapi/TaggingImage", width)
    assert len(text) <= width
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("width", range(20, 200))
def test_the_line_never_passes_the_width(width):
    """Else a terminal would wrap it, and the next line would not take its place."""
    assert len(line(EVENT, "viapi/TaggingImage", width)) <= width


def test_of_a_stream_nobody_knows_the_length():
    """No percentage and no time left; what is known is shown."""
    event = Progress(rows_done=0, total_rows=None, images=40, done=30, known=0, failed=0, calls=0, yuan=0.0)
    assert line(event, "local", 80) == "local: 30 images"


@pytest.mark.parametrize("has_widgets", [True, False])
def test_a_notebook_gets_a_widget_where_there_are_any(monkeypatch, has_widgets):
    """Else the line of a terminal, without a warning."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=1), version_info=(8,))
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if has_widgets else None)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if not has_widgets else "ignore")
        with Bar(None, "viapi/TaggingImage") as bar:
            bar(EVENT)
            assert (
                type(bar._bar).__module__ != "tqdm.std" if has_widgets else "4,321/10,800 images" in stream.getvalue()
            )


def test_the_bar_shows_nothing_but_progress(monkeypatch):
    """It is handed all events."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Bar(True, "local") as bar:
        bar(RunStart(run="r", provider="local", rows=1, concurrency=1, qps=None, checkpoint=None))
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("stream", "wanted"), [(io.StringIO(), None), (Terminal(), False), (Closed(), None)])
def test_nobody_looks(monkeypatch, stream, wanted):
    """A log file, a scheduler or a wish for silence: not one character."""
    assert shown(monkeypatch, stream, wanted) == ""


@pytest.mark.parametrize("wanted", [None, True])
def test_there_may_be_no_standard_error(monkeypatch, wanted):
    """As under a Windows service: the run goes on without a bar."""
    assert shown(monkeypatch, None, wanted) == ""


def test_a_wish_is_followed_wherever_it_goes(monkeypatch):
    """`progress=True` shows the bar in a log file as well."""
    assert "4,321/10,800" in shown(monkeypatch, io.StringIO(), True)


@pytest.mark.parametrize(
    ("shell", "is_seen"), [(SimpleNamespace(kernel=1), True), (SimpleNamespace(), False), (None, False)]
)
def test_a_notebook_is_watched(monkeypatch, shell, is_seen):
    """Its kernel has no terminal, but a person; an IPython that somebody only imported has not."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert is_watched() is is_seen
