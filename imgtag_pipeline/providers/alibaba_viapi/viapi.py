"""`viapi/<Action>`: the imagerecog actions of Alibaba's visual intelligence platform.

Docs: https://help.aliyun.com/document_detail/151944.html. Limits, prices and confidence scales: `actions`; codes:
`codes`. Quota: 2 calls a second per account and action unless more was bought; failed calls are not billed.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

from imgtag_pipeline.core.signing.escaping import escape
from imgtag_pipeline.errors import ConfigError, PermanentError, TransientError
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
    ask,
)
from imgtag_pipeline.providers.alibaba_viapi import hosts as viapi_hosts
from imgtag_pipeline.providers.alibaba_viapi import jobs as viapi_jobs
from imgtag_pipeline.providers.alibaba_viapi import logos as viapi_logos
from imgtag_pipeline.providers.alibaba_viapi import replies as viapi_replies
from imgtag_pipeline.providers.alibaba_viapi import signing as viapi_signing
from imgtag_pipeline.providers.alibaba_viapi import upload as viapi_upload
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS, DOCS, Action
from imgtag_pipeline.providers.alibaba_viapi.reading import answer_of
from imgtag_pipeline.providers.toolkit import image_modes, options, precheck
from imgtag_pipeline.providers.toolkit.account import account_of
from imgtag_pipeline.providers.toolkit.credentials import AlibabaDefault, Credentials, renewed
from imgtag_pipeline.providers.toolkit.image_modes import Handed, ImageMode, Manner
from imgtag_pipeline.urls import image_key

VERSION: Final = "2019-09-30"
QPS: Final = 2.0
POLL_QPS: Final = 200.0  # support staff: https://developer.aliyun.com/ask/589696
COLOR_COUNT: Final = 3
OWN_OPTIONS: Final = {
    "color_count": "RecognizeImageColor",
    "certificate_type": "EvaluateCertificateQuality",
    "batch_size": "RecognizeLogo",
    "job_timeout": "TaggingAdImage",
    "poll_every": "TaggingAdImage",
}
FORM: Final = ("content-type", "application/x-www-form-urlencoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Viapi:
    """One action.

    color_count: RecognizeImageColor's number of colours, 1 to 10. certificate_type: EvaluateCertificateQuality's
    "IDCard" or "BusinessLicense". image_mode: "url" lets the vendor fetch the image, "bytes" reads it here and uploads
    it, "auto" does what the image needs. fit: make a JPEG within the limits of what is not. image_hosts: "region" takes
    what lies in OSS of another region for what the vendor does not fetch, "oss" also what is not in OSS, as the first
    manuals demand; "any" leaves that to the vendor.
    """

    action: str
    color_count: int | None = None
    certificate_type: Literal["IDCard", "BusinessLicense"] | None = None
    batch_size: int = 0
    image_mode: ImageMode = "auto"
    fit: bool = False
    image_hosts: viapi_hosts.Hosts = "region"
    signature: Literal["rpc", "acs3"] = "rpc"
    region: str = "cn-shanghai"
    endpoint: str | None = None
    upload_endpoint: str | None = None
    qps: float | None = None
    poll_every: float = 1.0
    job_timeout: float = 1800.0
    credentials: Credentials = field(default_factory=AlibabaDefault, repr=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ConfigError(f"action is {self.action!r}; allowed: {', '.join(ACTIONS)}")
        image_modes.check_options(self.image_mode, self.fit)
        options.one_of("image_hosts", self.image_hosts, viapi_hosts.HOSTS)
        options.one_of("signature", self.signature, ("rpc", "acs3"))
        options.region("region", self.region)
        if self.qps is not None:
            options.between("qps", self.qps, 0.001, 10_000)
        options.between("poll_every", self.poll_every, 0.01, 60)
        options.between("job_timeout", self.job_timeout, 1, 86_400)
        for name in ("endpoint", "upload_endpoint"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, options.base_url(name, getattr(self, name)))
        self._check_own_options()

    def _check_own_options(self) -> None:
        self._only_for("color_count", self.color_count is not None)
        self._only_for("certificate_type", self.certificate_type is not None)
        if self.color_count is not None:
            options.between("color_count", self.color_count, 1, 10, is_whole=True)
        if self.action == "EvaluateCertificateQuality":
            options.one_of("certificate_type (required)", self.certificate_type, ("IDCard", "BusinessLicense"))
        most = ACTIONS[self.action].batch_size
        self._only_for("batch_size", self.batch_size not in (0, 1))
        if self.batch_size == 0:
            object.__setattr__(self, "batch_size", most)
        options.between("batch_size", self.batch_size, 1, 100, is_whole=True)

    def _only_for(self, name: str, is_given: bool) -> None:
        if is_given and self.action != OWN_OPTIONS[name]:
            raise ConfigError(f"{name} is an option of {OWN_OPTIONS[name]} only; {self.action} does not take it")

    @staticmethod
    def addresses() -> tuple[str, ...]:
        """All addresses of this file."""
        return tuple(f"viapi/{action}" for action in ACTIONS)

    @staticmethod
    def options_of(address: str, allowed: Sequence[str]) -> tuple[str, ...]:
        """Those of the options that this address takes."""
        name = address.partition("/")[2]
        return tuple(option for option in allowed if OWN_OPTIONS.get(option, name) == name)

    @staticmethod
    def required_of(address: str) -> tuple[str, ...]:
        """Those of the options without which the address cannot be built."""
        return ("certificate_type",) if address == "viapi/EvaluateCertificateQuality" else ()

    hints: ClassVar[Mapping[str, str]] = {"certificate_type": "allowed: IDCard, BusinessLicense"}

    @staticmethod
    def facts_of(address: str) -> Facts:
        """The facts of one address, without keys or options."""
        name = address.partition("/")[2]
        if name not in ACTIONS:
            raise ConfigError(f"action is {name!r}; allowed: {', '.join(ACTIONS)}")
        action = ACTIONS[name]
        return Facts(
            title=action.title,
            docs=DOCS,
            image_as=("url", "bytes"),
            confidence=action.confidence,
            languages=action.languages,
            formats=action.limits.formats,
            max_bytes=action.limits.max_bytes,
            resolution=action.limits.words,
            qps=f"{QPS:g} per account and action; 5 with a pack, more can be bought",
            price=action.price_words,
        )

    @property
    def address(self) -> str:
        """Such as "viapi/TaggingImage"."""
        return f"viapi/{self.action}"

    @property
    def facts(self) -> Facts:
        """For people: documentation, limits, scale, price."""
        return self.facts_of(self.address)

    @property
    def quota(self) -> Quota:
        """Per account, region and action."""
        return Quota(self._quota_key(self.action), self.qps or QPS)

    @property
    def price(self) -> Price:
        """Price of one call; an answered one, failures are free."""
        return self._action.price

    @property
    def concurrency(self) -> int:
        """Enough to fill the quota with answers that take four seconds; a job is waited for much longer."""
        return min(256, max(32 if self._action.is_job else 8, math.ceil(4 * (self.qps or QPS))))

    @property
    def _action(self) -> Action:
        return ACTIONS[self.action]

    def identity(self) -> Mapping[str, Any]:
        """The action and the options that change its answer."""
        own: dict[str, Any] = {"provider": self.address}
        if self.action == "RecognizeImageColor":
            own["color_count"] = self.color_count or COLOR_COUNT
        if self.certificate_type is not None:
            own["certificate_type"] = self.certificate_type
        return own

    def key(self, url: str) -> str:
        """What leads to the same request is one image: the reference in its normal spelling, without its signature."""
        return image_key(url)

    def prepare(self) -> None:
        """Fetch the keys; raises `ConfigError` when there are none."""
        self.credentials.keys()

    def refresh(self) -> bool:
        """Fetch the keys anew; True when others came."""
        return renewed(self.credentials)

    def precheck(self, url: str) -> PermanentError | None:
        """Why the image cannot succeed, found from its reference alone."""
        return self._manner(url).precheck(url)

    def reads(self, url: str) -> bool:
        """Whether this image is read here and uploaded."""
        return self._manner(url).must_read

    def check_head(self, head: bytes, size: int) -> PermanentError | None:
        """Why an image of that size that begins like this will not succeed."""
        return self._manner("").check_head(head, size)

    def _manner(self, url: str) -> Manner:
        is_near = precheck.is_private(urlsplit(self._endpoint).hostname or "")
        found = precheck.check_fetched(url, is_reached_from_here=is_near)
        found = found or viapi_hosts.check_host(url, self.region, self.image_hosts)
        otherwise = viapi_hosts.object_reference(url) if found is not None and found.code == "WrongRegion" else None
        return Manner(self.image_mode, self.fit, self._action.limits, found, otherwise)

    # --- the conversation -------------------------------------------------------------------------------------

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """One call for one image, or for a batch of logos; a job is submitted and polled."""
        if self._action.is_job:
            return [(yield from viapi_jobs.converse(self, images[0], jobs.get(images[0].key)))]
        if self.action == "RecognizeLogo":
            return (yield from viapi_logos.converse(self, images))
        return [(yield from self._single(images[0]))]

    def _single(self, image: Image) -> Generator[Step, Any, Result]:
        located = yield from self.locate(image)
        if not isinstance(located, Handed):
            return located
        reply = yield from ask(self.action_call(self._parameters(located.url or "")))
        return located.told(reply.once(answer_of, self.action))

    def locate(self, image: Image) -> Generator[Step, Any, Handed | PermanentError | TransientError]:
        """Where the vendor fetches the image from: its own URL, or that of the upload."""
        try:
            handed = yield from self.hand(image)
            if isinstance(handed, PermanentError) or handed.url is not None:
                return handed
            return replace(handed, url=(yield from viapi_upload.upload(self, handed.data)), data=b"")
        except (PermanentError, TransientError) as error:
            return error

    def hand(self, image: Image) -> Generator[Step, Any, Handed | PermanentError]:
        """The image as it is handed over, nothing uploaded yet."""
        return (yield from self._manner(image.url).hand(image))

    def _parameters(self, url: str) -> dict[str, str]:
        own = {self._action.parameter: url}
        if self.color_count is not None:
            own["ColorCount"] = str(self.color_count)
        if self.certificate_type is not None:
            own["Type"] = self.certificate_type
        return own

    # --- calls --------------------------------------------------------------------------------------------------

    def action_call(self, parameters: Mapping[str, str], wait: float = 0.0) -> Call:
        """The call of this action: parameters in a form body, so that long URLs fit."""
        query = (("Action", self.action), ("Version", VERSION), ("Format", "JSON"))
        body = "&".join(f"{name}={escape(value)}" for name, value in parameters.items()).encode()
        return Call(self.action, Request("POST", f"{self._endpoint}/", query, (FORM,), body), self.quota, wait=wait)

    def poll_call(self, job_id: str, wait: float) -> Call:
        """One look at a job; free, with its own quota."""
        query = (("Action", "GetAsyncJobResult"), ("Version", VERSION), ("Format", "JSON"), ("JobId", job_id))
        quota = Quota(self._quota_key("GetAsyncJobResult"), POLL_QPS)
        request = Request("GET", f"{self._endpoint}/", query)
        return Call("GetAsyncJobResult", request, quota, is_billable=False, wait=wait)

    def upload_base(self) -> str:
        """Where an upload is authorised: the given endpoint, else that of the action when it is not Alibaba's own."""
        if self.upload_endpoint is not None:
            return self.upload_endpoint
        is_own = self.endpoint is None or (urlsplit(self.endpoint).hostname or "").endswith(".aliyuncs.com")
        return viapi_upload.ENDPOINT if is_own else self._endpoint

    @property
    def _endpoint(self) -> str:
        return self.endpoint or f"https://imagerecog.{self.region}.aliyuncs.com"

    def _quota_key(self, action: str) -> str:
        return f"viapi:{action}:{self.region}:{account_of(self.credentials, self.endpoint)}"

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its signature, RPC in the query or ACS3 in the headers."""
        return viapi_signing.sign(request, moment, self.credentials.keys(), self.signature)

    def check(self, call: Call, reply: Reply) -> None:
        """Raise what the reply's code stands for; a success is read whole, so that a broken one is told here."""
        if call.operation == viapi_upload.SEND:
            viapi_upload.check_sent(reply)
        else:
            viapi_replies.check(self.action, call, reply)
