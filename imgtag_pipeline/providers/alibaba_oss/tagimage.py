"""`oss_tagimage`: the tags of an OSS object, by the old generation of Alibaba's intelligent media management (IMM).

Docs: https://www.alibabacloud.com/help/doc-detail/99383.htm. No limits are stated; those of `oss_labels` are held.
Confidence 0 to 1. Requests that end in 4xx are billed, 5xx are not; the price is not published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.model import Call, Exchange, Facts, Image, Job, Moment, Quota, Reply, Request, Tag
from imgtag_pipeline.providers.alibaba_oss import calls as oss_calls
from imgtag_pipeline.providers.alibaba_oss.calls import Body, Service, Signature, listed
from imgtag_pipeline.providers.alibaba_oss.objects import Place
from imgtag_pipeline.providers.toolkit.credentials import AlibabaDefault, Credentials, renewed
from imgtag_pipeline.providers.toolkit.decode import Columns, best_first, named, number, tag, text

ADDRESS: Final = "oss_tagimage"
COLUMNS: Final = Columns(
    ("TagName",),
    "label",
    ("TagConfidence", "TagScore"),
    level=("TagLevel",),
    parent=("ParentTagName",),
    tag_id=("TagId",),
    ignored=("ParentTagId",),
    spoken="zh",
)
FACTS: Final = Facts(
    title="Tags of an OSS object, in levels (the generation that is being withdrawn)",
    docs="https://www.alibabacloud.com/help/doc-detail/99383.htm",
    image_as=("object",),
    confidence="0 to 1",
    languages=("zh",),
    formats=oss_calls.LIMITS.formats,
    max_bytes=oss_calls.LIMITS.max_bytes,
    resolution=oss_calls.LIMITS.words,
    qps=f"not published; {oss_calls.CONCURRENCY} in parallel to begin with",
    price="not published; answers 4xx are billed too",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OssTagimage:
    """`imm/tagimage` on objects.

    region: of the buckets; needed for oss:// references, custom domains and accelerate hosts. endpoint: where to send
    instead of the host of the URL. domain, bucket: a custom domain and the bucket it leads to. signature: "v4" or "v1".
    any_format: also objects whose name says another format than those of `oss_labels`; the manual states none.
    """

    region: str | None = None
    endpoint: str | None = None
    domain: str | None = None
    bucket: str | None = None
    signature: Signature = "v4"
    any_format: bool = False
    qps: float | None = None
    credentials: Credentials = field(default_factory=lambda: AlibabaDefault("oss"), repr=False)

    def __post_init__(self) -> None:
        full = oss_calls.check_options(self.endpoint, self.region, self.signature, self.qps)
        object.__setattr__(self, "endpoint", full)
        self._service()

    def _service(self) -> Service:
        place = Place(self.endpoint, self.region, self.domain, self.bucket)
        limits = replace(oss_calls.LIMITS, formats=()) if self.any_format else oss_calls.LIMITS
        return Service(ADDRESS, "imm/tagimage", place, self.signature, self.credentials, self.qps, limits)

    @staticmethod
    def facts_of(address: str) -> Facts:
        """The facts, without keys or options."""
        return FACTS

    @property
    def address(self) -> str:
        """Always "oss_tagimage"."""
        return ADDRESS

    @property
    def facts(self) -> Facts:
        """For people: documentation, limits, scale, price."""
        return FACTS

    @property
    def quota(self) -> Quota:
        """Per account and region; the vendor publishes no figure."""
        return self._service().quota()

    @property
    def price(self) -> None:
        """Not published."""
        return

    @property
    def batch_size(self) -> int:
        """One object a call."""
        return 1

    @property
    def concurrency(self) -> int:
        """What the account is asked for in parallel to begin with."""
        return oss_calls.CONCURRENCY

    def identity(self) -> Mapping[str, Any]:
        """The call; it has no options that change the answer."""
        return {"provider": ADDRESS}

    def key(self, url: str) -> str:
        """The object by bucket, name and version, whatever host names it and whatever process is in its URL."""
        return oss_calls.key(url, self._service())

    def prepare(self) -> None:
        """Fetch the keys; raises `ConfigError` when there are none."""
        self.credentials.keys()

    def refresh(self) -> bool:
        """Fetch the keys anew; True when others came."""
        return renewed(self.credentials)

    def precheck(self, url: str) -> PermanentError | None:
        """Why the object cannot succeed, found from its reference alone."""
        return oss_calls.precheck(url, self._service())

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """One call for one object."""
        return [(yield from oss_calls.converse(images[0], self._service(), read_tags))]

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its signature."""
        return oss_calls.sign(request, moment, self._service())

    def check(self, call: Call, reply: Reply) -> None:
        """Raise what the reply's code stands for."""
        oss_calls.check(reply, read_tags)


def read_tags(body: Body) -> tuple[Tag, ...]:
    """The tags, best first; a parent stays before its child, which has the same confidence."""
    return best_first([_tag(item) for item in named(listed(body, "Tags"), COLUMNS)])


def _tag(item: Any) -> Tag:
    found = tag(item, COLUMNS)
    parent_id = text(item.get("ParentTagId"))
    extra = dict(found.extra) | ({"ParentTagId": parent_id} if parent_id not in (None, "0") else {})
    if "CentricScore" in extra:
        extra["CentricScore"] = number(item["CentricScore"])
    return replace(found, extra=extra)
