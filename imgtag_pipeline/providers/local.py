"""`local`: tags from the pixels, on this machine; no account, no cost, no network but for reading the image.

Docs: `imgtag_pipeline.tagger`, whose tables hold all thresholds. Limits: 64 MiB, 100 million pixels and 60 s a picture,
all settable. Confidence: of a colour, how far its pixels lie from the border to another name; of a fact, how far
its measure lies beyond the threshold; 0.5 is the border, 1 is sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.model import (
    Answer,
    Call,
    Compute,
    Exchange,
    Facts,
    Image,
    Job,
    Moment,
    Price,
    Quota,
    Reply,
    Request,
    read,
)
from imgtag_pipeline.tagger import FORMATS, MAX_PIXELS, VERSION, describe
from imgtag_pipeline.tagger.decode import format_problem
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES
from imgtag_pipeline.urls import image_key

FACTS: Final = Facts(
    title="Colours, shape, tone and sharpness, from the pixels, on this machine",
    docs="README.md, section Providers",
    image_as=("bytes",),
    confidence="0..1: 0.5 on the border to another colour name or on a fact's threshold, 1 well beyond",
    languages=("en",),
    formats=FORMATS,
    max_bytes=64 << 20,
    resolution="up to 100 million pixels",
    qps="no limit",
    price="free",
)
_FREE: Final = Price(tiers=((None, 0),))
_UNLIMITED: Final = Quota("local", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The embedded default.

    color_count: the most colours per picture, 1 to 10. max_bytes, max_pixels: larger pictures are failed rows.
    max_decode_bytes: memory that decoding may take, of all threads together; a picture that takes more is a failed row.
    timeout: seconds that reading a picture may take, and again tagging it.
    """

    color_count: int = 3
    max_bytes: int = 64 << 20
    max_pixels: int = MAX_PIXELS
    max_decode_bytes: int = MAX_DECODE_BYTES
    timeout: float = 60.0

    def __post_init__(self) -> None:
        _check("color_count", self.color_count, 1, 10)
        _check("max_bytes", self.max_bytes, 1, 1 << 30)
        _check("max_pixels", self.max_pixels, 1, 1_000_000_000)
        _check("max_decode_bytes", self.max_decode_bytes, 1 << 20, 1 << 40)
        _check("timeout", self.timeout, 0.001, 3600, whole=False)

    @property
    def address(self) -> str:
        """Always "local"."""
        return "local"

    @property
    def facts(self) -> Facts:
        """For people: formats, limits, scale."""
        return FACTS

    @property
    def quota(self) -> Quota:
        """No limit."""
        return _UNLIMITED

    @property
    def price(self) -> Price:
        """Nothing."""
        return _FREE

    @property
    def batch_size(self) -> int:
        """One picture at a time."""
        return 1

    @property
    def concurrency(self) -> int:
        """Enough to read some pictures while others are tagged."""
        return 8

    def identity(self) -> Mapping[str, Any]:
        """The number of colours, and the tagger's version: a better tagger asks again."""
        return {"provider": "local", "color_count": self.color_count, "tagger": VERSION}

    def key(self, url: str) -> str:
        """The reference in its normal spelling, without its signature; a file by its path, size and time of change."""
        return image_key(url)

    def reads(self, url: str) -> bool:
        """Every picture is read here."""
        return True

    def check_head(self, head: bytes, size: int) -> PermanentError | None:
        """Why a picture of that size that begins like this is refused."""
        if size > self.max_bytes:
            return PermanentError(f"the picture has {size:,} bytes; allowed: {self.max_bytes:,}", code="ImageTooLarge")
        return format_problem(head)

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """Read the picture, tag it in a worker thread."""
        answers = []
        for image in images:
            data = yield from read(image, max_bytes=self.max_bytes, timeout=self.timeout)
            work = partial(
                describe,
                data,
                color_count=self.color_count,
                max_pixels=self.max_pixels,
                max_decode_bytes=self.max_decode_bytes,
            )
            tags = yield Compute(work, self.timeout)
            answers.append(Answer(tags))
        return tuple(answers)

    def sign(self, request: Request, moment: Moment) -> Request:
        """Nothing is signed."""
        return request

    def check(self, call: Call, reply: Reply) -> None:
        """Nothing is called."""


def _check(name: str, value: object, low: float, high: float, *, whole: bool = True) -> None:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise ConfigError(f"{name} is {value!r}; allowed: {noun} from {low:,} to {high:,}")
