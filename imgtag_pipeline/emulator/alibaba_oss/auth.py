"""Who asks: the signature, the temporary key's token and the account's state, in the order in which OSS looks."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from imgtag_pipeline.core.signing import oss_v1, oss_v4
from imgtag_pipeline.emulator.alibaba_oss.address import Address
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Refused, WireRequest
from imgtag_pipeline.emulator.options import Account

_SCHEMES: Final = ("OSS ", "OSS4-HMAC-SHA256", "OSS2 ")
_QUERY_MARKS: Final = ("OSSAccessKeyId=", "x-oss-signature=", "x-oss-signature-version=", "x-oss-process=")


def is_marked(request: WireRequest) -> bool:
    """Whether the request carries an OSS signature or asks for OSS's image processing."""
    authorization = request.headers.get("Authorization", "")
    return authorization.startswith(_SCHEMES) or any(mark in request.query for mark in _QUERY_MARKS)


def names_a_key(request: WireRequest) -> bool:
    """Whether the request names a key, so that there is somebody to bill."""
    marks = ("OSSAccessKeyId=", "x-oss-credential=")
    return "Authorization" in request.headers or any(mark in request.query for mark in marks)


def authenticate(cloud: Cloud, request: WireRequest, address: Address) -> Account:
    """The account that signed the request; raises `Refused`. Nobody may do anything without a signature."""
    verdict = _verdict(cloud, request, address)
    if verdict is None:
        raise Refused("AccessDenied")
    if verdict.error:
        raise Refused(verdict.error, verdict.message, details=_details(cloud, request, verdict))
    return check_account(cloud, verdict.access_key_id, verdict.security_token)


def check_account(cloud: Cloud, access_key_id: str, security_token: str | None) -> Account:
    """The account of a key that signed rightly, its token and state checked; raises `Refused`."""
    account = cloud.account(access_key_id)
    if account is None or (account.security_token and not security_token):
        raise Refused("InvalidAccessKeyId", details={"OSSAccessKeyId": access_key_id})
    if (account.security_token or None) != security_token:
        raise Refused("InvalidSecurityToken")
    if account.expires_at is not None and cloud.now().timestamp() > account.expires_at:
        raise Refused("SecurityTokenExpired")
    if account.refusal:
        raise Refused(account.refusal)
    return account


def secret_of(cloud: Cloud, access_key_id: str) -> str | None:
    """The secret of a key id, None for an unknown one."""
    account = cloud.account(access_key_id)
    return account.secret if account else None


def _verdict(cloud: Cloud, request: WireRequest, address: Address) -> oss_v1.Verdict | oss_v4.Verdict | None:
    target = (request.method, address.bucket, address.key, request.query, request.headers)

    def secret(access_key_id: str) -> str | None:
        return secret_of(cloud, access_key_id)

    now, skew = cloud.now(), timedelta(seconds=cloud.options.clock_tolerance)
    newer = oss_v4.verify(*target, secret_of=secret, now=now, region=address.region, max_skew=skew)
    if newer is not None:
        return newer
    return oss_v1.verify(*target, secret_of=secret, now=now, max_skew=skew)


def _details(cloud: Cloud, request: WireRequest, verdict: oss_v1.Verdict | oss_v4.Verdict) -> dict[str, str]:
    details: dict[str, str] = {}
    if verdict.error in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
        details["OSSAccessKeyId"] = verdict.access_key_id
    if verdict.error == "SignatureDoesNotMatch":
        text = verdict.string_to_sign
        details["StringToSign"] = text
        details["StringToSignBytes"] = text.encode(errors="surrogateescape").hex(" ").upper()
        if isinstance(verdict, oss_v4.Verdict):
            details["CanonicalRequest"] = verdict.canonical_request
    if verdict.error == "RequestTimeTooSkewed":
        details["MaxAllowedSkewMilliseconds"] = str(int(cloud.options.clock_tolerance * 1000))
        details["RequestTime"] = request.headers.get("x-oss-date") or request.headers.get("Date", "")
        details["ServerTime"] = cloud.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return details
