"""How a command ends: data on standard output, one sentence on standard error, and an exit code."""

from __future__ import annotations

import functools
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, ParamSpec

import typer

from imgtag_pipeline.errors import CapReached, ImgtagError
from imgtag_pipeline.run.report import RunReport, aligned, counted

P = ParamSpec("P")
INTERRUPTED: Final = 130
STOPS: Final = (signal.SIGINT, signal.SIGTERM)


def spoken(function: Callable[P, None]) -> Callable[P, None]:
    """The command with its errors as one sentence and an exit code; a stopped run tells its report first."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except (ImgtagError, KeyboardInterrupt) as error:
            _tell_report(error, as_json=bool(kwargs.get("as_json")))
            typer.echo(f"imgtag: {str(error) or 'interrupted'}", err=True)
            raise typer.Exit(error.exit_code if isinstance(error, ImgtagError) else INTERRUPTED) from None

    return command


def _tell_report(error: BaseException, *, as_json: bool) -> None:
    """What was spent and what is in doubt, also where the command was to be quiet."""
    report = getattr(error, "report", None)
    if not isinstance(report, RunReport):
        return
    if as_json:
        print_json(report.to_dict())
    else:
        why_is_said_below = [line for line in report.lines() if line[0] != "stopped"]
        typer.echo(aligned(why_is_said_below), err=True)


def end_run(report: RunReport, out: str, *, max_failed: str, as_json: bool, is_quiet: bool) -> None:
    """Tell the report of a run that came to its end, and exit with 1 where too many images failed."""
    with undisturbed():
        if as_json:
            print_json(report.to_dict())
        elif not is_quiet:
            typer.echo(aligned([*report.lines(), ("written to", out)]))
    if report.exit_code == CapReached.exit_code:
        asked = f"{counted(report.unanswered, 'image')} not asked yet"
        typer.echo(f"imgtag: {report.stopped}; {out} is written, {asked}", err=True)
        raise typer.Exit(report.exit_code)
    if report.exit_code:
        failed = counted(report.failed_images, "image")
        typer.echo(f"imgtag: {failed} failed, more than --max-failed {max_failed}; {out} is written", err=True)
        raise typer.Exit(report.exit_code)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C and SIGTERM change nothing while it is told what has been done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def tell(
    rows: Sequence[dict[str, Any]], lines: Callable[[Sequence[dict[str, Any]]], Iterator[str]], as_json: bool
) -> None:
    """Plain data as JSON, or as lines for a person."""
    if as_json:
        print_json(rows)
    else:
        typer.echo("\n".join(lines(rows)))


def print_json(data: Any) -> None:
    """One JSON document on standard output, in ASCII where that is no UTF-8."""
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    sys.stdout.write(json.dumps(data, ensure_ascii=not is_utf8, indent=2, default=str) + "\n")
