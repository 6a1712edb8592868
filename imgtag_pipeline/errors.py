"""The errors that leave the package: every one redacted, picklable, and with its answer written on its class.

A *call* error says what to do with one call (`TransientError`, `ThrottledError`, `PermanentError`, `FatalError`);
a *run* error says how the whole run ended and carries its report and the table so far.
"""

from __future__ import annotations

import os
import traceback
from typing import Any, ClassVar, Final, Literal

from imgtag_pipeline.urls import redact

Billing = Literal["no", "unknown", "yes"]
_HERE: Final = os.path.dirname(os.path.abspath(__file__)) + os.sep

UNLESS_ALLOWED: Final = "where your own network is meant, allow it with allow_private=True (--allow-private)"


def _rebuild(cls: type[ImgtagError], message: str, facts: dict[str, Any]) -> ImgtagError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(facts)
    return error


class ImgtagError(Exception):
    """Root of all errors of this package. The message is redacted when the error is built."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the caller's own lines, and the sentence."""
        frames = [
            frame
            for frame in traceback.extract_tb(self.__traceback__)
            if not frame.filename.startswith(_HERE) and f"{os.sep}IPython{os.sep}" not in frame.filename
        ]
        shown = [line.rstrip("\n") for line in traceback.format_list(frames)]
        return ["Traceback (most recent call last):", *shown, f"{type(self).__name__}: {self}"]

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: value for name, value in self.__dict__.items() if name != "partial"}
        return _rebuild, (type(self), str(self), facts)


class ConfigError(ImgtagError, ValueError):
    """The caller's mistake: said before any call is made and before anything is written."""

    exit_code = 2


class StoreError(ImgtagError):
    """The tag store cannot be read or written; no call is sent once this is known.

    When that ends a run, `report` is the `RunReport` and `partial` the table so far, where there is one.
    """

    exit_code = 3
    report: Any = None
    partial: Any = None


class OutputError(ImgtagError):
    """The output cannot be written (disk full, permission, network); what was begun there is taken away again."""

    exit_code = 3


class CallError(ImgtagError):
    """One call did not give an answer.

    `code` is the vendor's code or our own name (`ConnectTimeout`, `NotFound`); `billing` says whether the call may
    have cost money; `retry_after` is in seconds; `max_attempts` caps the attempts for this code below the policy's.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        request_id: str | None = None,
        billing: Billing = "no",
        retry_after: float | None = None,
        max_attempts: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.request_id = request_id
        self.billing: Billing = billing
        self.retry_after = retry_after
        self.max_attempts = max_attempts


class TransientError(CallError):
    """Wait and try again: a time-out, a reset, a 5xx."""


class ThrottledError(CallError):
    """Too fast: everybody on this quota slows down; the image's attempts are not used up."""


class PermanentError(CallError):
    """This image will not succeed; the others may."""


class RefusedHereError(PermanentError):
    """This run, as it is set up, does not read this image; one with another option or package may, and asks again."""


class FatalError(CallError):
    """The run cannot go on: bad key, not purchased, arrears. Reaches the caller with `report` and `partial`."""

    exit_code = 3
    report: Any = None
    partial: Any = None


class ClockSkewError(FatalError):
    """The vendor refuses our clock. Corrected once from the reply's `Date` header, fatal after that."""

    server_date: str | None = None


class CredentialsExpiredError(FatalError):
    """A temporary credential ran out. Fetched anew once, fatal after that."""


class RunStopped(ImgtagError):
    """The run ended early.

    `report` is the `RunReport`; `partial` the table so far (every input row), or None for a stream.
    """

    def __init__(self, message: str, *, report: Any = None, partial: Any = None) -> None:
        super().__init__(message)
        self.report = report
        self.partial = partial


class CapReached(RunStopped):
    """`budget` or `max_calls` is used up; a further run continues."""

    exit_code = 4


class BreakerOpen(RunStopped):
    """Too many failures of one class in a row or in share; a further run continues."""

    exit_code = 3


class RowsFailed(RunStopped):
    """With `errors="raise"`: the run is complete and some images failed for good."""


class Interrupted(RunStopped, KeyboardInterrupt):
    """Ctrl-C, SIGTERM or a cancelled call: every answer that had arrived is kept."""

    exit_code = 130
