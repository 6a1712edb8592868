"""Aliyun RPC HMAC-SHA1, the signature in the query that the VIAPI manual describes.

Docs: https://www.alibabacloud.com/help/en/sdk/product-overview/rpc-mechanism (request syntax and signature, V2).
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache

from imgtag_pipeline.core.signing.escaping import escape


@lru_cache(512)
def _name(name: str) -> str:
    return f"{escape(name)}="


def string_to_sign(method: str, params: Mapping[str, str]) -> str:
    """What the signature is made of; `params` are the decoded parameters of query and body, blank values included.

    A `Signature` among them is left out, so the parameters of a received request can be handed in as they are.
    """
    pairs = "&".join([_name(name) + escape(params[name]) for name in sorted(params) if name != "Signature"])
    # only these three marks are left that a second escaping would change
    twice = pairs.replace("%", "%25").replace("&", "%26").replace("=", "%3D")
    return f"{method.upper()}&%2F&{twice}"


def signature(method: str, params: Mapping[str, str], access_key_secret: str) -> str:
    """The value of `Signature`, not yet escaped for the query."""
    key = (access_key_secret + "&").encode()
    return b64encode(hmac.digest(key, string_to_sign(method, params).encode(), "sha1")).decode()


def timestamp(now: datetime) -> str:
    """The time as the gateway reads it: UTC, whole seconds."""
    return now.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00") + "Z"


def sign(
    method: str,
    params: Mapping[str, str],
    *,
    access_key_id: str,
    access_key_secret: str,
    security_token: str | None = None,
    now: datetime,
    nonce: str,
) -> dict[str, str]:
    """The common parameters and `Signature`, to be added to the query.

    `params` are all parameters of the action wherever they are sent, decoded, with Action, Version and Format.
    """
    common = {
        "AccessKeyId": access_key_id,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": nonce,
        "SignatureVersion": "1.0",
        "Timestamp": timestamp(now),
    }
    if security_token:
        common["SecurityToken"] = security_token
    common["Signature"] = signature(method, {**params, **common}, access_key_secret)
    return common


def verify(method: str, params: Mapping[str, str], access_key_secret: str) -> bool:
    """Whether the `Signature` among the received parameters is right; compared in constant time."""
    expected = signature(method, params, access_key_secret)
    return hmac.compare_digest(expected.encode(), params.get("Signature", "").encode())
