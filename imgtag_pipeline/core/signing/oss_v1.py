"""OSS signature V1 (HMAC-SHA1), in the Authorization header and in a presigned URL.

Pure functions: keys and time are handed in, nothing is read or sent. `sign` and `presign` are the client's side,
`verify` is the server's: it works from the query as it stood on the wire and answers in the vendor's codes.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final
from urllib.parse import parse_qsl

# Only these query parameters are signed; the list is that of oss2 2.19.1 (`ProviderAuth._subresource_key_set`).
_SUB_RESOURCES: Final = (
    "accessPoint accessPointPolicy acl append asyncFetch bucketArchiveDirectRead bucketInfo callback callback-var "
    "cname comp continuation-token cors delete encryption endTime group httpsConfig inventory inventoryId "
    "lifecycle link live location logging metaQuery objectInfo objectMeta partNumber policy position "
    "publicAccessBlock qos qosInfo qosRequester redundancyTransition referer regionList replication "
    "replicationLocation replicationProgress requestPayment requesterQosInfo resourceGroup resourcePool "
    "resourcePoolBuckets resourcePoolInfo response-cache-control response-content-disposition "
    "response-content-encoding response-content-language response-content-type response-expires restore "
    "security-token sequential startTime stat status style styleName symlink tagging transferAcceleration "
    "uploadId uploads versionId versioning versions vod website worm wormExtend wormId x-oss-ac-forward-allow "
    "x-oss-ac-source-ip x-oss-ac-subnet-mask x-oss-ac-vpc-id x-oss-access-point-name x-oss-async-process "
    "x-oss-process x-oss-redundancy-transition-taskid x-oss-request-payer x-oss-target-redundancy-type "
    "x-oss-traffic-limit x-oss-write-get-object-response"
)
SUB_RESOURCES: Final = frozenset(_SUB_RESOURCES.split())
MAX_SKEW: Final = timedelta(minutes=15)
_UNKNOWN_KEY: Final = "The OSS Access Key Id you provided does not exist in our records."
_MALFORMED: Final = ("InvalidArgument", "Authorization header is invalid.")
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a server finds: `error` is the vendor's code, or None when the signature holds.

    `security_token` is the temporary key's token as it came (signed, but not looked up); `string_to_sign` is what the
    server signed. Neither is shown in a `repr`.
    """

    access_key_id: str
    error: str | None = None
    message: str = ""
    security_token: str | None = field(default=None, repr=False)
    string_to_sign: str = field(default="", repr=False)


def sign(
    method: str,
    bucket: str,
    key: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None,
    now: datetime,
) -> dict[str, str]:
    """The headers to add: Date, Authorization and, with temporary keys, x-oss-security-token.

    `key` and `query` are decoded; `headers` are all those that will be sent (Content-Type, Content-MD5 and x-oss-*
    are signed). Bucket and key are empty for calls on the service.
    """
    added = {"Date": format_datetime(now.astimezone(UTC), usegmt=True)}
    if security_token:
        added["x-oss-security-token"] = security_token
    known = _lower({**headers, **added})
    text = _string_to_sign(method, bucket, key, query.items(), known, known.get("x-oss-date") or known["date"])
    added["Authorization"] = f"OSS {access_key_id}:{_signature(access_key_secret, text)}"
    return added


def presign(
    method: str,
    bucket: str,
    key: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None,
    now: datetime,
    expires_in: int,
) -> dict[str, str]:
    """The query parameters to add to a URL that then is good for `expires_in` seconds, and for `query` as it is now."""
    expires = str(int(now.timestamp()) + expires_in)
    added = {"security-token": security_token} if security_token else {}
    text = _string_to_sign(method, bucket, key, {**query, **added}.items(), _lower(headers), expires)
    signature = _signature(access_key_secret, text)
    return {**added, "OSSAccessKeyId": access_key_id, "Expires": expires, "Signature": signature}


def verify(
    method: str,
    bucket: str,
    key: str,
    raw_query: str,
    headers: Mapping[str, str],
    *,
    secret_of: Callable[[str], str | None],
    now: datetime,
    max_skew: timedelta = MAX_SKEW,
) -> Verdict | None:
    """Whether the signature of a request holds; None when the request carries none of this kind.

    `key` is the object's name decoded once, `raw_query` the query as on the wire; `secret_of` finds a secret by its
    key id, None for an unknown one; `max_skew` is how far the clocks may be apart.
    """
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    known = _lower(headers)
    query = dict(pairs)
    token = known.get("x-oss-security-token") or query.get("security-token") or None
    if known.get("authorization", "").startswith("OSS "):
        access_key_id, colon, claimed = known["authorization"][4:].strip().partition(":")
        date = known.get("x-oss-date") or known.get("date", "")
        problem = _check_date(date, now, max_skew) if colon else _MALFORMED
    elif "OSSAccessKeyId" in query and "Signature" in query:
        access_key_id, claimed, date = query["OSSAccessKeyId"], query["Signature"], query.get("Expires", "")
        problem = _check_expiry(date, now)
    else:
        return None
    if problem:
        return Verdict(access_key_id, *problem, token)
    secret = secret_of(access_key_id)
    if secret is None:
        return Verdict(access_key_id, "InvalidAccessKeyId", _UNKNOWN_KEY, token)
    text = _string_to_sign(method, bucket, key, pairs, known, date)
    if hmac.compare_digest(_signature(secret, text).encode(), claimed.encode(errors="replace")):
        return Verdict(access_key_id, security_token=token, string_to_sign=text)
    return Verdict(access_key_id, "SignatureDoesNotMatch", _MISMATCH, token, text)


def _check_date(date: str, now: datetime, max_skew: timedelta) -> tuple[str, str] | None:
    try:
        sent = parsedate_to_datetime(date)
    except ValueError:
        return "AccessDenied", "OSS authentication requires a valid Date."
    if sent.tzinfo is None:
        sent = sent.replace(tzinfo=UTC)
    if abs(now - sent) > max_skew:
        return "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
    return None


def _check_expiry(expires: str, now: datetime) -> tuple[str, str] | None:
    if not re.fullmatch("[0-9]{1,12}", expires):
        return "AccessDenied", "Invalid date (should be seconds since epoch)."
    if int(expires) < now.timestamp():
        return "AccessDenied", "Request has expired."
    return None


def _string_to_sign(
    method: str, bucket: str, key: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], date: str
) -> str:
    own = sorted((name, value) for name, value in headers.items() if name.startswith("x-oss-"))
    lines = "".join(f"{name}:{value}\n" for name, value in own)
    signed = sorted((name, value) for name, value in query if name in SUB_RESOURCES)
    resource = f"/{bucket}/{key}" if bucket else "/"
    if signed:
        # Values are raw: neither the key nor the sub-resources are percent-escaped in V1.
        resource += "?" + "&".join(f"{name}={value}" if value else name for name, value in signed)
    md5, kind = headers.get("content-md5", ""), headers.get("content-type", "")
    return f"{method}\n{md5}\n{kind}\n{date}\n{lines}{resource}"


def _signature(secret: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode(errors="surrogateescape"), "sha1")).decode()


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in headers.items()}
