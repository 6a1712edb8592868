"""What the two OSS tagging calls have in common: the request, its signature, its quota, and their replies' errors."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from imgtag_pipeline.core.signing import oss_v1, oss_v4
from imgtag_pipeline.errors import CallError, PermanentError
from imgtag_pipeline.model import Answer, Call, Image, Moment, Pairs, Quota, Reply, Request, Result, Step, Tag, ask
from imgtag_pipeline.providers.alibaba_oss.codes import billing, real_code, verdict
from imgtag_pipeline.providers.alibaba_oss.objects import Place, Target, bucket_and_key, find_object, region_of
from imgtag_pipeline.providers.toolkit import options
from imgtag_pipeline.providers.toolkit.account import account_of
from imgtag_pipeline.providers.toolkit.codes import error_of, malformed, said
from imgtag_pipeline.providers.toolkit.credentials import Credentials
from imgtag_pipeline.providers.toolkit.decode import Malformed, decode, number, text
from imgtag_pipeline.providers.toolkit.precheck import Limits, extension_of
from imgtag_pipeline.urls import image_key, oss_object_key

CONCURRENCY: Final = 10  # no figure is published; start at ten and let the pacer halve it [inferred]
LIMITS: Final = Limits(
    ("JPEG", "PNG"),
    20 << 20,
    max_side=30_000,
    max_pixels=250_000_000,
    words="up to 30,000 px a side and 250,000,000 px in all",
)
Signature = Literal["v4", "v1"]
Read = Callable[[Any], tuple[Tag, ...]]


class Body(msgspec.Struct):
    """An answer of either call, or an error of OSS (XML) or IMM (JSON)."""

    RequestId: Any = None
    Labels: Any = msgspec.UNSET
    Tags: Any = msgspec.UNSET
    success: Any = None
    httpStatusCode: Any = None  # noqa: N815 (the vendor's spelling)
    errorCode: Any = None  # noqa: N815
    errorMessage: Any = None  # noqa: N815
    Code: Any = None
    Message: Any = None


@dataclass(frozen=True, slots=True)
class Service:
    """One of the two calls with its options."""

    name: str
    process: str
    place: Place
    signature: Signature
    credentials: Credentials
    qps: float | None
    limits: Limits = LIMITS

    def quota(self) -> Quota:
        """Per account, region or host, and call."""
        where = self.place.region or urlsplit(self.place.endpoint or "//any").netloc
        return Quota(f"{self.name}:{where}:{account_of(self.credentials, self.place.endpoint)}", self.qps)


def check_options(endpoint: str | None, region: str | None, signature: str, qps: float | None) -> str | None:
    """The endpoint in its full form; raises `ConfigError` for what cannot be."""
    options.one_of("signature", signature, ("v4", "v1"))
    if region is not None:
        options.region("region", region)
    if qps is not None:
        options.between("qps", qps, 0.001, 10_000)
    return None if endpoint is None else options.base_url("endpoint", endpoint)


def key(url: str, service: Service) -> str:
    """The key of the object that is asked for; of what is none, that of the reference."""
    if url.startswith("oss://") and "?" not in url:
        return url
    target = find_object(url, service.place)
    if isinstance(target, PermanentError):
        return image_key(url)
    return oss_object_key(target.bucket, target.key, target.version_id)


def precheck(url: str, service: Service) -> PermanentError | None:
    """Why the object cannot be asked for, or would be refused (and billed)."""
    target = find_object(url, service.place)
    return target if isinstance(target, PermanentError) else _refused(target, service)


def _refused(target: Target, service: Service) -> PermanentError | None:
    if service.signature == "v4" and target.region is None:
        return PermanentError(
            "signature V4 needs the bucket's region, which this URL does not tell; give region=", code="NoRegion"
        )
    return extension_of(target.key, service.limits)


def converse(image: Image, service: Service, read: Read) -> Generator[Step, Any, Result]:
    """Ask for one object; the old process and signature of a presigned URL are left behind."""
    target = find_object(image.url, service.place)
    if isinstance(target, PermanentError):
        return target
    problem = _refused(target, service)
    if problem is not None:
        return problem
    query: Pairs = (("x-oss-process", service.process),)
    if target.version_id:
        query = (("versionId", target.version_id), *query)
    reply = yield from ask(Call(service.name, Request("GET", target.url, query, region=target.region), service.quota()))
    return reply.once(_answer_of, read)


def _body_of(reply: Reply) -> Body:
    return decode(reply.body, Body)


def _answer_of(reply: Reply, read: Read) -> Answer:
    body = reply.once(_body_of)
    return Answer(read(body), request_ids(body, reply))


def sign(request: Request, moment: Moment, service: Service) -> Request:
    """The request with its signature in the headers."""
    keys = service.credentials.keys()
    bucket, key = bucket_and_key(request.url, service.place)
    query, headers = dict(request.query), dict(request.headers)
    if service.signature == "v1":
        added = oss_v1.sign(
            request.method,
            bucket,
            key,
            query,
            headers,
            access_key_id=keys.access_key_id,
            access_key_secret=keys.access_key_secret,
            security_token=keys.security_token,
            now=moment.now,
        )
    else:
        added = oss_v4.sign(
            request.method,
            bucket,
            key,
            query,
            headers,
            region=region_of(request.url, service.place) or request.region or "",
            access_key_id=keys.access_key_id,
            access_key_secret=keys.access_key_secret,
            security_token=keys.security_token,
            now=moment.now,
        )
    return replace(request, headers=(*request.headers, *added.items()))


def check(reply: Reply, read: Read) -> None:
    """Return for a success, read whole; else raise what the code stands for."""
    is_success = 200 <= reply.status < 300
    try:
        body = reply.once(_body_of)
    except Malformed as problem:
        if is_success:
            raise malformed(problem, request_id=reply.headers.get("x-oss-request-id")) from None
        body = Body()
    if not is_success:
        raise _error(body, reply, reply.status)
    if _says_failure(body):
        raise _error(body, reply, _inner_status(body) or 400)
    try:
        reply.once(_answer_of, read)
    except Malformed as problem:
        raise malformed(problem, request_id=request_ids(body, reply)) from None


def _inner_status(body: Body) -> int | None:
    found = number(body.httpStatusCode)
    return int(found) if found is not None and 100 <= found < 600 else None


def _says_failure(body: Body) -> bool:
    """Whether a body under HTTP 200 is an error: it says so, has a bad status of its own, or is an error document."""
    inner = _inner_status(body)
    has_list = body.Tags is not msgspec.UNSET or body.Labels is not msgspec.UNSET
    is_refused = (said(body.success) or "").lower() in ("false", "0")
    return (
        is_refused or (inner is not None and not 200 <= inner < 300) or (said(body.Code) is not None and not has_list)
    )


def _error(body: Body, reply: Reply, status: int) -> CallError:
    message = said(body.errorMessage) or said(body.Message)
    code = said(body.errorCode) or said(body.Code) or f"HTTP{status}"
    return error_of(
        verdict(code, message, status),
        code=real_code(code, message),
        message=message,
        request_id=request_ids(body, reply),
        billing=billing(status) if status == reply.status else "unknown" if status >= 500 else "yes",
        reply=reply,
    )


def request_ids(body: Body, reply: Reply) -> str | None:
    """The ids of the processing service and of the storage, which differ."""
    found = (said(body.RequestId), reply.headers.get("x-oss-request-id"))
    return " ".join(dict.fromkeys(one for one in found if one)) or None


def listed(body: Body, field: Literal["Labels", "Tags"]) -> Any:
    """The list of an answer; it may be missing when empty, but then something else must say that this is an answer."""
    value = getattr(body, field)
    if value is not msgspec.UNSET:
        return value
    if text(body.RequestId) is None:
        raise Malformed(f"the answer has neither {field} nor RequestId")
    return None
