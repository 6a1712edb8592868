"""VIAPI's front door: reads the parameters of a request from query, form and headers, and verifies either signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from imgtag_pipeline.core.signing import acs3, rpc
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Refused, WireRequest, pairs
from imgtag_pipeline.emulator.options import Account

_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(slots=True)
class Asked:
    """What is asked: action and version, and all parameters of query and form, decoded and merged."""

    action: str
    version: str
    query: dict[str, str] = field(repr=False)
    params: dict[str, str] = field(repr=False)


def read(request: WireRequest) -> Asked:
    """The parameters of a request; the action may stand in the query, in the form, or in a header."""
    query = dict(pairs(request.query)) if request.query else {}
    params = query
    if request.body and request.headers.get("Content-Type", _FORM).startswith(_FORM):
        try:
            params = {**query, **dict(pairs(request.body.decode()))}
        except UnicodeDecodeError:
            raise Refused("ClientError.IllegalArgument", "The form is not UTF-8.") from None
    headers = request.headers
    action = params.get("Action") or headers.get("x-acs-action", "")
    version = params.get("Version") or headers.get("x-acs-version", "")
    return Asked(action, version, query, params)


def verify(cloud: Cloud, request: WireRequest, asked: Asked) -> Account:
    """The account that signed the request; refuses a wrong or old signature, a used nonce, an unknown key."""
    authorization = request.headers.get("Authorization", "")
    if authorization.startswith(acs3.ALGORITHM) and "Signature" not in asked.query:
        account, nonce = _verify_acs3(cloud, request, asked, authorization)
    else:
        account, nonce = _verify_rpc(cloud, request, asked)
    if account.refusal:
        raise Refused(account.refusal)
    if not cloud.nonces.use(account.key_id, nonce, request.arrived):
        raise Refused("SignatureNonceUsed")
    return account


def _verify_rpc(cloud: Cloud, request: WireRequest, asked: Asked) -> tuple[Account, str]:
    params = asked.params
    for name in ("AccessKeyId", "Signature", "SignatureNonce", "Timestamp", "SignatureVersion"):
        if not params.get(name):
            raise Refused("IncompleteSignature", f"{name} is mandatory for this action.")
    if params.get("SignatureMethod") != "HMAC-SHA1" or params["SignatureVersion"] != "1.0":
        raise Refused("IncompleteSignature", "SignatureMethod must be HMAC-SHA1, SignatureVersion 1.0.")
    account = _account(cloud, params["AccessKeyId"], params.get("SecurityToken", ""))
    _check_time(cloud, params["Timestamp"])
    if not rpc.verify(request.method, params, account.secret):
        text = rpc.string_to_sign(request.method, params)
        raise _mismatch(f"Specified signature is not matched with our calculation. server string to sign is:{text}")
    return account, params["SignatureNonce"]


def _verify_acs3(cloud: Cloud, request: WireRequest, asked: Asked, authorization: str) -> tuple[Account, str]:
    headers: Mapping[str, str] = request.headers
    parts = acs3.parse(authorization)
    if parts is None:
        raise Refused("IncompleteSignature")
    for name in ("x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256", "x-acs-action", "x-acs-version"):
        if not headers.get(name) or name not in parts.signed_headers:
            raise Refused("IncompleteSignature", f"{name} must be sent and signed.")
    account = _account(cloud, parts.access_key_id, headers.get("x-acs-security-token", ""))
    _check_time(cloud, headers["x-acs-date"])
    if not acs3.verify(request.method, request.path, asked.query, headers, request.body, account.secret):
        canonical = acs3.received_canonical_request(
            request.method, request.path, asked.query, headers, parts.signed_headers
        )
        raise _mismatch(
            "Specified signature does not match our calculation. "
            f"server string to sign is:{acs3.string_to_sign(canonical)}, server canonicalized request is:{canonical}"
        )
    return account, headers["x-acs-signature-nonce"]


def _account(cloud: Cloud, key_id: str, security_token: str) -> Account:
    account = cloud.account(key_id)
    if account is None:
        raise Refused("InvalidAccessKeyId.NotFound")
    if (account.security_token or "") != security_token:
        raise Refused("InvalidSecurityToken.Malformed")
    if account.expires_at is not None and cloud.now().timestamp() >= account.expires_at:
        raise Refused("InvalidSecurityToken.Expired")
    return account


def _check_time(cloud: Cloud, stamp: str) -> None:
    at = _time(stamp)
    if at is None:
        raise Refused("IncompleteSignature", "The time must be in the form YYYY-MM-DDThh:mm:ssZ.")
    if not cloud.is_in_time(at):
        raise Refused("InvalidTimeStamp.Expired")


@lru_cache(256)
def _time(stamp: str) -> datetime | None:
    try:
        return datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _mismatch(message: str) -> Refused:
    return Refused("SignatureDoesNotMatch", message)
