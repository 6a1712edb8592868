"""The bar on standard error, shown only when a person is looking."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from imgtag_pipeline.run.report import Progress


def is_watched() -> bool:
    """Whether somebody sees standard error: a terminal, or the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return _is_terminal() or hasattr(shell, "kernel")


def _is_terminal() -> bool:
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

    def __call__(self, event: Progress) -> None:
        """Show how far the run is; safe from any thread."""
        if not self._is_shown:
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=event.total_rows, desc=self._title, unit=" rows", file=sys.stderr)
        self._bar.total = event.total_rows
        self._bar.n = event.rows_done
        facts = {"images": event.done, "known": event.known, "failed": event.failed, "calls": event.calls}
        if event.yuan:
            facts["yuan"] = round(event.yuan, 4)  # type: ignore[assignment]
        self._bar.set_postfix(facts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
