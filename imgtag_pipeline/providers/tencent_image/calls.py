"""What the two versions of Tencent's image tagging have in common: keys, token, quota, and reading a reply."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from imgtag_pipeline.core.signing import tencent
from imgtag_pipeline.errors import ConfigError, ThrottledError
from imgtag_pipeline.model import Answer, Moment, Price, Quota, Reply, Request, Tag
from imgtag_pipeline.providers.tencent_image.codes import verdict
from imgtag_pipeline.providers.toolkit import image_modes, options, precheck
from imgtag_pipeline.providers.toolkit.account import account_of
from imgtag_pipeline.providers.toolkit.codes import error_of, malformed, said
from imgtag_pipeline.providers.toolkit.credentials import Credentials, Keys
from imgtag_pipeline.providers.toolkit.decode import Malformed, decode, whole
from imgtag_pipeline.providers.toolkit.image_modes import ImageMode, Manner
from imgtag_pipeline.providers.toolkit.precheck import Limits

QPS: Final = 10.0  # no figure is published; the successor has 20 [inferred]
TOKEN_SECONDS: Final = 300
MILLION: Final = 1_000_000
# The whole month is charged at the price of the tier that it reaches.
PRICE: Final = Price(
    tiers=((3 * MILLION, 1100), (15 * MILLION, 900), (None, 700)), scheme="whole-month", free_calls=10_000
)
Read = Callable[[Any], tuple[Tag, ...]]


class Body(msgspec.Struct):
    """Every body: `code` 0 is a success, whatever the HTTP status."""

    code: Any = None
    message: Any = None
    tags: Any = None
    data: Any = None


def check_options(image_mode: str, fit: bool, endpoint: str, path: str, qps: float | None) -> str:
    """The endpoint in its full form; raises `ConfigError` for what cannot be."""
    image_modes.check_options(image_mode, fit)
    if qps is not None:
        options.between("qps", qps, 0.001, 10_000)
    if not path.startswith("/") or "?" in path:
        raise ConfigError(f"path is {path!r}; allowed: a path such as /v1/detection/imagetag_detect")
    return options.base_url("endpoint", endpoint)


def keys_of(credentials: Credentials) -> Keys:
    """The keys with the app id, which is part of every request."""
    keys = credentials.keys()
    if not keys.app_id:
        raise ConfigError("the keys have no app id; set TENCENT_APP_ID, or give Keys(..., app_id=...)")
    return keys


def quota(name: str, credentials: Credentials, endpoint: str, qps: float | None) -> Quota:
    """Per account."""
    return Quota(f"{name}:{account_of(credentials, endpoint)}", qps or QPS)


def concurrency(qps: float | None) -> int:
    """Enough to fill the quota with answers that take two seconds."""
    return min(256, max(8, round(2 * (qps or QPS))))


def manner(url: str, image_mode: ImageMode, fit: bool, endpoint: str, limits: Limits) -> Manner:
    """How the image is handed over; the vendor fetches any public URL."""
    is_near = precheck.is_private(urlsplit(endpoint).hostname or "")
    return Manner(image_mode, fit, limits, precheck.check_fetched(url, is_reached_from_here=is_near))


def sign(request: Request, moment: Moment, credentials: Credentials, bucket: str) -> Request:
    """The request with a token that is good for five minutes."""
    keys = keys_of(credentials)
    rand = int.from_bytes(hashlib.sha256(moment.nonce.encode()).digest()[:8], "big") % 10**10
    token = tencent.sign(
        app_id=keys.app_id,
        secret_id=keys.access_key_id,
        secret_key=keys.access_key_secret,
        bucket=bucket,
        now=moment.now,
        rand=rand,
        expires_in=TOKEN_SECONDS,
    )
    return replace(request, headers=(*request.headers, ("authorization", token)))


def _body_of(reply: Reply) -> Body:
    return decode(reply.body, Body)


def answer_of(reply: Reply, read: Read) -> Answer:
    """The answer about one image. Raises `Malformed`."""
    return Answer(read(reply.once(_body_of)))


def check(reply: Reply, read: Read) -> None:
    """Return for a success, read whole; else raise what code or status stand for. Failures may be billed."""
    is_success = 200 <= reply.status < 300
    try:
        body = reply.once(_body_of)
    except Malformed as problem:
        if is_success:
            raise malformed(problem) from None
        body = Body()
    code = whole(body.code)
    if is_success and code is None:
        raise malformed(Malformed("the answer has no code"))
    if not is_success or code != 0:
        stands_for = verdict(code, reply.status)
        is_throttled = issubclass(stands_for.error, ThrottledError)
        raise error_of(
            stands_for,
            code=str(code) if code else f"HTTP{reply.status}",
            message=said(body.message),
            request_id=reply.headers.get("x-request-id"),
            billing="no" if is_throttled else "unknown",
            reply=reply,
        )
    try:
        reply.once(answer_of, read)
    except Malformed as problem:
        raise malformed(problem) from None
