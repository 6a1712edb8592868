"""What a run would take, told before any call is made: images, calls, yuan, finish time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.model import Price
from imgtag_pipeline.run.batches import Seen, cut, slices
from imgtag_pipeline.run.report import counted, html_table, rows_in_words
from imgtag_pipeline.spend import pricing
from imgtag_pipeline.urls import redact

PLAN_ROWS = 8192
_MOST_MONTHS: Final = 1200
_LONGEST_EXAMPLE: Final = 200
# What to do, where the error's own sentence does not say it.
_ADVICE: Final = {
    "EmptyFile": "put the whole image there",
    "NotFound": "correct the path, or run where the file is",
    "NotAFile": "name the image's file itself",
    "NotReadable": "make it readable for this user, or leave the row out",
    "NotAnImage": "leave the row out, or name the image itself",
    "TooFewPixels": "use a larger original",
    "InvalidObjectName": "correct the object's name",
    "InvalidBucketName": "correct the bucket's name",
}


@dataclass(frozen=True, slots=True)
class Impossible:
    """One reason why images cannot succeed: its code, how many, and of the first one the reference and the sentence."""

    code: str
    images: int
    example: str
    error: str


class Reasons:
    """Counts the images that cannot succeed, by the code of their error."""

    def __init__(self) -> None:
        self._images: Counter[str] = Counter()
        self._first: dict[str, tuple[str, str]] = {}

    def add(self, reference: str, error: PermanentError) -> None:
        """One more image."""
        self._images[error.code] += 1
        if error.code not in self._first:
            advice = _ADVICE.get(error.code)
            self._first[error.code] = (_shown(reference), f"{error}; {advice}" if advice else str(error))

    def listed(self) -> tuple[Impossible, ...]:
        """The most frequent first, each with what to do."""
        return tuple(Impossible(code, images, *self._first[code]) for code, images in self._images.most_common())


def _shown(reference: str) -> str:
    text = redact(reference[:4096]) if reference[:5].lower() != "data:" else reference.partition(",")[0] + ",..."
    return text if len(text) <= _LONGEST_EXAMPLE else text[:_LONGEST_EXAMPLE] + "..."


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """What would it take.

    `rows` are the caller's, `images` the distinct ones, `known` those that the checkpoint answers, `impossible` those
    that cannot succeed and cost no call (`reasons` says why, and what to do), `unfinished` those of which the vendor
    has a job (paid again only where it has forgotten it), `payable` the rest. `calls` are the paid calls for these;
    `yuan` what they come to (`tiers` says how many at which price), None where the price is unknown: after
    `billed_before` calls in this calendar month, and anew in each further one of the `months` that they last.
    `seconds` is how long they take at `qps`, None where nothing limits them, and `finish` when that is. Where images
    are computed here, `calls` is 0 and `seconds` is an estimate for so many `threads`.
    """

    provider: str
    rows: int
    images: int
    known: int
    impossible: int
    payable: int
    skipped: int
    calls: int
    yuan: float | None
    price: str
    qps: float | None
    seconds: float | None
    finish: str | None
    billed_before: int
    tiers: tuple[tuple[int, float], ...] = ()
    months: int = 1
    unfinished: int = 0
    reasons: tuple[Impossible, ...] = ()
    threads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)

    def __repr__(self) -> str:
        """One short line."""
        facts = [f"{self.images:,} images"]
        facts += [f"{self.known:,} known"] if self.known else []
        facts += [f"{self.impossible:,} impossible"] if self.impossible else []
        if self.threads is not None:
            facts += [f"{self.payable:,} to compute here", "no calls"]
        else:
            facts += [f"{self.payable:,} to ask", counted(self.calls, "call")]
        facts += ["cost unknown" if self.yuan is None else f"{self.yuan:,.4f} yuan"]
        facts += [_duration(self.seconds)] if self.seconds is not None else []
        return f"<Plan {self.provider}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        """The lines as a table, for a notebook."""
        return html_table(self.lines())

    def __str__(self) -> str:
        """A few aligned lines for a person."""
        return "\n".join(f"{name:<11} {value}" for name, value in self.lines())

    def lines(self) -> list[tuple[str, str]]:
        """The plan as (name, words), only what there is to say."""
        asked = f"{counted(self.payable, 'image')}, {counted(self.calls, 'call')}"
        if self.threads is not None:
            asked = f"no calls, {counted(self.payable, 'image')} computed here"
        return [
            ("provider", self.provider),
            ("rows", rows_in_words(self.rows, self.images, self.skipped)),
            ("known", f"{self.known:,} (no call)"),
            *([("unfinished", f"{self.unfinished:,} (jobs at the vendor, paid already)")] if self.unfinished else []),
            ("impossible", f"{self.impossible:,} (no call, a failed row each)"),
            *(("", line) for reason in self.reasons for line in _in_words(reason)),
            ("to ask", asked),
            *zip(("cost", *[""] * 9), self._money(), strict=False),
            ("time", self._time() + (f", done {_moment(self.finish)}" if self.finish else "")),
        ]

    def _time(self) -> str:
        time = "as fast as this machine reads" if self.seconds is None else _duration(self.seconds)
        if self.threads is not None:
            time = "less than a second" if (self.seconds or 0) < 1 else f"about {time}"
            return f"{time} on {counted(self.threads, 'core')}"
        return f"{time} at {'no quota' if self.qps is None else f'{self.qps:g} calls a second'}"

    def _money(self) -> Iterator[str]:
        yield "unknown (give price=)" if self.yuan is None else f"{self.yuan:,.4f} yuan ({self.price})"
        if len(self.tiers) > 1:
            yield from (f"{counted(calls, 'call')} at {yuan:g} yuan" for calls, yuan in self.tiers)
        if self.billed_before and self.yuan is not None:
            yield f"{counted(self.billed_before, 'call')} before in this month"
        if self.months > 1 and len(self.tiers) > 1:
            yield f"over {self.months} calendar months; tiers begin anew in each"


def _in_words(reason: Impossible) -> Iterator[str]:
    yield f"{reason.images:,} {reason.code}, for example {reason.example}"
    yield f"  {reason.error}"


@dataclass(frozen=True, slots=True)
class Basis:
    """What the figures rest on besides the rows: the price, the rate, and what this month has been billed already.

    `compute_seconds` is what one image takes on one of `threads` cores; None where a vendor is called.
    """

    provider: str
    price: Price | None
    price_text: str
    qps: float | None
    batch_size: int
    billed_before: int
    now: datetime
    compute_seconds: float | None = None
    threads: int = 1


def make_plan(
    rows: Iterator[pa.RecordBatch],
    references: Callable[[pa.RecordBatch], tuple[pa.Array, pa.Array | None]],
    lookup: Callable[[Sequence[str]], Sequence[str | None]],
    jobs: Callable[[Sequence[str]], Container[str]],
    *,
    key_of: Callable[[str], str],
    precheck: Callable[[str], PermanentError | None],
    basis: Basis,
) -> Plan:
    """Count the rows and say what asking about the unknown images would take.

    `jobs` tells for which of these keys the vendor has a job that was paid and has no answer yet.
    """
    seen = Seen()
    counts = dict.fromkeys(("rows", "images", "known", "unfinished", "impossible", "payable", "skipped"), 0)
    batches, reasons = _Batches(basis.batch_size), Reasons()
    for batch in slices(rows, PLAN_ROWS):
        window = cut(batch, *references(batch), key_of)
        counts["rows"] += batch.num_rows
        counts["skipped"] += window.index.null_count
        keys = [image.key for image in window.images]
        bought = jobs(keys)
        for image, status, is_first in zip(window.images, lookup(keys), seen.first_time(keys), strict=True):
            if not is_first:
                continue
            counts["images"] += 1
            if status is not None or image.key in bought:
                counts["unfinished" if status is None else "known"] += 1
                continue
            problem = precheck(image.url)
            if problem is not None:
                reasons.add(image.url, problem)
            is_payable = problem is None
            counts["payable" if is_payable else "impossible"] += 1
            batches.add(is_payable)
    return _plan(counts, batches.calls, basis, reasons.listed())


@dataclass(slots=True)
class _Batches:
    """Counts the calls: images are asked in batches as they come, and a batch of impossible ones takes no call."""

    size: int
    calls: int = 0
    _filled: int = 0
    _is_counted: bool = False

    def add(self, is_payable: bool) -> None:
        """The next image that is not known."""
        if self._filled == self.size:
            self._filled, self._is_counted = 0, False
        self._filled += 1
        self.calls += is_payable and not self._is_counted
        self._is_counted = self._is_counted or is_payable


def _plan(counts: dict[str, int], calls: int, basis: Basis, reasons: tuple[Impossible, ...]) -> Plan:
    is_computed = basis.compute_seconds is not None
    calls = 0 if is_computed else calls
    seconds = None if basis.qps is None else calls / basis.qps
    if basis.compute_seconds is not None:
        seconds = round(counts["payable"] * basis.compute_seconds / basis.threads, 3)
    months = _months(calls, basis)
    price, cost = basis.price, None
    tiers: dict[int, int] = {}
    if price is not None:
        cost = sum(pricing.added(price, before, count) for before, count in months)
        for before, count in months:
            for part, each in pricing.by_tier(price, before, count):
                tiers[each] = tiers.get(each, 0) + part
    return Plan(
        provider=basis.provider,
        calls=calls,
        yuan=None if cost is None else cost / pricing.MICRO,
        price=basis.price_text,
        qps=basis.qps,
        seconds=seconds,
        finish=_finish(basis.now, seconds),
        billed_before=basis.billed_before,
        tiers=tuple((count, each / pricing.MICRO) for each, count in tiers.items()),
        months=len(months),
        reasons=reasons,
        threads=basis.threads if is_computed else None,
        rows=counts["rows"],
        images=counts["images"],
        known=counts["known"],
        unfinished=counts["unfinished"],
        impossible=counts["impossible"],
        payable=counts["payable"],
        skipped=counts["skipped"],
    )


def _months(calls: int, basis: Basis) -> list[tuple[int, int]]:
    """The calls by the calendar months in which they are made at full pace, each with those billed before in it."""
    months: list[tuple[int, int]] = []
    before, at = basis.billed_before, basis.now
    while basis.qps is not None and len(months) < _MOST_MONTHS:
        end = pricing.month_end(at)
        room = int((end - at).total_seconds() * basis.qps)
        if room >= calls:
            break
        months.append((before, room))
        before, at, calls = 0, end, calls - room
    return [*months, (before, calls)]


def _finish(now: datetime, seconds: float | None) -> str | None:
    try:
        return None if seconds is None else (now + timedelta(seconds=seconds)).isoformat(timespec="seconds")
    except OverflowError:
        return None


def _moment(finish: str) -> str:
    return f"{datetime.fromisoformat(finish).astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return "1 second" if 0.5 < seconds < 1.5 else f"{seconds:.0f} seconds"
    for size, unit in ((60.0, "minutes"), (3600.0, "hours")):
        if seconds < size * 100:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86400:,.1f} days"
