"""The bar on standard error, shown only when a person is looking: images with an outcome, rate, time left, money."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from imgtag_pipeline.run.events import Event, Progress

_log = logging.getLogger("imgtag_pipeline")

LEAST_BAR: Final = 5
MOST_BAR: Final = 30
# What is shown from left to right, and what gives way last to first where the line is too narrow.
_ORDER: Final = (
    "title",
    "percent",
    "bar",
    "count",
    "rate",
    "eta",
    "yuan",
    "calls",
    "cap",
    "throttled",
    "failed",
    "known",
)
_NEEDED: Final = (
    "percent",
    "count",
    "eta",
    "failed",
    "yuan",
    "cap",
    "rate",
    "throttled",
    "calls",
    "bar",
    "known",
    "title",
)

# What is shortened rather than left out.
_FIGURES: Final = ("percent", "count", "eta", "failed", "yuan", "cap", "rate", "throttled", "calls")


def is_watched() -> bool:
    """Whether somebody sees standard error: a terminal, or the kernel of a notebook."""
    return is_terminal() or _is_notebook()


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _has_widgets() -> bool:
    return _is_notebook() and importlib.util.find_spec("ipywidgets") is not None


def is_terminal() -> bool:
    """Schedulers put all sorts of things in the place of standard error, or nothing at all."""
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError, OSError):
        return False


class Bar:
    """Shows `Progress` events; `wanted` None shows only when a person looks."""

    def __init__(self, wanted: bool | None, title: str) -> None:
        self._is_shown = sys.stderr is not None and (is_watched() if wanted is None else wanted)
        self._title = title
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._is_shown:
            _log.addFilter(self._make_room)
        return self

    @property
    def observer(self) -> Callable[[Event], None] | None:
        """Itself, or None where nothing is shown, so that nobody makes events for it."""
        return self if self._is_shown else None

    def __call__(self, event: Event) -> None:
        """Show how far the run is; safe from any thread."""
        if not self._is_shown or not isinstance(event, Progress):
            return
        if _has_widgets() and not is_terminal():
            self._show_widget(event)
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=0, bar_format="{desc}", file=sys.stderr)
        self._bar.set_description_str(line(event, self._title, _width(), is_ascii=_is_ascii()))

    def _show_widget(self, event: Progress) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=event.images_expected, desc=self._title, unit=" images", file=sys.stderr)
        self._bar.total = event.images_expected
        self._bar.n = event.done
        facts = _facts(event)
        shown = ("rate", "eta", "yuan", "calls", "cap", "throttled", "failed", "known")
        self._bar.set_postfix_str(", ".join(facts[name] for name in shown if name in facts))

    def _make_room(self, record: logging.LogRecord) -> bool:
        """Take the bar away before a log line, which would be written behind it. The next event shows it again."""
        if self._bar is not None and is_terminal():
            self._bar.clear()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _log.removeFilter(self._make_room)
        if self._bar is not None:
            self._bar.close()


def line(event: Progress, title: str, width: int, *, is_ascii: bool = False) -> str:
    """The bar's line in at most `width` characters.

    Where not every figure fits, all are shortened; what does not fit then is left out, the least important first.
    """
    facts = _facts(event)
    shown = _fitting(facts, title, width)
    if any(name not in shown for name in _FIGURES if name in facts):
        facts |= _shortened(event, is_ascii=is_ascii)
        shown = _fitting(facts, title, width)
    facts["title"] = f"{title}:"
    room = width - sum(shown.values()) - len(shown) + 1
    parts = []
    for name in _ORDER:
        if name == "bar" and name in shown:
            parts.append(_drawn(_share(event), min(MOST_BAR, LEAST_BAR + room), "#" if is_ascii else "█"))
        elif name in shown:
            parts.append(facts[name])
    return " ".join(parts)


def _fitting(facts: dict[str, str], title: str, width: int) -> dict[str, int]:
    """Which facts fit beside each other, the most important first, and how wide each is."""
    sizes = {name: len(text) for name, text in facts.items()} | {"title": len(title) + 1}
    if "percent" in facts:
        sizes["bar"] = LEAST_BAR + 2
    shown: dict[str, int] = {}
    room = width
    for name in _NEEDED:
        if name in sizes and sizes[name] + bool(shown) <= room:
            room -= sizes[name] + bool(shown)
            shown[name] = sizes[name]
    return shown


def _facts(event: Progress) -> dict[str, str]:
    """Each fact in a few characters; what there is nothing to say of is not there."""
    expected = event.images_expected
    facts = {"count": f"{event.done:,}" + ("" if expected is None else f"/{expected:,}") + " images"}
    if expected:
        facts["percent"] = _percent(_share(event))
    if event.rate is not None:
        facts["rate"] = f"{event.rate:.3g}/s" if event.rate < 999.5 else f"{event.rate:,.0f}/s"
    if event.eta:
        facts["eta"] = f"{_clock(event.eta)} left"
    if event.calls:
        facts["calls"] = f"{event.calls:,} calls"
    if event.yuan:
        facts["yuan"] = f"{_money(event.yuan)} yuan"
    if event.cap_used is not None:
        facts["cap"] = f"cap {_percent(event.cap_used)}"
    if event.throttled:
        facts["throttled"] = f"{_percent(_throttled(event))} throttled"
    if event.failed:
        facts["failed"] = f"{event.failed:,} failed"
    if event.known:
        facts["known"] = f"{event.known:,} known"
    return facts


def _shortened(event: Progress, *, is_ascii: bool) -> dict[str, str]:
    """Shorter words for some of the facts."""
    expected = event.images_expected
    short = {"count": _number(event.done) + ("" if expected is None else f"/{_number(expected)}")}
    if event.calls:
        short["calls"] = f"{_number(event.calls)} calls"
    if event.yuan and not is_ascii:
        short["yuan"] = f"¥{_money(event.yuan)}"
    if event.throttled:
        short["throttled"] = f"thr {_percent(_throttled(event))}"
    return short


def _money(yuan: float) -> str:
    return f"{yuan:,.2f}" if yuan >= 1 else f"{yuan:.4f}"


def _number(count: int) -> str:
    """4,321; from 100,000 on 123k, 1.23M."""
    if count < 100_000:
        return f"{count:,}"
    if count < 1_000_000:
        return f"{count // 1000}k"
    return f"{count // 10_000 / 100:.2f}M"


def _percent(share: float) -> str:
    """Rounded down, so that 100% is the whole; a little is not nothing."""
    return "<1%" if 0 < share < 0.01 else f"{int(100 * share)}%"


def _throttled(event: Progress) -> float:
    return min(1.0, event.throttled / event.calls) if event.calls else 0.0


def _share(event: Progress) -> float:
    return min(1.0, event.done / event.images_expected) if event.images_expected else 0.0


def _drawn(share: float, width: int, mark: str) -> str:
    full = int(share * width)
    return "|" + mark * full + " " * (width - full) + "|"


def _clock(seconds: float) -> str:
    """Time left: 42s, 5:21, 3h07, 12d."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 172_800:
        return f"{whole // 3600}h{whole % 3600 // 60:02}"
    return f"{whole // 86_400}d"


def _width() -> int:
    """Columns of the terminal at standard error: standard output may be a pipe or a file."""
    try:
        own = os.get_terminal_size(sys.stderr.fileno()).columns
    except (AttributeError, ValueError, OSError):
        own = 0
    return max(20, shutil.get_terminal_size((own or 80, 24)).columns - 1)


def _is_ascii() -> bool:
    """Whether standard error can show no block characters; escapes in their place would not fit the width."""
    try:
        "█¥".encode(getattr(sys.stderr, "encoding", None) or "utf-8")
    except (UnicodeError, LookupError):
        return True
    return False
