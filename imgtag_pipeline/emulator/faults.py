"""Faults on purpose: which calls go wrong and how, by share, by number, or by what the call itself asks for.

One fault is written `KIND[:ARGUMENT][=SHARE][#FIRST][@MATCH]`, several are joined by commas: `throttle=0.05`,
`error:InternalError#3` (the first three calls), `slow:2.5@TaggingImage` (2.5 s, only calls whose action, image or
object holds that text).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from imgtag_pipeline.emulator.gateway import Admission
from imgtag_pipeline.errors import ConfigError

# kind -> what happens. "Billed" says whether the ledger bills a call that would have been answered.
KINDS: Final[dict[str, str]] = {
    "throttle": "the vendor's throttling answer, with ARGUMENT as seconds to wait; not billed",
    "error": "the documented error ARGUMENT, e.g. error:InvalidImage.Download",
    "http": "a bare gateway page with status ARGUMENT (default 502); not billed",
    "arrears": "the vendor's answer to an unpaid account; not billed",
    "clock": "the vendor's answer to a clock that is off; not billed",
    "html": "HTTP 200 with a web page, as a captive portal sends it; not billed",
    "reset": "the connection is dropped before the call counts; not billed",
    "reset-after": "the connection is dropped after the call was billed",
    "hang": "no answer for ARGUMENT seconds (default 30), then the answer; billed",
    "slow": "the answer trickles over ARGUMENT seconds (default 2); billed",
    "endless": "an answer that never ends; billed",
    "cut": "half of the answer, then the connection is closed; billed",
    "garbage": "HTTP 200 with half of the JSON as if it were all; billed",
    "bomb": "a gzip body of ARGUMENT MB of zeros (default 256); billed",
}
BEFORE: Final = frozenset({"throttle", "error", "http", "arrears", "clock", "html", "reset"})
_FORM: Final = re.compile(
    r"(?P<kind>[a-z0-9-]+)(:(?P<argument>[^=#@,]+))?(=(?P<share>[0-9.]+))?(#(?P<first>\d+))?(@(?P<match>[^,]+))?"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to go wrong, for a share of the calls, for the first few, or for calls that hold a text."""

    kind: str
    argument: str = ""
    share: float = 1.0
    first: int | None = None
    match: str = ""

    def number(self, default: float) -> float:
        """The argument as a number."""
        return float(self.argument) if self.argument else default


def parse(text: str) -> Fault:
    """One fault from its written form; raises `ConfigError` with the known kinds."""
    found = _FORM.fullmatch(text.strip())
    if found is None or found["kind"] not in KINDS:
        raise ConfigError(
            f"not a fault: {text!r}; write KIND[:ARGUMENT][=SHARE][#FIRST][@MATCH] with one of: {', '.join(KINDS)}"
        )
    fault = Fault(
        found["kind"],
        found["argument"] or "",
        _share(text, found["share"]),
        int(found["first"]) if found["first"] else None,
        found["match"] or "",
    )
    if fault.kind == "error" and not fault.argument:
        raise ConfigError("the fault 'error' needs a code: error:InternalError")
    if fault.kind not in ("error",) and fault.argument:
        try:
            fault.number(0.0)
        except ValueError:
            raise ConfigError(f"the argument of the fault {text!r} is not a number") from None
    return fault


def _share(text: str, share: str | None) -> float:
    if share is None:
        return 1.0
    if share.count(".") > 1 or share == "." or not 0 <= float(share) <= 1:
        raise ConfigError(f"the share of the fault {text!r} is {share}; write a part of all calls, from 0 to 1")
    return float(share)


def parse_all(texts: Iterable[str]) -> tuple[Fault, ...]:
    """All faults of several texts, each of which may hold several joined by commas."""
    return tuple(parse(part) for text in texts for part in text.split(",") if part.strip())


class FaultPlan:
    """Decides for each call whether it goes wrong; the same seed and the same calls give the same faults."""

    def __init__(self, faults: Sequence[Fault] = (), seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311
        self.set(faults)

    def set(self, faults: Sequence[Fault]) -> None:
        """Replace the faults; counts of `first` begin anew."""
        self.faults = tuple(faults)
        self._left = [fault.first for fault in self.faults]

    def choose(self, admission: Admission, asked: str | None = None) -> Fault | None:
        """The fault of this call, None for none; `asked` is what the call itself asks for and goes first."""
        if asked:
            return parse(asked)
        for at, fault in enumerate(self.faults):
            if fault.match and not _holds(admission, fault.match):
                continue
            left = self._left[at]
            if left is not None and left <= 0:
                continue
            if fault.share < 1.0 and self._random.random() >= fault.share:
                continue
            if left is not None:
                self._left[at] = left - 1
            return fault
        return None


def _holds(admission: Admission, text: str) -> bool:
    return text in admission.action or text in admission.about or any(text in image for image in admission.images)
