"""The bar: for people who look, and in nobody's way."""

import io
import sys
from types import SimpleNamespace

import pytest

from imgtag_pipeline.run.progress import Bar, is_watched
from imgtag_pipeline.run.report import Progress

EVENT = Progress(rows_done=50, total_rows=100, images=40, done=30, known=10, failed=2, calls=20, yuan=0.05)


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
    """Rows, images, failures, calls and yuan, on standard error."""
    text = shown(monkeypatch, Terminal())
    for words in ("viapi/TaggingImage", "50/100", "images=30", "known=10", "failed=2", "calls=20", "yuan=0.05"):
        assert words in text


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
    assert "50/100" in shown(monkeypatch, io.StringIO(), True)


@pytest.mark.parametrize(
    ("shell", "is_seen"), [(SimpleNamespace(kernel=1), True), (SimpleNamespace(), False), (None, False)]
)
def test_a_notebook_is_watched(monkeypatch, shell, is_seen):
    """Its kernel has no terminal, but a person; an IPython that somebody only imported has not."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert is_watched() is is_seen
