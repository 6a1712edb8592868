"""How the vendors sign URLs: the names of the parameters, and the form that their values must have.

A parameter goes only where the whole signature is there and has its vendor's form: a `token` or `sig` that is the
number of an image must stay in the image's key.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

Form = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one vendor signs a URL; names are in lower case and compared without it.

    The URL is signed this way where all of `forms` are there and have their form. `any_of` are names of which one must
    be there as well. `more` are parameters that belong to the signature beside these. `names_tell` are names that
    are taken for a secret wherever something is printed, whatever their values look like. Where the parameters of
    `tells` have their form, no other meaning is possible: what is left of the scheme then is a secret in a form that
    is not known, and is kept as a digest.
    """

    forms: Mapping[str, Form]
    more: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    names_tell: tuple[str, ...] = ()
    tells: Mapping[str, Form] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[str, ...]:
        """All that belongs to the signature, and nothing that says which image it is."""
        return (*self.forms, *self.any_of, *self.more)

    @property
    def markers(self) -> tuple[str, ...]:
        """The names that, all present, are taken for a signature where something is printed."""
        return self.names_tell or tuple(self.forms)


def _form(pattern: str) -> Form:
    return re.compile(f"(?:{pattern})\\Z").match


# A `+` that was not escaped reads as a space; the padding is left out at times.
_BASE64: Final = "[A-Za-z0-9+/_ -]"
_SHA1: Final = _form(f"{_BASE64}{{27}}=?")
_SHA256: Final = _form(f"{_BASE64}{{43}}=?")
_SHA: Final = _form(f"{_BASE64}{{27}}=?|{_BASE64}{{43}}=?")
_LONG_BASE64: Final = _form(f"{_BASE64}{{27}}=?|{_BASE64}{{43}}=?|{_BASE64}{{170,1400}}={{0,2}}")
_HEX_SHA256: Final = _form("[0-9a-fA-F]{64}")
_HEX_SIGNATURE: Final = _form("[0-9a-fA-F]{64}|[0-9a-fA-F]{130,150}|(?:[0-9a-fA-F]{256}){1,4}")
_HEX_SHA1: Final = _form("[0-9a-fA-F]{40}")
_MD5: Final = _form("[0-9a-fA-F]{32}")
_EPOCH: Final = _form("[0-9]{9,11}")
_VERSION: Final = _form("20[0-9]{2}-[0-9]{2}-[0-9]{2}")
_ANY: Final = _form("(?s:.*)")
_DATE: Final = _form("[0-9]{8}T[0-9]{6}Z")
_ID: Final = _form(r"[A-Za-z0-9][A-Za-z0-9._@-]*")
_OLD_COS_MAC: Final = 20  # bytes before the fields


def _cos_in_one(value: str) -> bool:
    """The signature of COS in one parameter, or the token of the API before it (base64 of 20 bytes and `a=&k=&e=`)."""
    if re.search(r"(?i)q-sign-algorithm=sha1(?:&|\Z)", value):
        return re.search(r"(?i)(?:^|&)q-signature=[0-9a-f]{40}(?:&|\Z)", value) is not None
    if not re.fullmatch(f"{_BASE64}{{80,}}={{0,2}}", value):
        return False
    text = value.replace(" ", "+").replace("-", "+").replace("_", "/").rstrip("=")
    try:
        fields = b64decode(text + "=" * (-len(text) % 4))[_OLD_COS_MAC:].split(b"&")
    except ValueError:
        return False
    return {b"a", b"k", b"e"} <= {field.partition(b"=")[0] for field in fields}


_COS: Final = ("q-sign-algorithm", "q-ak", "q-key-time", "q-header-list", "q-url-param-list", "x-cos-security-token")
_V4: Final = ("algorithm", "credential", "date", "expires", "signedheaders", "security-token", "content-sha256")
_AZURE: Final = (
    *("se", "st", "sp", "sr", "spr", "sip", "si", "ss", "srt", "sdd", "ses"),
    *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sduoid", "skdutid"),
)


def _by_key_id(name: str, signature: Form, *more: str) -> Scheme:
    """The oldest kind: a key's id, a time in seconds, and a MAC in base64."""
    forms = {name: _ID, "expires": _EPOCH, "signature": signature}
    return Scheme(forms, more, names_tell=(name,), tells={name: _ANY})


def _version_4(prefix: str, signature: Form, *more: str) -> Scheme:
    """The kind of AWS's version 4, under each vendor's prefix."""
    names = tuple(f"{prefix}-{name}" for name in (*_V4, *more))
    forms = {f"{prefix}-signature": signature, f"{prefix}-date": _DATE}
    return Scheme(forms, names, names_tell=(f"{prefix}-signature",), tells={f"{prefix}-signature": _ANY})


SIGNATURE_SCHEMES: Final[dict[str, Scheme]] = {
    "oss_v1": _by_key_id(
        "ossaccesskeyid",
        _SHA1,
        *("security-token", "x-oss-ac-source-ip", "x-oss-ac-subnet-mask", "x-oss-ac-vpc-id", "x-oss-ac-forward-allow"),
    ),
    "oss_v2": Scheme(
        {
            "x-oss-signature-version": _form("(?i:oss2)"),
            "x-oss-signature": _SHA256,
            "x-oss-expires": _EPOCH,
            "x-oss-access-key-id": _ID,
        },
        ("x-oss-additional-headers", "x-oss-security-token"),
        names_tell=("x-oss-signature",),
        tells={"x-oss-signature": _ANY},
    ),
    "oss_v4": Scheme(
        {"x-oss-signature": _HEX_SHA256, "x-oss-date": _DATE},
        (
            *("x-oss-signature-version", "x-oss-credential", "x-oss-expires", "x-oss-security-token"),
            *("x-oss-additional-headers", "x-oss-access-key-id"),
        ),
        names_tell=("x-oss-signature",),
        tells={"x-oss-signature": _ANY},
    ),
    "cos": Scheme(
        {"q-signature": _HEX_SHA1, "q-sign-time": _form("[0-9]{9,11};[0-9]{9,11}")},
        _COS,
        names_tell=("q-signature",),
        tells={"q-signature": _ANY},
    ),
    # The same, or the token of the older API, in one parameter: https://cloud.tencent.com/document/product/436/31711
    "cos_sign": Scheme(
        {"sign": _cos_in_one}, ("x-cos-security-token",), tells={"sign": re.compile("(?i)q-sign-algorithm=").match}
    ),
    "tencent_cdn_a": Scheme({"sign": _form("[0-9]{9,11}-[0-9a-zA-Z]{0,100}-[0-9]+-[0-9a-fA-F]{32}")}),
    "tencent_cdn_d": Scheme({"sign": _MD5, "t": _form("[0-9]{9,11}|[0-9a-fA-F]{8}")}),
    "aws_v4": _version_4("x-amz", _HEX_SIGNATURE, "s3session-token", "region-set", "user-agent"),
    "aws_v2": _by_key_id("awsaccesskeyid", _SHA1, "x-amz-security-token"),
    "gcs": _version_4("x-goog", _HEX_SIGNATURE),
    "gcs_v2": _by_key_id("googleaccessid", _LONG_BASE64),
    "google_cdn": Scheme(
        {"keyname": _ID, "signature": _SHA1, "expires": _EPOCH}, ("urlprefix",), names_tell=("keyname", "signature")
    ),
    "cloudfront": Scheme(
        {
            "key-pair-id": _form("[A-Z0-9]{10,40}"),
            "signature": _form("[A-Za-z0-9~_-]{90,1400}"),
        },
        any_of=("expires", "policy"),
        names_tell=("key-pair-id",),
    ),
    "azure_sas": Scheme({"sig": _SHA256, "sv": _VERSION}, _AZURE, tells={"sv": _VERSION, "sig": _ANY}),
    "huawei_obs": Scheme(
        {"accesskeyid": _form("[A-Za-z0-9]{16,}"), "signature": _SHA1, "expires": _EPOCH},
        ("x-obs-security-token",),
        names_tell=("accesskeyid", "signature"),
    ),
    "volcengine_tos": _version_4("x-tos", _HEX_SHA256, "policy"),
    "baidu_bos": Scheme(
        {
            "authorization": _form(
                r"bce-auth-v[0-9]+/[^/]+/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+Z/[0-9-]+/[^/]*/[0-9a-fA-F]{64}"
            )
        },
        ("x-bce-security-token",),
        tells={"authorization": re.compile("(?i)bce-auth-v").match},
    ),
    "kingsoft_ks3": _by_key_id("kssaccesskeyid", _SHA, "x-kss-security-token"),
    "netease_nos": _by_key_id("nosaccesskeyid", _SHA),
    "ucloud_us3": _by_key_id("ucloudpublickey", _SHA),
    "qiniu": Scheme({"e": _EPOCH, "token": _form(f"[A-Za-z0-9_-]{{8,}}:{_BASE64}{{27}}=?(?::{_BASE64}*={{0,2}})?")}),
    "upyun": Scheme({"_upt": _form("[0-9a-fA-F]{8}[0-9]{9,11}")}),
    "aliyun_cdn": Scheme({"auth_key": _form("[0-9]{9,11}-[0-9a-zA-Z]{1,100}-[0-9a-zA-Z]{1,100}-[0-9a-fA-F]{32}")}),
}
