"""`tencent_v2`: Tencent's image tagging, version 2 (`picture_classify`), with English labels.

Docs: https://cloud.tencent.com/document/product/865. The body may have 6 MB. Confidence 0 to 1. Formats are not stated,
those of version 1 are held. Price, quota and whether failures are billed are not published.
"""

from __future__ import annotations

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
from imgtag_pipeline.providers.toolkit.bodies import multipart
from imgtag_pipeline.providers.toolkit.credentials import Credentials, Environment, renewed
from imgtag_pipeline.providers.toolkit.decode import Columns, best_first, named, objects, tag
from imgtag_pipeline.providers.toolkit.image_modes import ImageMode, Manner
from imgtag_pipeline.providers.toolkit.precheck import Limits
from imgtag_pipeline.urls import image_key

ADDRESS: Final = "tencent_v2"
ENDPOINT: Final = "https://recognition.image.myqcloud.com"
PATH: Final = "/imagetag/picture_classify"
LIMITS: Final = Limits(("JPEG", "PNG", "BMP"), (6 << 20) - 4096)  # the rest of the body needs some bytes
COLUMNS: Final = Columns(("label_name", "level_name"), "label", ("probability",), spoken="en")
FACTS: Final = Facts(
    title="General tags, version 2, usually five",
    docs="https://cloud.tencent.com/document/product/865",
    image_as=("url", "bytes"),
    confidence="0 to 1",
    languages=("en",),
    formats=LIMITS.formats,
    max_bytes=LIMITS.max_bytes,
    resolution=LIMITS.words,
    qps=f"not published; {tencent_calls.QPS:g} assumed",
    price="not published",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TencentV2:
    """`picture_classify`.

    image_mode: "url" lets the vendor fetch the image, "bytes" reads it here and sends it as a form's file, "auto" does
    what the image needs. fit: make a JPEG within the limits of what is not. bucket: a historical field of the token.
    any_format: send images of any format; the manual names none.
    """

    image_mode: ImageMode = "auto"
    fit: bool = False
    endpoint: str = ENDPOINT
    path: str = PATH
    bucket: str = ""
    any_format: bool = False
    qps: float | None = None
    credentials: Credentials = field(default_factory=lambda: Environment("tencent"), repr=False)

    def __post_init__(self) -> None:
        full = tencent_calls.check_options(self.image_mode, self.fit, self.endpoint, self.path, self.qps)
        object.__setattr__(self, "endpoint", full)

    @staticmethod
    def facts_of(address: str) -> Facts:
        """The facts, without keys or options."""
        return FACTS

    @property
    def address(self) -> str:
        """Always "tencent_v2"."""
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
    def price(self) -> None:
        """Not published; version 1 has `tencent_calls.PRICE`."""
        return

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
        return replace(LIMITS, formats=()) if self.any_format else LIMITS

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """One call for one image."""
        return [(yield from self._single(images[0]))]

    def _single(self, image: Image) -> Generator[Step, Any, Result]:
        handed = yield from self._manner(image.url).hand(image)
        if isinstance(handed, PermanentError):
            return handed
        app_id = tencent_calls.keys_of(self.credentials).app_id
        if handed.url is not None:
            body, kind = msgspec.json.encode({"app_id": app_id, "url": handed.url}), "application/json"
        else:
            body, kind = multipart({"app_id": app_id}, "image", handed.data)
        request = Request("POST", f"{self.endpoint}{self.path}", (), (("content-type", kind),), body)
        reply = yield from ask(Call(ADDRESS, request, self.quota))
        return handed.told(reply.once(tencent_calls.answer_of, read_tags))

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its token."""
        return tencent_calls.sign(request, moment, self.credentials, self.bucket)

    def check(self, call: Call, reply: Reply) -> None:
        """Raise what the reply's code stands for."""
        tencent_calls.check(reply, read_tags)


def read_tags(body: Body) -> tuple[Tag, ...]:
    """The tags, best first: `data` is a list of objects with `items`, or one such object."""
    items = [item for part in objects(body.data) for item in named(part.get("items"), COLUMNS)]
    return best_first([tag(item, COLUMNS) for item in items])
