"""Events: handed to observers, grouped, logged with the same fields; an observer's faults are its own."""

import asyncio
import json
import logging

import pytest

from imgtag_pipeline.core import logs
from imgtag_pipeline.errors import (
    BreakerOpen,
    CapReached,
    ConfigError,
    FatalError,
    StoreError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.run import events
from imgtag_pipeline.run.report import Tally
from imgtag_pipeline.run.watch import LOG_AFTER, Watch
from imgtag_pipeline.testing import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def seen():
    return []


async def test_equal_troubles_are_told_together(clock, seen):
    """At most one event a second for each kind and code, with a count; none is lost."""
    watch = Watch(clock, "r", [seen.append])
    for _ in range(50):
        watch.troubled(ThrottledError("slow down", code="Throttling.User", retry_after=2.0))
        watch.troubled(TransientError("reset", code="ConnectionReset"))
        await clock.advance(0.1)
    watch.progress(Tally(), None, is_last=True)
    told = [event for event in seen if event.event in ("throttled", "retry")]
    assert len(told) <= 12
    watch._grouped_at = float("-inf")
    watch._flush(clock.monotonic())
    told = [event for event in seen if event.event in ("throttled", "retry")]
    assert sum(event.count for event in told if event.event == "throttled") == 50
    assert sum(event.count for event in told if event.event == "retry") == 50
    assert {event.retry_after for event in told if event.event == "throttled"} == {2.0}


def test_an_observer_that_raises_is_dropped(clock, seen, caplog):
    """Told once; the others go on."""

    def broken(event):
        raise RuntimeError("mine")

    watch = Watch(clock, "r", [broken, seen.append])
    for _ in range(3):
        watch.tell(events.Sealed(run="r", rows=5))
    assert len(seen) == 3
    assert caplog.text.count("observer_dropped") == 1


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (BreakerOpen("only failures"), "breaker"),
        (CapReached("used up"), "cap"),
        (FatalError("bad key", code="InvalidAccessKeyId"), "fatal"),
        (KeyboardInterrupt(), None),
    ],
)
def test_why_a_run_stops_is_an_event(clock, seen, error, name):
    """But for the caller's own wish, which the report tells."""
    Watch(clock, "r", [seen.append]).stopped(error)
    assert [event.event for event in seen] == ([] if name is None else [name])


async def test_a_changed_pace_is_told(clock, seen):
    """Once, with both figures; small changes are not."""
    paces = iter([10.0, 10.0, 9.9, 9.9, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    watch = Watch(clock, "r", [seen.append], pace=lambda: next(paces, 5.0))
    for _ in range(6):
        await clock.advance(1.5)
        watch.progress(Tally(), None)
    assert [(event.before, event.now) for event in seen if event.event == "pace"] == [(10.0, 5.0)]


async def test_progress_is_logged_now_and_then(clock, caplog):
    """After 10 seconds, then ever more seldom."""
    caplog.set_level(logging.INFO, "imgtag_pipeline")
    watch = Watch(clock, "r")
    moments = []
    for tenth in range(1, 7000):
        await clock.advance(0.1)
        watch.progress(Tally(), None)
        if len(caplog.records) > len(moments):
            moments.append(tenth / 10)
    gaps = [round(after - before) for before, after in zip([0.0, *moments], moments, strict=False)]
    assert gaps == [round(gap) for gap in LOG_AFTER[: len(gaps)]]
    assert len(gaps) >= 5


async def test_the_time_left_follows_the_quota(clock, seen):
    """By the calls that are allowed, or by the rate where that is lower."""
    watch = Watch(clock, "r", [seen.append], pace=lambda: 10.0)
    tally = Tally(images=100, rows_seen=100, ok=0)
    await clock.advance(0.1)
    watch.progress(tally, 1000)
    assert (seen[-1].images_expected, seen[-1].eta) == (1000, 100.0)
    for _ in range(10):
        tally.ok += 5
        tally.calls += 5
        await clock.advance(1.0)
        watch.progress(tally, 1000)
    assert seen[-1].rate == pytest.approx(5.0, abs=0.6)
    assert seen[-1].eta == pytest.approx(950 / seen[-1].rate, rel=0.01)


async def test_the_used_share_of_a_cap(clock, seen):
    """Of the cap that is nearer to its end."""
    watch = Watch(clock, "r", [seen.append], max_calls=100, budget=1.0)
    await clock.advance(1.0)
    watch.progress(Tally(calls=10, cost_micro_yuan=250_000), None)
    assert seen[-1].cap_used == 0.25


def record_of(event):
    facts = event.to_dict()
    return logging.makeLogRecord(
        {"levelname": "INFO", "msg": "%s", "args": (events.text_of(facts),), "imgtag": facts, "created": 0.0}
    )


def test_a_line_of_json_has_all_fields():
    """Time, level and event stand first."""
    event = events.Throttled(run="r", code="Throttling", count=3, retry_after=None)
    assert json.loads(json.dumps(logs.fields_of(record_of(event)))) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "event": "throttled",
        "run": "r",
        "code": "Throttling",
        "count": 3,
        "retry_after": None,
    }


def test_a_line_of_text_is_name_and_value():
    """What holds blanks stands in quotes, what says nothing is left out."""
    event = events.CapReached(run="r", reason='max_calls=3 is "used up"')
    assert events.text_of(event.to_dict()) == 'event=cap run=r reason="max_calls=3 is \\"used up\\""'


def test_lines_of_others_are_read_as_well():
    """Older lines begin with their event, too."""
    record = logging.makeLogRecord({"levelname": "WARNING", "msg": "event=place_kept detail=%s", "args": ("x",)})
    assert {key: logs.fields_of(record)[key] for key in ("level", "event", "message")} == {
        "level": "warning",
        "event": "place_kept",
        "message": "detail=x",
    }


def test_another_format_is_refused(monkeypatch):
    """One sentence with what is allowed."""
    monkeypatch.setenv("IMGTAG_LOG", "xml")
    with pytest.raises(ConfigError, match="IMGTAG_LOG is 'xml'; allowed: json or text"):
        logs.set_up()


def test_without_the_variable_nothing_is_set_up(monkeypatch):
    """A library leaves logging to its caller."""
    monkeypatch.delenv("IMGTAG_LOG", raising=False)
    before = list(logs.logger.handlers)
    logs.set_up()
    assert logs.logger.handlers == before


def test_warnings_are_seen_beside_progress_lines(monkeypatch, capsys):
    """A command whose output goes to a file: warnings as without any set-up, progress, and nothing else."""
    monkeypatch.delenv("IMGTAG_LOG", raising=False)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logs.logger, "propagate", False)
    level = logs.logger.level
    try:
        logs.set_up(progress_lines=True)
        logs.logger.warning("event=marks_not_put detail=%s", "x")
        logs.logger.info("event=waiting_for_claims images=3")
        Watch(FakeClock(), "r").tell(
            events.Progress(rows_done=0, total_rows=None, images=0, done=0, known=0, failed=0, calls=0, yuan=None)
        )
    finally:
        logs.logger.removeHandler(logs._handler)
        logs._handler.only = None
        logs.logger.setLevel(level)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "event=marks_not_put detail=x"
    assert [("event=progress" in line) for line in lines] == [False, True]


def test_events_are_frozen():
    """An observer may keep them, and may change nothing."""
    with pytest.raises(AttributeError):
        events.Sealed(run="r", rows=5).rows = 6


async def test_progress_is_told_while_nothing_happens(clock, seen):
    """A vendor that does not answer leaves the bar and the log going: every second, and the rate sinks."""
    watch = Watch(clock, "r", [seen.append], pace=lambda: 10.0)
    tally = Tally(images=100, rows_seen=100, ok=20)
    ticking = asyncio.create_task(watch.ticks(lambda: watch.progress(tally, 100)))
    await clock.advance(20.0)
    ticking.cancel()
    rates = [event.rate for event in seen if event.event == "progress"]
    assert len(rates) == 20
    assert rates[0] == pytest.approx(20.0)
    assert rates[-1] == 0.0
    assert seen[-1].eta == 8.0


async def test_the_first_line_of_the_log_has_a_rate(clock, caplog):
    """Without an observer progress is looked at only when a line is due."""
    caplog.set_level(logging.INFO, "imgtag_pipeline")
    watch = Watch(clock, "r")
    await clock.advance(10.0)
    watch.progress(Tally(images=100, rows_seen=100, ok=50), 100)
    assert "rate=5 " in caplog.text


@pytest.mark.parametrize(("observers", "level", "is_heard"), [([], "WARNING", False), ([print], "WARNING", True)])
def test_nobody_hears(clock, caplog, observers, level, is_heard):
    """Then no event is made."""
    caplog.set_level(level, "imgtag_pipeline")
    assert Watch(clock, "r", observers).is_heard() is is_heard


def test_why_a_run_stops_is_told_once(clock, seen):
    """A store that fails is met by the worker, and again when it is closed."""
    watch = Watch(clock, "r", [seen.append])
    watch.stopped(StoreError("disk is full"))
    watch.stopped(StoreError("disk is full"))
    assert [event.event for event in seen] == ["fatal"]


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_line_shows_a_signature(clock, caplog, form):
    """Whatever text an event was given."""
    caplog.set_level(logging.INFO, "imgtag_pipeline")
    secret = "https://b.example.com/a.jpg?OSSAccessKeyId=canary&Signature=canary"
    Watch(clock, "r").tell(events.Retry(run="r", code=secret, count=1))
    (record,) = caplog.records
    shown = json.dumps(logs.fields_of(record)) if form == "json" else logs.text_of(record)
    assert "b.example.com/a.jpg" in shown
    assert "canary" not in shown
