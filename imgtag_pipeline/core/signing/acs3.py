"""Aliyun ACS3-HMAC-SHA256, the signature in a header that the current SDKs send.

Docs: https://www.alibabacloud.com/help/en/sdk/product-overview/v3-request-structure-and-signature
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from imgtag_pipeline.core.signing.escaping import escape
from imgtag_pipeline.core.signing.rpc import timestamp

ALGORITHM = "ACS3-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class Authorization:
    """The parts of an Authorization header of this scheme."""

    access_key_id: str
    signed_headers: tuple[str, ...]
    signature: str = field(repr=False)


def parse(authorization: str) -> Authorization | None:
    """The parts of the header, None when it is not of this scheme or a part is missing."""
    scheme, _, rest = authorization.partition(" ")
    if scheme != ALGORITHM:
        return None
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    try:
        names = tuple(parts["SignedHeaders"].split(";"))
        return Authorization(parts["Credential"], names, parts["Signature"])
    except KeyError:
        return None


def payload_hash(body: bytes) -> str:
    """The value of `x-acs-content-sha256`."""
    return hashlib.sha256(body).hexdigest()


def canonical_request(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], signed: tuple[str, ...], payload: str
) -> str:
    """The request as it is signed: `query` decoded, `headers` compared as given, `signed` their names in order."""
    pairs = "&".join(f"{escape(name)}={escape(query[name])}" for name in sorted(query))
    lines = "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in signed)
    return f"{method.upper()}\n{path or '/'}\n{pairs}\n{lines}\n{';'.join(signed)}\n{payload}"


def string_to_sign(canonical: str) -> str:
    """What the signature is made of."""
    return f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def signature(canonical: str, access_key_secret: str) -> str:
    """The signature in hex."""
    return hmac.digest(access_key_secret.encode(), string_to_sign(canonical).encode(), "sha256").hex()


def sign(
    method: str,
    host: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    action: str,
    version: str,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None = None,
    now: datetime,
    nonce: str,
) -> dict[str, str]:
    """All headers to send, names in lower case: those handed in, `host`, the x-acs- ones and `authorization`.

    Every header is signed, so hand in only those that arrive as they were sent; `query` is decoded.
    """
    payload = payload_hash(body)
    signed = {name.lower(): value for name, value in headers.items()}
    signed |= {
        "host": host,
        "x-acs-action": action,
        "x-acs-content-sha256": payload,
        "x-acs-date": timestamp(now),
        "x-acs-signature-nonce": nonce,
        "x-acs-version": version,
    }
    if security_token:
        signed |= {"x-acs-accesskey-id": access_key_id, "x-acs-security-token": security_token}
    names = tuple(sorted(signed))
    value = signature(canonical_request(method, path, query, signed, names, payload), access_key_secret)
    authorization = f"{ALGORITHM} Credential={access_key_id},SignedHeaders={';'.join(names)},Signature={value}"
    return {**signed, "authorization": authorization}


def received_canonical_request(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], signed: tuple[str, ...]
) -> str:
    """The canonical request of a received request: what its own SignedHeaders names, with its own payload hash.

    `headers` must compare names without case.
    """
    return canonical_request(method, path, query, headers, signed, headers.get("x-acs-content-sha256", ""))


def verify(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes, access_key_secret: str
) -> bool:
    """Whether a received request is signed rightly and its body is the one that was signed; in constant time.

    `headers` must compare names without case, or have them in lower case.
    """
    parts = parse(headers.get("authorization", ""))
    if parts is None or headers.get("x-acs-content-sha256", "") != payload_hash(body):
        return False
    canonical = received_canonical_request(method, path, query, headers, parts.signed_headers)
    return hmac.compare_digest(signature(canonical, access_key_secret).encode(), parts.signature.encode())
