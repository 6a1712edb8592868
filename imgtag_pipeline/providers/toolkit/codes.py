"""What a vendor's code stands for: one `Verdict` per code in the vendor's table, turned into one of our errors here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from imgtag_pipeline.errors import (
    Billing,
    CallError,
    ClockSkewError,
    CredentialsExpiredError,
    FatalError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.model import Reply
from imgtag_pipeline.providers.toolkit.decode import Malformed, text

MAX_WAIT: Final = 900.0
_SIGNED_TEXT: Final = re.compile(r"(?i)string[ _-]?to[ _-]?sign|canonical ?request")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a code. A fatal one has `advice`: our own sentence, for the vendor's may repeat the request."""

    error: type[CallError]
    advice: str = ""
    max_attempts: int | None = None


TRANSIENT: Final = Verdict(TransientError)
ONCE_MORE: Final = Verdict(TransientError, max_attempts=2)
TWICE_MORE: Final = Verdict(TransientError, max_attempts=3)
THROTTLED: Final = Verdict(ThrottledError)
PERMANENT: Final = Verdict(PermanentError)
SKEWED: Final = Verdict(
    ClockSkewError, "the vendor refuses the time in our signature; set this machine's clock (NTP) and run again"
)
EXPIRED: Final = Verdict(
    CredentialsExpiredError, "the temporary credentials have expired; fetch new ones and run again"
)


def fatal(advice: str) -> Verdict:
    """The whole run stops; `advice` says what is wrong and what to do."""
    return Verdict(FatalError, advice)


def by_status(status: int) -> Verdict:
    """Where no code helps: 429 is throttled, 408 and 5xx pass, the rest is about this image."""
    if status == 429:
        return THROTTLED
    return TRANSIENT if status == 408 or status >= 500 else PERMANENT


def error_of(
    verdict: Verdict,
    *,
    code: str,
    message: str | None,
    request_id: str | None,
    billing: Billing,
    reply: Reply,
) -> CallError:
    """The error to raise, with the vendor's message only where that cannot repeat what was signed."""
    said = verdict.advice or _cleaned(message)
    return verdict.error(
        f"{code}: {said}" if said else f"{code} (HTTP {reply.status})",
        code=code,
        request_id=request_id,
        billing=billing,
        retry_after=retry_after(reply.headers) if issubclass(verdict.error, (ThrottledError, TransientError)) else None,
        max_attempts=verdict.max_attempts,
    )


def malformed(
    problem: Malformed, *, request_id: str | None = None, is_billable: bool = True, max_attempts: int = 2
) -> TransientError:
    """A success that cannot be read: asked once more, for it may have been cut; it may have been billed."""
    return TransientError(
        f"MalformedReply: {problem}",
        code="MalformedReply",
        request_id=request_id,
        billing="unknown" if is_billable else "no",
        max_attempts=max_attempts,
    )


def said(value: Any) -> str | None:
    """A text of an error body on one line, cut at 300 characters; None where there is none. Never fails."""
    try:
        found = text(value) or ""
    except Malformed:
        return None
    found = found[:2000]
    if not found.isprintable():
        found = "".join(char if char.isprintable() else " " for char in found)
    line = " ".join(found.split())
    return (line if len(line) <= 300 else line[:299] + "…") or None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the vendor says, at most 15 minutes.

    `x-acs-retry-after` has no documented unit: values over 300 are taken for milliseconds. A date in `Retry-After`
    counts from the reply's own `Date`.
    """
    own = _seconds(headers.get("x-acs-retry-after"))
    if own is not None and own > 300:
        own /= 1000
    given = headers.get("retry-after")
    wait = own if own is not None else _seconds(given)
    if wait is None and given and "date" in headers:
        try:
            wait = (parsedate_to_datetime(given) - parsedate_to_datetime(headers["date"])).total_seconds()
        except (TypeError, ValueError):
            wait = None
    return min(wait, MAX_WAIT) if wait is not None and wait > 0 else None


def _seconds(value: str | None) -> float | None:
    return float(value) if value and re.fullmatch("[0-9]{1,9}", value.strip(), re.ASCII) else None


def _cleaned(message: str | None) -> str:
    """The vendor's words; none at all where they quote what was signed."""
    return "" if not message or _SIGNED_TEXT.search(message) else message
