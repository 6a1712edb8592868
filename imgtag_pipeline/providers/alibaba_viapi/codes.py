"""Alibaba VIAPI's codes: what each stands for. Classified by code, not by HTTP status (throttling is a 400 here).

Docs: https://help.aliyun.com/document_detail/151944.html and the common errors of the visual intelligence platform.
"""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.providers.toolkit.codes import (
    EXPIRED,
    ONCE_MORE,
    PERMANENT,
    SKEWED,
    THROTTLED,
    TRANSIENT,
    TWICE_MORE,
    Verdict,
    by_status,
    fatal,
)

_KEY: Final = "check the access key id; it does not exist or belongs to another cloud"
_INACTIVE: Final = "the access key is disabled; enable it in the RAM console"
_SECRET: Final = "the signature is refused; check the access key secret"
_PURCHASE: Final = "the action is not activated, or the account is in arrears; activate it or pay in the VIAPI console"
_RIGHTS: Final = "the key lacks the right; grant AliyunVIAPIFullAccess to its RAM user or role"
_ROLE: Final = "the service role is missing; authorise it in the VIAPI console"
_ACTION: Final = "this host does not offer the action; check the address, endpoint= and region="

CODES: Final[dict[str, Verdict]] = {
    "Throttling": THROTTLED,
    "Throttling.User": THROTTLED,
    "Throttling.Api": THROTTLED,
    "InternalServerError": TRANSIENT,
    "InternalError": TRANSIENT,
    "InternalError.Algo": TRANSIENT,
    "InternalError.Busy": TRANSIENT,
    "InternalError.Timeout": TRANSIENT,
    "InternalError.Process": TRANSIENT,
    "ServiceUnavailable": TRANSIENT,
    "Timeout": TRANSIENT,
    "InvalidImage.Download": TWICE_MORE,
    "InvalidImage.URL": PERMANENT,
    "InvalidImage.Content": PERMANENT,
    "InvalidImage.Decode": PERMANENT,
    "InvalidImage.Region": PERMANENT,
    "InvalidImage.Resolution": PERMANENT,
    "InvalidImage.Unsafe": PERMANENT,
    "IllegalUrlParameter": PERMANENT,
    "InvalidParameter.TooLarge": PERMANENT,
    "InvalidFile.Content": PERMANENT,
    "InvalidFile.Decode": PERMANENT,
    "InvalidFile.Category": PERMANENT,
    "ParameterError": PERMANENT,
    "ClientError.IllegalArgument": PERMANENT,
    "InvalidParameter": PERMANENT,
    "InvalidParameter.BadRequest": PERMANENT,
    "InvalidTimeStamp.Expired": SKEWED,
    "SignatureNonceUsed": ONCE_MORE,
    "InvalidSecurityToken.Expired": EXPIRED,
    "InvalidAccessKeyId.Inactive": fatal(_INACTIVE),
    "InvalidAccessKeyId.NotFound": fatal(_KEY),
    "SignatureDoesNotMatch": fatal(_SECRET),
    "IncompleteSignature": fatal(_SECRET),
    "InvalidAccessKeySecret": fatal(_SECRET),
    "InvalidApi.NotPurchase": fatal(_PURCHASE),
    "InvalidApi.OutOfService": fatal(_PURCHASE),
    "InvalidApi.ForbiddenInvoke": fatal(_PURCHASE),
    "AuthFailed": fatal(_RIGHTS),
    "RamRoleAuth": fatal(_RIGHTS),
    "NoPermission": fatal(_RIGHTS),
    "EntityNotExist.Role": fatal(_ROLE),
    "UnsupportedHTTPMethod": fatal("the gateway refuses the HTTP method; check endpoint="),
    "UnsupportedOperation": fatal(_ACTION),
    "InvalidAction.NotFound": fatal(_ACTION),
}
# Families of codes, for members that the table does not list.
PREFIXES: Final[tuple[tuple[str, Verdict], ...]] = (
    ("Throttling.", THROTTLED),
    ("InternalError.", TRANSIENT),
    ("InvalidSecurityToken", EXPIRED),
    ("InvalidAccessKey", fatal(_KEY)),
    ("InvalidApi.", fatal(_PURCHASE)),
    ("Forbidden", fatal(_RIGHTS)),
)


def verdict(code: str, status: int) -> Verdict:
    """What the code stands for; an unknown one goes by its family, else by the HTTP status."""
    known = CODES.get(code)
    if known is not None:
        return known
    return next((found for prefix, found in PREFIXES if code.startswith(prefix)), by_status(status))
