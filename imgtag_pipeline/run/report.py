"""What happened in a run: counters while it goes, a plain report at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Final

from imgtag_pipeline.errors import Billing
from imgtag_pipeline.model import Outcome
from imgtag_pipeline.run.events import Progress

LISTED_IMAGES = 1000


@dataclass(frozen=True, slots=True, repr=False)
class RunReport:
    """The facts of one run, plain data; `to_dict` is what stands in `df.attrs["imgtag"]` and in the Parquet metadata.

    `rows` are the caller's, `images` the distinct ones; `known` were answered by the checkpoint without a call;
    `ok`, `empty` and `failed` (by code) count images; `skipped` counts rows without a reference; `unanswered` images
    were not asked because the run stopped. `billed` counts paid calls by how the vendor bills them; `yuan` is None
    where a price is unknown. `possibly_billed` lists (the first 1,000) images with a call sent and no answer, here or
    in an earlier run that died. `quota_used_percent` is the share of the quota that the calls used. `stopped` is None
    or why the run ended early. `other_urls` counts URLs whose `key=` value had another URL before: they are not asked
    about, the first one's answer stands on their rows.
    """

    run: str
    provider: str
    started: str
    elapsed: float
    rows: int
    images: int
    known: int
    ok: int
    empty: int
    failed: Mapping[str, int]
    skipped: int
    unanswered: int
    calls: int
    billed: Mapping[str, int]
    yuan: float | None
    retries: int
    throttled_seconds: float
    quota_used_percent: float | None
    possibly_billed: Sequence[str]
    possibly_billed_count: int
    recovered: Mapping[str, Any]
    checkpoint: str | None
    stopped: str | None
    exit_code: int
    other_urls: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data, one level deep but for `failed`, `billed` and `recovered`."""
        data = asdict(self)
        data["failed"] = dict(sorted(self.failed.items()))
        data["possibly_billed"] = list(self.possibly_billed)
        return data

    @property
    def failed_images(self) -> int:
        """Images that have no tags because something did not work."""
        return sum(self.failed.values())

    def __str__(self) -> str:
        """A few aligned lines for a person."""
        return aligned(self.lines())

    def __repr__(self) -> str:
        """One short line."""
        facts = [
            f"{self.images:,} images",
            f"{self.ok:,} ok",
            f"{self.empty:,} empty",
            f"{self.failed_images:,} failed",
        ]
        facts += [f"{self.known:,} known"] if self.known else []
        facts += [f"{self.unanswered:,} not asked"] if self.unanswered else []
        facts += [f"{self.calls:,} calls"] if self.calls else []
        facts += [f"{self.yuan:,.4f} yuan"] if self.yuan else []
        facts += [f"stopped by {self.stopped.partition(':')[0]}"] if self.stopped else []
        return f"<RunReport {self.provider}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        """The lines as a table, for a notebook."""
        return html_table(self.lines())

    def lines(self) -> list[tuple[str, str]]:
        """The report as (name, words), only what there is to say."""
        lines = [("provider", self.provider), ("rows", rows_in_words(self.rows, self.images, self.skipped))]
        if self.known:
            lines.append(("already known", f"{self.known:,} (asked before, no call)"))
        lines.append(("answers", f"{self.ok:,} with tags, {self.empty:,} without, {self.failed_images:,} failed"))
        most = max((len(f"{count:,}") for count in self.failed.values()), default=0)
        by_count = sorted(self.failed.items(), key=lambda item: (-item[1], item[0]))
        lines += [("", f"{count:>{most},} {code}") for code, count in by_count]
        if self.other_urls:
            lines.append(("keys", f"{counted(self.other_urls, 'URL')} not asked: the key had another URL before"))
        if self.unanswered:
            lines.append(("not asked", f"{self.unanswered:,}"))
        lines.append(("calls", self._calls()))
        if count := self.possibly_billed_count:
            lines.append(("possibly billed", f"{counted(count, 'image')} sent without an answer"))
        pace = f"{self.elapsed:.1f} s"
        if self.quota_used_percent is not None:
            pace += f", {self.quota_used_percent:.0f} % of the quota used"
        if self.throttled_seconds >= 0.05:
            pace += f", {self.throttled_seconds:.1f} s throttled"
        lines.append(("time", pace))
        dropped = self.recovered.get("bytes_dropped")
        if dropped:
            lines.append(("journal", f"{dropped:,} damaged bytes dropped while recovering"))
        if self.checkpoint:
            lines.append(("checkpoint", self.checkpoint + (": a re-run continues from here" if self.stopped else "")))
        elif self.stopped:
            lines.append(("checkpoint", "none, so a re-run asks, and pays, from the beginning"))
        if self.stopped:
            lines.append(("stopped", self.stopped))
        return lines

    def _calls(self) -> str:
        if not self.calls:
            return "none"
        billed = ", ".join(f"{count:,} {word}" for word, count in self.billed.items() if count) or "none"
        retries = f" ({'1 retry' if self.retries == 1 else f'{self.retries:,} retries'})" if self.retries else ""
        money = "unknown price" if self.yuan is None else f"{self.yuan:,.4f} yuan"
        return f"{self.calls:,}{retries}; billed: {billed}; {money}"


def html_table(lines: Iterable[tuple[str, str]]) -> str:
    """Names and words as an HTML table; whatever they hold is shown as text."""
    rows = "".join(
        f"<tr><th style='text-align:left;vertical-align:top'>{escape(name)}</th>"
        f"<td style='text-align:left;white-space:pre-wrap'>{escape(words)}</td></tr>"
        for name, words in lines
    )
    return f"<table>{rows}</table>"


def aligned(lines: Iterable[tuple[str, str]]) -> str:
    """The lines as two columns."""
    return "\n".join(f"{name:<17} {value}" for name, value in lines)


def counted(count: int, noun: str) -> str:
    """The number with its noun: "1 image", "1,200 images"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def rows_in_words(rows: int, images: int, skipped: int) -> str:
    """How many rows, and how many images they are: "16 (14 distinct images, 1 row without one)"."""
    without = f", {counted(skipped, 'row')} without one" if skipped else ""
    return f"{rows:,} ({counted(images, 'distinct image')}{without})"


BILLINGS: Final[tuple[Billing, ...]] = ("no", "unknown", "yes")  # what is rather to be told comes later


@dataclass(slots=True)
class Spent:
    """What one exchange has used up so far; `failing_since` is the moment of its first failure (monotonic seconds)."""

    failing_since: float | None = None
    calls: int = 0
    retries: int = 0
    paid_attempts: int = 0
    billed: Billing = "no"
    cost_micro_yuan: int | None = 0
    is_marked: bool = False
    has_job: bool = False
    rest: Callable[[float], Awaitable[None]] | None = None  # lets time pass without holding up other exchanges
    unsettled: list[Any] = field(default_factory=list)  # reservations of calls that are settled later

    def shares(self, count: int) -> list[int | None]:
        """The cost divided among so many images, to the micro-yuan; None each where the price is unknown."""
        cost = self.cost_micro_yuan
        return [None if cost is None else (cost + place) // count for place in range(count)]

    def pay(self, billed: Billing, cost_micro_yuan: int | None) -> None:
        """Count one billable call; `yes` outranks `unknown` outranks `no`; an unknown price makes the sum unknown."""
        self.billed = max(self.billed, billed, key=BILLINGS.index)
        if billed == "no":
            return
        self.paid_attempts += 1
        known = self.cost_micro_yuan is not None and cost_micro_yuan is not None
        self.cost_micro_yuan = (self.cost_micro_yuan or 0) + (cost_micro_yuan or 0) if known else None


@dataclass(slots=True)
class Tally:
    """The counters of a run, written by the pipeline's one event loop only."""

    rows: int = 0
    images: int = 0
    known: int = 0
    ok: int = 0
    empty: int = 0
    skipped: int = 0
    unanswered: int = 0
    calls: int = 0
    retries: int = 0
    cost_micro_yuan: int | None = 0
    failed: Counter[str] = field(default_factory=Counter)
    billed: Counter[str] = field(default_factory=lambda: Counter({"yes": 0, "no": 0, "unknown": 0}))
    unknown_keys: list[str] = field(default_factory=list)
    other_urls: int = 0
    rows_seen: int = 0  # whose images are counted in `images`
    throttled: int = 0  # calls

    @property
    def done(self) -> int:
        """Images with an outcome, known ones included."""
        return self.ok + self.empty + sum(self.failed.values())

    def known_status(self, status: str, code: str | None = None) -> None:
        """Count an image that the store already knew."""
        self.known += 1
        self._status(status, code)

    def outcome(self, outcome: Outcome) -> None:
        """Count a fresh outcome."""
        self._status(outcome.status, outcome.error_code)

    def take_back(self, failure: Outcome) -> None:
        """A failure that was counted in this run has been mended by another reference to the image."""
        code = failure.error_code or "Unknown"
        self.failed[code] -= 1
        if not self.failed[code]:
            del self.failed[code]

    def _status(self, status: str, code: str | None) -> None:
        if status == "ok":
            self.ok += 1
        elif status == "empty":
            self.empty += 1
        else:
            self.failed[code or "Unknown"] += 1

    def progress(self, total_rows: int | None) -> Progress:
        """The counters as an event for whoever watches."""
        expected = None
        if total_rows is not None:
            expected = round(self.images * total_rows / self.rows_seen) if self.rows_seen else None
        return Progress(
            rows_done=self.rows,
            total_rows=total_rows,
            images=self.images,
            images_expected=expected,
            done=self.done,
            known=self.known,
            failed=sum(self.failed.values()),
            calls=self.calls,
            yuan=None if self.cost_micro_yuan is None else self.cost_micro_yuan / 1e6,
            throttled=self.throttled,
            retries=self.retries,
        )

    def paid(self, billed: Billing, cost_micro_yuan: int | None) -> None:
        """Count one billable call that was sent."""
        self.billed[billed] += 1
        if billed != "no":
            known = self.cost_micro_yuan is not None and cost_micro_yuan is not None
            self.cost_micro_yuan = (self.cost_micro_yuan or 0) + (cost_micro_yuan or 0) if known else None
