"""Codes of OSS and of the intelligent media service (IMM) behind its two tagging calls, and how they are billed.

Docs: https://www.alibabacloud.com/help/en/oss/user-guide/image-label-detection and the OSS error pages. A failing
processing step is `Imm Client`, with a blank, and its real code is the first part of the message.
"""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.errors import Billing
from imgtag_pipeline.providers.toolkit.codes import (
    EXPIRED,
    PERMANENT,
    SKEWED,
    THROTTLED,
    TRANSIENT,
    Verdict,
    by_status,
    fatal,
)

_SECRET: Final = "the signature is refused; check the access key secret, region= and signature="
_KEY: Final = "the access key id does not exist or is disabled; check it"
_BINDING: Final = "no IMM project is bound to the bucket; bind one in the bucket's region in the OSS console"

CODES: Final[dict[str, Verdict]] = {
    "CpuLimitExceeded": THROTTLED,
    "TotalQpsLimitExceeded": THROTTLED,
    "DownloadTrafficRateLimitExceeded": THROTTLED,
    "ActiveRequestLimitExceeded": THROTTLED,
    "ServiceUnavailable": TRANSIENT,
    "InternalError": TRANSIENT,
    "NoSuchKey": PERMANENT,
    "NoSuchBucket": PERMANENT,
    "ImageTooLarge": PERMANENT,
    "BadRequest": PERMANENT,
    "InvalidArgument": PERMANENT,
    "MissingArgument": PERMANENT,
    "WatermarkError": PERMANENT,
    "AccessDenied": PERMANENT,
    "InvalidObjectState": PERMANENT,
    "SignatureDoesNotMatch": fatal(_SECRET),
    "InvalidAccessKeyId": fatal(_KEY),
    "SecurityTokenExpired": EXPIRED,
    "InvalidSecurityToken": EXPIRED,
    "RequestTimeTooSkewed": SKEWED,
    "NotImplemented": fatal("this host cannot process images; check endpoint= and that IMM is activated"),
    "ResourceNotFound": fatal(_BINDING),
}
IMM_PREFIXES: Final[tuple[tuple[str, Verdict], ...]] = (
    ("Invalid", PERMANENT),
    ("Missing", PERMANENT),
    ("ResourceNotFound", fatal(_BINDING)),
    ("Throttling", THROTTLED),
    ("LimitExceeded", THROTTLED),
)
IMM: Final = ("Imm Client", "Imm Server")


def real_code(code: str, message: str | None) -> str:
    """The code of the processing step where the storage only says that it failed."""
    if code not in IMM or not message:
        return code
    return message.partition(",")[0].strip()[:100] or code


def verdict(code: str, message: str | None, status: int) -> Verdict:
    """What the code stands for; one of IMM's goes by its status first, an unknown one by its family."""
    real = real_code(code, message)
    if code in IMM:
        return TRANSIENT if status >= 500 else _of_family(real, status)
    known = CODES.get(code)
    if known is not None:
        return known
    return by_status(status) if status >= 500 and not code.endswith("LimitExceeded") else _of_family(code, status)


def _of_family(code: str, status: int) -> Verdict:
    if code.endswith("LimitExceeded"):
        return THROTTLED
    return next((found for prefix, found in IMM_PREFIXES if code.startswith(prefix)), by_status(status))


def billing(status: int) -> Billing:
    """IMM bills requests that end in 4xx, and not those that end in 5xx (IMM billing overview)."""
    return "yes" if 400 <= status < 500 else "no"
