"""The bar: for people who look, and in nobody's way."""

import io
import logging
import os
import sys
import warnings
from dataclasses import replace
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

LARGE = replace(
    EVENT, images_expected=50_000_000, done=12_345_678, failed=1200, calls=12_400_000, yuan=24_800.0, eta=1.85e6
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
        (39, ("40%", "4,321/10,800", "5:52 left", "12 failed")),
        (
            79,
            (
                *("40%", "4,321/10,800", "18.4/s", "5:52 left", "¥8.20"),
                *("4,100 calls", "cap 41%", "thr <1%", "12 failed"),
            ),
        ),
        (119, ("40% |", "4,321/10,800 images", "8.20 yuan", "cap 41%", "<1% throttled", "12 failed", "4,100 calls")),
        (160, ("viapi/TaggingImage: 40% |", "300 known")),
    ],
)
def test_nothing_important_is_cut(width, words):
    """What does not fit is left out whole, the least important first."""
    text = line(EVENT, "viapi/TaggingImage", width)
    assert len(text) <= width
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize("is_ascii", [False, True])
@pytest.mark.parametrize("event", [EVENT, LARGE])
@pytest.mark.parametrize("width", range(20, 200))
def test_the_line_never_passes_the_width(width, event, is_ascii):
    """Else a terminal would wrap it, and the next line would not take its place."""
    assert len(line(event, "viapi/TaggingImage", width, is_ascii=is_ascii)) <= width


def test_large_numbers_leave_room_for_the_time_left():
    """Millions are shortened before anything is left out."""
    text = line(LARGE, "viapi/TaggingImage", 39)
    assert text == "24% 12.34M/50.00M 21d left 1,200 failed"


def test_a_stream_without_block_characters():
    """An escape in the place of one would take six columns."""
    assert line(EVENT, "local", 120, is_ascii=True).isascii()
    assert line(EVENT, "local", 79, is_ascii=True).isascii()


@pytest.mark.parametrize(
    ("throttled", "words"), [(0, None), (31, "<1% throttled"), (410, "10% throttled"), (4100, "100% throttled")]
)
def test_throttling_is_a_share_of_the_calls(throttled, words):
    """A number alone says nothing without the calls."""
    text = line(replace(EVENT, throttled=throttled), "local", 120)
    assert words in text if words else "throttled" not in text


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
            assert type(bar._bar).__module__ != "tqdm.std" if has_widgets else "4,321/10,800" in stream.getvalue()


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


def test_the_width_is_that_of_standard_error(monkeypatch):
    """Standard output may be a pipe: `imgtag label ... --json | jq`."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def size_of(number):
        if number != 77:
            raise OSError("not a terminal")
        return os.terminal_size((40, 24))

    monkeypatch.setattr(os, "get_terminal_size", size_of)
    stream = Terminal()
    stream.fileno = lambda: 77
    text = shown(monkeypatch, stream)
    assert max(len(part) for part in text.strip().split("\r")) <= 39
    assert "40% 4,321/10,800 5:52 left 12 failed" in text


def test_a_log_line_takes_the_place_of_the_bar(monkeypatch):
    """It begins in the first column of an empty line; the next event shows the bar again."""
    monkeypatch.setenv("COLUMNS", "60")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    logger = logging.getLogger("imgtag_pipeline")
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        with Bar(None, "local") as bar:
            bar(EVENT)
            logger.warning("event=place_kept")
            bar(EVENT)
    finally:
        logger.removeHandler(handler)
    before, after = stream.getvalue().split("event=place_kept\n")
    emptied = before.split("\r")[-2]
    assert before.endswith("\r")
    assert len(emptied) >= len(line(EVENT, "local", 59))
    assert emptied.isspace()
    assert "4,321/10,800" in after
    assert logger.filters == []


@pytest.mark.parametrize(("stream", "is_made"), [(Terminal(), True), (io.StringIO(), False), (None, False)])
def test_a_bar_that_is_not_shown_observes_nothing(monkeypatch, stream, is_made):
    """No event is made for it."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert (Bar(None, "local").observer is not None) is is_made
