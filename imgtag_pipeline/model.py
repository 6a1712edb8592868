"""The values that travel through the pipeline: images, calls, replies, tags, outcomes. All frozen, none does I/O."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, TypeVarTuple

from imgtag_pipeline.errors import Billing, CallError, PermanentError, TransientError

Status = Literal["ok", "empty", "failed", "skipped"]
Kind = Literal[
    "label",
    "scene",
    "element",
    "logo",
    "color",
    "style",
    "rubbish",
    "fruit",
    "vehicle",
    "certificate",
    "food",
    "ad-human",
    "ad-scene",
    "ad-object",
    "features",
]
Pairs = tuple[tuple[str, str], ...]
Reading = TypeVar("Reading")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels, origin at the top left."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Tag:
    """One thing that was seen in an image.

    `confidence` is 0..1 or None where the vendor gives none; `confidence_raw` the vendor's own number; `measure` what
    a wide table shows where the operation has a measure of its own (share of area, severity); `extra` whatever
    else the vendor said, as JSON-ready data.
    """

    name: str
    kind: Kind = "label"
    confidence: float | None = None
    confidence_raw: float | None = None
    level: int | None = None
    parent: str | None = None
    tag_id: str | None = None
    language: str | None = None
    box: Box | None = None
    measure: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """One distinct image: `key` decides what is known, `url` is where it is (may be signed, so not in `repr`).

    `others` are further references to the same image: tried where the first is refused without being billed.
    """

    key: str
    url: str = field(repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one image's exchange came to: its tags, best first; no tags means *empty*, not failed.

    `note` is one word that the vendor adds to an answer without tags ("Sensitive").
    """

    tags: tuple[Tag, ...]
    request_id: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A vendor's unfinished asynchronous task, paid for when it was submitted."""

    job_id: str
    submitted_at: datetime


# --- the conversation -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Quota:
    """How often one kind of call may be made, as the vendor counts it.

    `key` is what the vendor counts by ("viapi:TaggingImage:cn-shanghai:<account>"); `qps` is calls a second,
    None where the vendor publishes no figure: the pace is found by its refusals.
    """

    key: str
    qps: float | None


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; `url` has no query, `query` and `headers` are decoded pairs. Hidden in `repr`: may be signed.

    `region` is for the signature only, where the URL does not tell it; it is not sent.
    """

    method: str
    url: str = field(repr=False)
    query: Pairs = field(default=(), repr=False)
    headers: Pairs = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP reply, decompressed. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    _readings: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, read: Callable[[Reply, *Arguments], Reading], *arguments: *Arguments) -> Reading:
        """Cache `read(reply, *arguments)`, so that `check` and `exchange` parse the body once.

        `read` is pure; what it raises is not cached.
        """
        key = (read, *arguments)
        if key not in self._readings:
            self._readings[key] = read(self, *arguments)
        found: Reading = self._readings[key]
        return found


@dataclass(frozen=True, slots=True)
class Moment:
    """The time and the random text that a signature is made of; handed in, anew for each attempt."""

    now: datetime
    nonce: str

    @property
    def epoch(self) -> int:
        """Whole seconds since 1970, UTC."""
        return int(self.now.astimezone(UTC).timestamp())


@dataclass(frozen=True, slots=True)
class Call:
    """Step: make one call. Answered with its `Reply`, or with a `CallError` thrown into the exchange.

    The request is unsigned; the provider signs it at each attempt when `is_signed`. `is_billable` says that it may
    cost money (then a sent mark is journaled first, and budget is reserved). `wait` is seconds to let pass before it.

    `is_settled_later` is for jobs: what the call came to is told by the result of the exchange ("yes" for an answer,
    the `billing` of a returned error, else "unknown"). Another such call means that the one before failed, unbilled.
    """

    operation: str
    request: Request
    quota: Quota
    is_billable: bool = True
    is_settled_later: bool = False
    is_signed: bool = True
    wait: float = 0.0
    timeout: float = 30.0
    max_reply_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class ReadImage:
    """Step: give me the bytes of this image. Answered with `bytes`; costs nothing at the vendor."""

    image: Image
    max_bytes: int
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class ReadImages:
    """Step: give me the bytes of these images, which are read at the same time.

    Answered with a tuple that has for each image, in order, its `bytes` or the `CallError` that reading it came to.
    """

    images: tuple[Image, ...]
    max_bytes: int
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Compute:
    """Step: run a pure function in a worker thread, off the event loop. Answered with what it returns.

    `image` is the one that it is about, None for all of the exchange: after a time-out no other computation about the
    same begins before that one has ended.
    """

    function: Callable[[], Any]
    timeout: float = 60.0
    image: Image | None = None


@dataclass(frozen=True, slots=True)
class SaveJob:
    """Step: remember this job durably, so that a later run polls it instead of paying again. Answered with None."""

    image: Image
    job_id: str


Step = Call | ReadImage | ReadImages | Compute | SaveJob
Result = Answer | PermanentError | TransientError
Exchange = Generator[Step, Any, Sequence[Result]]


def ask(call: Call) -> Generator[Step, Any, Reply]:
    """`reply = yield from ask(call)`: the typed way to yield a call."""
    reply: Reply = yield call
    return reply


def read(image: Image, *, max_bytes: int, timeout: float = 30.0) -> Generator[Step, Any, bytes]:
    """`data = yield from read(image, max_bytes=...)`: the typed way to ask for an image's bytes."""
    data: bytes = yield ReadImage(image, max_bytes, timeout)
    return data


def read_all(
    images: Sequence[Image], *, max_bytes: int, timeout: float = 30.0
) -> Generator[Step, Any, tuple[bytes | CallError, ...]]:
    """`found = yield from read_all(images, max_bytes=...)`: the typed way to ask for the bytes of several images."""
    found: tuple[bytes | CallError, ...] = yield ReadImages(tuple(images), max_bytes, timeout)
    return found


# --- what comes out ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one image: the row that is journaled and stored.

    `calls` counts the calls of its exchange, `billed` says how the vendor bills them; `cost_micro_yuan` is its share,
    None where the price is unknown. A failure that is not `is_final` (nobody was billed, time ran out) is asked
    again by the next run.
    """

    key: str
    url: str = field(repr=False)
    status: Literal["ok", "empty", "failed"]
    tags: tuple[Tag, ...] = ()
    error_code: str | None = None
    error: str | None = None
    request_id: str | None = None
    calls: int = 0
    billed: Billing = "no"
    cost_micro_yuan: int | None = 0
    attempts: int = 1
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one call in micro-yuan (1 yuan = 1,000,000), by calls made in the calendar month.

    `tiers` are (first call number that no longer has this price or None, price). `scheme` "marginal": each call
    costs the price of the tier it falls in; "whole-month": all calls of the month cost the price of the tier reached.
    `free_calls` a month are not charged.
    """

    tiers: tuple[tuple[int | None, int], ...]
    scheme: Literal["marginal", "whole-month"] = "marginal"
    free_calls: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a provider's user wants to know before using it; numbers have their unit in the name."""

    title: str
    docs: str
    image_as: tuple[Literal["url", "bytes", "object"], ...]
    confidence: str
    languages: tuple[str, ...]
    formats: tuple[str, ...]
    max_bytes: int | None
    resolution: str
    qps: str
    price: str
