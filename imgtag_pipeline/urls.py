"""Image references as text: the key of a URL (without its signature), and the redaction of everything we print."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

# vendor -> (parameter that shows that the URL is signed that way, parameters that belong to the signature).
# A trailing "*" is a prefix. Names are compared without case.
SIGNATURE_PARAMETERS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "oss_v1": (("ossaccesskeyid",), ("ossaccesskeyid", "expires", "signature", "security-token")),
    "oss_v4": (
        ("x-oss-signature",),
        (
            "x-oss-signature",
            "x-oss-signature-version",
            "x-oss-credential",
            "x-oss-date",
            "x-oss-expires",
            "x-oss-security-token",
            "x-oss-additional-headers",
            "x-oss-access-key-id",
        ),
    ),
    "cos": (
        ("q-signature",),
        (
            "q-sign-algorithm",
            "q-ak",
            "q-sign-time",
            "q-key-time",
            "q-header-list",
            "q-url-param-list",
            "q-signature",
            "x-cos-security-token",
        ),
    ),
    "aws_v4": (("x-amz-signature",), ("x-amz-*",)),
    "aws_v2": (("awsaccesskeyid",), ("awsaccesskeyid", "expires", "signature", "x-amz-security-token")),
    "gcs": (("x-goog-signature",), ("x-goog-*",)),
    "gcs_v2": (("googleaccessid",), ("googleaccessid", "expires", "signature")),
    "cloudfront": (("key-pair-id",), ("key-pair-id", "expires", "signature", "policy")),
    "azure_sas": (
        ("sig",),
        (
            "sig",
            "sv",
            "se",
            "st",
            "sp",
            "sr",
            "spr",
            "sip",
            "si",
            "skoid",
            "sktid",
            "skt",
            "ske",
            "sks",
            "skv",
            "ss",
            "srt",
        ),
    ),
    "huawei_obs": (("accesskeyid",), ("accesskeyid", "expires", "signature", "x-obs-security-token")),
}

# Names whose value is a secret wherever they stand in a text: query, header, JSON, form.
_SECRET_NAMES: Final = "|".join(
    (
        "signature|x-oss-signature|x-amz-signature|x-goog-signature|q-signature|sig",
        "ossaccesskeyid|accesskeyid|awsaccesskeyid|googleaccessid|access_key_id|secretid|secret_id|q-ak|key-pair-id",
        "accesskeysecret|access_key_secret|secretkey|secret_key|secret|password|policy|q-key-time|q-sign-time",
        "securitytoken|security_token|security-token|x-oss-security-token|x-acs-security-token|x-amz-security-token",
        "x-cos-security-token|x-oss-credential|x-amz-credential|x-goog-credential|credential|authorization|token",
    )
)
_SECRET_PAIR: Final = re.compile(
    rf"(?i)(?<![\w-])({_SECRET_NAMES})"
    r"(\"?\s*[=:]\s*|%3D)"
    r"(\"[^\"]*\"|(?:OSS|OSS4-HMAC-SHA256|ACS3-HMAC-SHA256|Bearer|Basic)\s+[^\n]+|[^\s&\"'<>,;)\]}]+)"
)
_USERINFO: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/\s@?#]+@")
_URL_IN_TEXT: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+")


def _parameter_name(pair: str) -> str:
    return unquote(pair.partition("=")[0]).lower()


def _belongs(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns)


def unsigned_url(url: str) -> str:
    """The URL without user info and without the parameters of a signature; nothing else is changed.

    This is an image's key: the same object signed anew is the same image. Only the parameters named in
    `SIGNATURE_PARAMETERS` go, and only where their vendor's marker is present, so that a plain `?expires=` stays.
    """
    if "://" in url and "@" in url:
        url = _USERINFO.sub(r"\1", url, count=1)
    head, mark, query = url.partition("?")
    if not mark:
        return url
    query, hash_mark, fragment = query.partition("#")
    pairs = query.split("&")
    names = [_parameter_name(pair) for pair in pairs]
    present = set(names)
    drop: tuple[str, ...] = ()
    for markers, belonging in SIGNATURE_PARAMETERS.values():
        if present.intersection(markers):
            drop += belonging
    if not drop:
        return url
    kept = [pair for pair, name in zip(pairs, names, strict=True) if not _belongs(name, drop)]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def ascii_url(url: str) -> str:
    """The URL with every character outside ASCII percent-escaped as UTF-8, once; existing `%XX` are left alone."""
    return quote(url, safe="%!#$&'()*+,/:;=?@[]~-._")


def redact(text: str) -> str:
    """The text without signature parameters, user info, or values that stand beside a name of a secret."""
    text = _URL_IN_TEXT.sub(lambda found: unsigned_url(found.group()), text)
    return _SECRET_PAIR.sub(lambda found: f"{found.group(1)}{found.group(2)}***", text)
