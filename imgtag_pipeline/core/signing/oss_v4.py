"""OSS signature V4 (OSS4-HMAC-SHA256), in the Authorization header and in a presigned URL.

Pure functions: keys, region and time are handed in, nothing is read or sent. `sign` and `presign` are the client's
side, `verify` is the server's: it works from the query as it stood on the wire and answers in the vendor's codes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl

from imgtag_pipeline.core.signing.escaping import escape

ALGORITHM: Final = "OSS4-HMAC-SHA256"
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
MAX_SKEW: Final = timedelta(minutes=15)
_UNKNOWN_KEY: Final = "The OSS Access Key Id you provided does not exist in our records."
_MISMATCH: Final = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
MAX_EXPIRES: Final = 7 * 24 * 3600
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_ALWAYS_SIGNED: Final = frozenset(("content-type", "content-md5"))
_PART: Final = re.compile(r"\s*([A-Za-z]+)=([^,]*?)\s*(?:,|$)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a server finds: `error` is the vendor's code, or None when the signature holds.

    `security_token` is the temporary key's token as it came (signed, but not looked up); `string_to_sign` and
    `canonical_request` are the server's own. None of them is shown in a `repr`.
    """

    access_key_id: str
    error: str | None = None
    message: str = ""
    region: str = ""
    security_token: str | None = field(default=None, repr=False)
    string_to_sign: str = field(default="", repr=False)
    canonical_request: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a request says about its own signature."""

    credential: str
    signature: str
    stamp: str
    additional: tuple[str, ...]
    expires: str | None = None

    @property
    def access_key_id(self) -> str:
        return self.credential.rsplit("/", 4)[0]

    @property
    def scope(self) -> str:
        return self.credential.partition("/")[2] if self.credential.count("/") == 4 else ""


def sign(
    method: str,
    bucket: str,
    key: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    region: str,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None,
    now: datetime,
    additional_headers: Collection[str] = (),
) -> dict[str, str]:
    """The headers to add: x-oss-date, x-oss-content-sha256, Authorization and, with a token, its header.

    `key` and `query` are decoded; `headers` are all those that will be sent. `additional_headers` are names (host,
    range) that shall be signed too; those that are not among `headers` are left out. `region` is "cn-hangzhou".
    """
    stamp = now.astimezone(UTC).strftime(_STAMP)
    added = {"x-oss-date": stamp, "x-oss-content-sha256": UNSIGNED}
    if security_token:
        added["x-oss-security-token"] = security_token
    known = _lower({**headers, **added})
    names = _additional(additional_headers, known)
    scope = f"{stamp[:8]}/{region}/oss/aliyun_v4_request"
    canonical = _canonical_request(method, bucket, key, query.items(), known, names)
    signature = _signature(access_key_secret, _string_to_sign(stamp, scope, canonical), scope)
    extra = f",AdditionalHeaders={';'.join(names)}" if names else ""
    added["Authorization"] = f"{ALGORITHM} Credential={access_key_id}/{scope}{extra},Signature={signature}"
    return added


def presign(
    method: str,
    bucket: str,
    key: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    *,
    region: str,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None,
    now: datetime,
    expires_in: int,
    additional_headers: Collection[str] = (),
) -> dict[str, str]:
    """The query parameters to add to a URL that then is good for `expires_in` seconds, and for `query` as it is now."""
    stamp = now.astimezone(UTC).strftime(_STAMP)
    scope = f"{stamp[:8]}/{region}/oss/aliyun_v4_request"
    known = _lower(headers)
    names = _additional(additional_headers, known)
    added = {
        "x-oss-signature-version": ALGORITHM,
        "x-oss-credential": f"{access_key_id}/{scope}",
        "x-oss-date": stamp,
        "x-oss-expires": str(expires_in),
    }
    if security_token:
        added["x-oss-security-token"] = security_token
    if names:
        added["x-oss-additional-headers"] = ";".join(names)
    canonical = _canonical_request(method, bucket, key, {**query, **added}.items(), known, names)
    added["x-oss-signature"] = _signature(access_key_secret, _string_to_sign(stamp, scope, canonical), scope)
    return added


def verify(
    method: str,
    bucket: str,
    key: str,
    raw_query: str,
    headers: Mapping[str, str],
    *,
    secret_of: Callable[[str], str | None],
    now: datetime,
    region: str | None = None,
    max_skew: timedelta = MAX_SKEW,
) -> Verdict | None:
    """Whether the signature of a request holds; None when the request carries none of this kind.

    `key` is the object's name decoded once, `raw_query` the query as on the wire; `secret_of` finds a secret by its
    key id, None for an unknown one. With `region`, a signature made for another region is refused; `max_skew` is how
    far the clocks may be apart.
    """
    pairs = parse_qsl(raw_query, keep_blank_values=True)
    known = _lower(headers)
    query = dict(pairs)
    claim = _claim(known, query)
    if claim is None:
        return None
    access_key_id, scope = claim.access_key_id, claim.scope
    token = known.get("x-oss-security-token") or query.get("x-oss-security-token") or None
    signed_region = scope.split("/")[1] if scope else ""
    problem = _check_scope(claim, region) or _check_time(claim, now, max_skew)
    if problem:
        return Verdict(access_key_id, *problem, signed_region, token)
    secret = secret_of(access_key_id)
    if secret is None:
        return Verdict(access_key_id, "InvalidAccessKeyId", _UNKNOWN_KEY, signed_region, token)
    signed = [(name, value) for name, value in pairs if claim.expires is None or name != "x-oss-signature"]
    canonical = _canonical_request(method, bucket, key, signed, known, claim.additional)
    text = _string_to_sign(claim.stamp, scope, canonical)
    if hmac.compare_digest(_signature(secret, text, scope).encode(), claim.signature.encode(errors="replace")):
        return Verdict(access_key_id, None, "", signed_region, token, text, canonical)
    return Verdict(access_key_id, "SignatureDoesNotMatch", _MISMATCH, signed_region, token, text, canonical)


def _claim(headers: Mapping[str, str], query: Mapping[str, str]) -> _Claim | None:
    """Both spellings of Authorization are read by name, with or without blanks after the commas."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    if scheme == ALGORITHM:
        parts = {name.lower(): value for name, value in _PART.findall(rest)}
        names = tuple(sorted(filter(None, parts.get("additionalheaders", "").lower().split(";"))))
        stamp = headers.get("x-oss-date", "")
        return _Claim(parts.get("credential", ""), parts.get("signature", ""), stamp, names)
    if query.get("x-oss-signature-version") == ALGORITHM:
        names = tuple(sorted(filter(None, query.get("x-oss-additional-headers", "").lower().split(";"))))
        return _Claim(
            query.get("x-oss-credential", ""),
            query.get("x-oss-signature", ""),
            query.get("x-oss-date", ""),
            names,
            query.get("x-oss-expires", ""),
        )
    return None


def _check_scope(claim: _Claim, region: str | None) -> tuple[str, str] | None:
    date, _, rest = claim.scope.partition("/")
    signed_region, _, tail = rest.partition("/")
    if not claim.signature or not signed_region or tail != "oss/aliyun_v4_request":
        return "InvalidArgument", "The credential or the signature is missing or not of the form of OSS4-HMAC-SHA256."
    if date != claim.stamp[:8]:
        return "InvalidArgument", "Invalid signing date in Authorization header."
    if region is not None and signed_region != region:
        return "InvalidArgument", "Invalid signing region in Authorization header."
    return None


def _check_time(claim: _Claim, now: datetime, max_skew: timedelta) -> tuple[str, str] | None:
    try:
        sent = datetime.strptime(claim.stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return "AccessDenied", "OSS authentication requires a valid Date."
    if claim.expires is None:
        if abs(now - sent) > max_skew:
            return "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        return None
    expires = claim.expires
    if not re.fullmatch("[0-9]{1,6}", expires) or not 0 < int(expires) <= MAX_EXPIRES:
        return "InvalidArgument", f"x-oss-expires should be a number of seconds from 1 to {MAX_EXPIRES}."
    if sent - now > max_skew:
        return "AccessDenied", "Request is not valid yet."
    if now > sent + timedelta(seconds=int(expires)):
        return "AccessDenied", "Request has expired."
    return None


def _canonical_request(
    method: str,
    bucket: str,
    key: str,
    query: Iterable[tuple[str, str]],
    headers: Mapping[str, str],
    additional: tuple[str, ...],
) -> str:
    # The bucket is part of the path also where the URL has it in the host; slashes of the key stay, those of the
    # query do not. Unlike AWS, host is signed only when it is named.
    path = "/".join([_escape(part) for part in (f"/{bucket}/{key}" if bucket else "/").split("/")])
    escaped = sorted((_escape(name), _escape(value)) for name, value in query)
    text = "&".join(f"{name}={value}" if value else name for name, value in escaped)
    own = sorted(
        (name, value)
        for name, value in headers.items()
        if name.startswith("x-oss-") or name in _ALWAYS_SIGNED or name in additional
    )
    lines = "".join(f"{name}:{value}\n" for name, value in own)
    payload = headers.get("x-oss-content-sha256", UNSIGNED)
    return f"{method}\n{path}\n{text}\n{lines}\n{';'.join(additional)}\n{payload}"


def _string_to_sign(stamp: str, scope: str, canonical: str) -> str:
    digest = hashlib.sha256(canonical.encode(errors="surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}"


def _signature(secret: str, text: str, scope: str) -> str:
    signing_key = b"aliyun_v4" + secret.encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(errors="surrogateescape"), "sha256")
    return hmac.digest(signing_key, text.encode(errors="surrogateescape"), "sha256").hex()


def _escape(text: str) -> str:
    return escape(text, errors="surrogateescape")


def _additional(names: Collection[str], headers: Mapping[str, str]) -> tuple[str, ...]:
    lower = {name.lower() for name in names}
    return tuple(sorted(n for n in lower if n in headers and not n.startswith("x-oss-") and n not in _ALWAYS_SIGNED))


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value.strip() for name, value in headers.items()}
