"""`tencent_v1`: Tencent's image tagging, version 1 (`imagetag_detect`); stable and no longer developed.

Docs: https://cloud.tencent.com/document/product/865/17592. JPG, PNG, BMP; the size is not stated, that of the sister
API (4 MB after base64) is held. Confidence: whole numbers 0 to 100. Whether failures are billed is not stated.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.model import (
    Call,
    Exchange,
    Facts,
    Image,
    Job,
    Moment,
    Price,
    Quota,
    Reply,
    Request,
    Result,
    Step,
    Tag,
    ask,
)
from imgtag_pipeline.providers.tencent_image import calls as tencent_calls
from imgtag_pipeline.providers.tencent_image.calls import Body
from imgtag_pipeline.providers.toolkit import options
from imgtag_pipeline.providers.toolkit.credentials import Credentials, Environment, renewed
from imgtag_pipeline.providers.toolkit.decode import Columns, best_first, named, tag
from imgtag_pipeline.providers.toolkit.image_modes import ImageMode, Manner
from imgtag_pipeline.providers.toolkit.precheck import Limits
from imgtag_pipeline.urls import image_key

ADDRESS: Final = "tencent_v1"
ENDPOINT: Final = "http://service.image.myqcloud.com"
PATH: Final = "/v1/detection/imagetag_detect"
JSON: Final = ("content-type", "application/json")
MAX_BYTES: Final = 3 << 20
LIMITS: Final = Limits(("JPEG", "PNG", "BMP"), MAX_BYTES, words="over 50x50 advised")
COLUMNS: Final = Columns(("tag_name",), "label", ("tag_confidence",), 100.0, spoken="zh")
FACTS: Final = Facts(
    title="General tags, version 1",
    docs="https://cloud.tencent.com/document/product/865/17592",
    image_as=("url", "bytes"),
    confidence="0 to 100",
    languages=("zh",),
    formats=LIMITS.formats,
    max_bytes=LIMITS.max_bytes,
    resolution=LIMITS.words,
    qps=f"not published; {tencent_calls.QPS:g} assumed",
    price="10,000 calls a month free, then 0.0011 yuan up to 3 M, 0.0009 up to 15 M, 0.0007 above, for the whole month",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TencentV1:
    """`imagetag_detect`.

    image_mode: "url" lets the vendor fetch the image, "bytes" reads it here and sends base64, "auto" does what the
    image needs. fit: make a JPEG within the limits of what is not. endpoint, path: later
    editions of the manual have https://recognition.image.myqcloud.com. bucket: a historical field of the token.
    max_bytes: larger images are not sent in bytes mode; the manual states no size.
    """

    image_mode: ImageMode = "auto"
    fit: bool = False
    endpoint: str = ENDPOINT
    path: str = PATH
    bucket: str = ""
    max_bytes: int = MAX_BYTES
    qps: float | None = None
    credentials: Credentials = field(default_factory=lambda: Environment("tencent"), repr=False)

    def __post_init__(self) -> None:
        full = tencent_calls.check_options(self.image_mode, self.fit, self.endpoint, self.path, self.qps)
        object.__setattr__(self, "endpoint", full)
        options.between("max_bytes", self.max_bytes, 1, 64 << 20, is_whole=True)

    @staticmethod
    def facts_of(address: str) -> Facts:
        """The facts, without keys or options."""
        return FACTS

    @property
    def address(self) -> str:
        """Always "tencent_v1"."""
        return ADDRESS

    @property
    def facts(self) -> Facts:
        """For people: documentation, limits, scale, price."""
        return FACTS

    @property
    def quota(self) -> Quota:
        """Per account."""
        return tencent_calls.quota(ADDRESS, self.credentials, self.endpoint, self.qps)

    @property
    def price(self) -> Price:
        """Price of one call; the whole month at the tier that it reaches."""
        return tencent_calls.PRICE

    @property
    def batch_size(self) -> int:
        """One image a call."""
        return 1

    @property
    def concurrency(self) -> int:
        """Enough to fill the quota with answers that take two seconds."""
        return tencent_calls.concurrency(self.qps)

    def identity(self) -> Mapping[str, Any]:
        """The call; it has no options that change the answer."""
        return {"provider": ADDRESS}

    def key(self, url: str) -> str:
        """What leads to the same request is one image: the reference in its normal spelling, without its signature."""
        return image_key(url)

    def prepare(self) -> None:
        """Fetch the keys; raises `ConfigError` when there are none."""
        tencent_calls.keys_of(self.credentials)

    def refresh(self) -> bool:
        """Fetch the keys anew; True when others came."""
        return renewed(self.credentials)

    def precheck(self, url: str) -> PermanentError | None:
        """Why the image cannot succeed, found from its reference alone."""
        return self._manner(url).precheck(url)

    def reads(self, url: str) -> bool:
        """Whether this image is read here."""
        return self._manner(url).must_read

    def check_head(self, head: bytes, size: int) -> PermanentError | None:
        """Why an image of that size that begins like this will not succeed."""
        return self._manner("").check_head(head, size)

    def _manner(self, url: str) -> Manner:
        return tencent_calls.manner(url, self.image_mode, self.fit, self.endpoint, self._limits)

    @property
    def _limits(self) -> Limits:
        return replace(LIMITS, max_bytes=self.max_bytes)

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """One call for one image."""
        return [(yield from self._single(images[0]))]

    def _single(self, image: Image) -> Generator[Step, Any, Result]:
        handed = yield from self._manner(image.url).hand(image)
        if isinstance(handed, PermanentError):
            return handed
        body = {"appid": tencent_calls.keys_of(self.credentials).app_id}
        if self.bucket:
            body["bucket"] = self.bucket
        body |= {"image": b64encode(handed.data).decode()} if handed.url is None else {"url": handed.url}
        request = Request("POST", f"{self.endpoint}{self.path}", (), (JSON,), msgspec.json.encode(body))
        reply = yield from ask(Call(ADDRESS, request, self.quota))
        return handed.told(reply.once(tencent_calls.answer_of, read_tags))

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its token."""
        return tencent_calls.sign(request, moment, self.credentials, self.bucket)

    def check(self, call: Call, reply: Reply) -> None:
        """Raise what the reply's code stands for."""
        tencent_calls.check(reply, read_tags)


def read_tags(body: Body) -> tuple[Tag, ...]:
    """The tags, best first; the vendor does not sort them."""
    return best_first([tag(item, COLUMNS) for item in named(body.tags, COLUMNS)])
