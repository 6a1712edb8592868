"""The bar on standard error, shown only when a person is looking: images with an outcome, rate, time left, money."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from types import TracebackType
from typing import Any, Final, Self

from imgtag_pipeline.run.events import Event, Progress

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
        return self

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
        self._bar.set_description_str(line(event, self._title, _width()))

    def _show_widget(self, event: Progress) -> None:
        if self._bar is None:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=event.images_expected, desc=self._title, unit=" images", file=sys.stderr)
        self._bar.total = event.images_expected
        self._bar.n = event.done
        facts = _facts(event)
        shown = ("rate", "eta", "yuan", "calls", "cap", "throttled", "failed", "known")
        self._bar.set_postfix_str(", ".join(facts[name] for name in shown if name in facts))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def line(event: Progress, title: str, width: int) -> str:
    """The bar's line in at most `width` characters: what matters least is left out first."""
    facts = {"title": f"{title}:", **_facts(event)}
    shown: dict[str, int] = {}
    room = width
    for name in _NEEDED:
        size = LEAST_BAR + 2 if name == "bar" else len(facts.get(name, ""))
        needed = size + bool(shown)
        if size and needed <= room and (name != "bar" or "percent" in facts):
            shown[name] = size
            room -= needed
    parts = []
    for name in _ORDER:
        if name == "bar" and name in shown:
            parts.append(_drawn(_share(event), min(MOST_BAR, LEAST_BAR + room)))
        elif name in shown:
            parts.append(facts[name])
    return " ".join(parts)


def _facts(event: Progress) -> dict[str, str]:
    """Each fact in a few characters; what there is nothing to say of is not there."""
    expected = event.images_expected
    facts = {"count": f"{event.done:,}" + ("" if expected is None else f"/{expected:,}") + " images"}
    if expected:
        facts["percent"] = f"{int(100 * _share(event))}%"
    if event.rate is not None:
        facts["rate"] = f"{event.rate:.3g}/s" if event.rate < 1000 else f"{event.rate:,.0f}/s"
    if event.eta:
        facts["eta"] = f"{_clock(event.eta)} left"
    if event.calls:
        facts["calls"] = f"{event.calls:,} calls"
    if event.yuan:
        facts["yuan"] = f"{event.yuan:,.2f} yuan" if event.yuan >= 1 else f"{event.yuan:.4f} yuan"
    if event.cap_used is not None:
        facts["cap"] = f"cap {int(100 * event.cap_used)}%"
    if event.throttled:
        facts["throttled"] = f"{event.throttled:,} throttled"
    if event.failed:
        facts["failed"] = f"{event.failed:,} failed"
    if event.known:
        facts["known"] = f"{event.known:,} known"
    return facts


def _share(event: Progress) -> float:
    return min(1.0, event.done / event.images_expected) if event.images_expected else 0.0


def _drawn(share: float, width: int) -> str:
    full = int(share * width)
    return "|" + "█" * full + " " * (width - full) + "|"


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
    return max(20, shutil.get_terminal_size((80, 24)).columns - 1)
