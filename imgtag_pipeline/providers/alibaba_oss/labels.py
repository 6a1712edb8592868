"""`oss_labels`: the labels of an OSS object, by the new generation of Alibaba's intelligent media management (IMM).

Docs: https://www.alibabacloud.com/help/en/oss/user-guide/image-label-detection. JPG, PNG; 20 MB; 30,000 px a side and
250,000,000 px in all. Confidence 0 to 1; without `threshold` the vendor hides everything under 0.7. Requests that
end in 4xx are billed, 5xx are not; the price is not published.
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
from imgtag_pipeline.providers.toolkit import options
from imgtag_pipeline.providers.toolkit.credentials import AlibabaDefault, Credentials, renewed
from imgtag_pipeline.providers.toolkit.decode import Columns, best_first, named, number, tag

ADDRESS: Final = "oss_labels"
DEFAULT_THRESHOLD: Final = 70
COLUMNS: Final = Columns(
    ("LabelName",),
    "label",
    ("LabelConfidence",),
    level=("LabelLevel",),
    parent=("ParentLabelName",),
    language=("Language",),
)
FACTS: Final = Facts(
    title="Labels of an OSS object, in levels",
    docs="https://www.alibabacloud.com/help/en/oss/user-guide/image-label-detection",
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
class OssLabels:
    """`image/labels` on objects.

    threshold: labels below it (0 to 100, the vendor's default is 70) are left out. region: of the buckets; needed for
    oss:// references, custom domains and accelerate hosts. endpoint: where to send instead of the host of the URL.
    domain, bucket: a custom domain and the bucket it leads to. signature: "v4" or "v1".
    """

    threshold: int | None = None
    region: str | None = None
    endpoint: str | None = None
    domain: str | None = None
    bucket: str | None = None
    signature: Signature = "v4"
    qps: float | None = None
    credentials: Credentials = field(default_factory=lambda: AlibabaDefault("oss"), repr=False)

    def __post_init__(self) -> None:
        if self.threshold is not None:
            options.between("threshold", self.threshold, 0, 100, is_whole=True)
        full = oss_calls.check_options(self.endpoint, self.region, self.signature, self.qps)
        object.__setattr__(self, "endpoint", full)
        self._service()

    def _service(self) -> Service:
        process = "image/labels" if self.threshold is None else f"image/labels,thr_{self.threshold}"
        place = Place(self.endpoint, self.region, self.domain, self.bucket)
        return Service(ADDRESS, process, place, self.signature, self.credentials, self.qps)

    @staticmethod
    def facts_of(address: str) -> Facts:
        """The facts, without keys or options."""
        return FACTS

    @property
    def address(self) -> str:
        """Always "oss_labels"."""
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
        """The call and its threshold."""
        threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        return {"provider": ADDRESS, "threshold": threshold}

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
        return [(yield from oss_calls.converse(images[0], self._service(), read_labels))]

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its signature."""
        return oss_calls.sign(request, moment, self._service())

    def check(self, call: Call, reply: Reply) -> None:
        """Raise what the reply's code stands for."""
        oss_calls.check(reply, read_labels)


def read_labels(body: Body) -> tuple[Tag, ...]:
    """The labels, best first. Their order is not promised, and a parent need not be among them."""
    return best_first([_label(item) for item in named(listed(body, "Labels"), COLUMNS)])


def _label(item: Any) -> Tag:
    found = tag(item, COLUMNS)
    if "CentricScore" not in found.extra:
        return found
    return replace(found, extra={**found.extra, "CentricScore": number(item["CentricScore"])})
