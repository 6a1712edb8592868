"""Image references as text: the key of a URL (without its signature), and the redaction of everything we print."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

# vendor -> (parameters that, all present, show that the URL is signed that way; parameters that belong to the
# signature). A trailing "*" is a prefix. Names are compared without case.
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
        ("sig", "sv"),
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
    "huawei_obs": (("accesskeyid", "signature"), ("accesskeyid", "expires", "signature", "x-obs-security-token")),
    "volcengine_tos": (("x-tos-signature",), ("x-tos-*",)),
    "qiniu": (("e", "token"), ("e", "token")),
    "aliyun_cdn": (("auth_key",), ("auth_key",)),
}

# Names whose value is a secret wherever they stand in a text: query, header, JSON, XML, form, Python's repr.
_SECRET_NAMES: Final = "|".join(
    (
        "signature|signatureprovided|x-oss-signature|x-amz-signature|x-goog-signature|x-tos-signature|q-signature|sig",
        "ossaccesskeyid|accesskeyid|awsaccesskeyid|googleaccessid|access_key_id|secretid|secret_id|q-ak|key-pair-id",
        "accesskeysecret|access_key_secret|secretkey|secret_key|secret|password|policy|q-key-time|q-sign-time",
        "securitytoken|security_token|security-token|x-oss-security-token|x-acs-security-token|x-amz-security-token",
        "x-cos-security-token|x-tos-security-token|x-obs-security-token|x-oss-credential|x-amz-credential",
        "x-goog-credential|x-tos-credential|credential|token|sessiontoken|session_token|auth_key",
        "x-oss-access-key-id|access_key|secret_access_key|aws_access_key_id|aws_secret_access_key",
    )
)
# A URL inside a URL's parameter is escaped, and escaped again by a vendor that repeats what was signed.
_BEFORE: Final = r"(?:(?<![\w-])|(?<=%26)|(?<=%3F)|(?<=%2526)|(?<=%253F)|(?<=%252526)|(?<=%25253F))"
_SECRET_PAIR: Final = re.compile(
    rf"(?i){_BEFORE}({_SECRET_NAMES})"
    r"(\\?[\"']?\s*[=:]\s*|\\?[\"']\s*,\s*(?=\\?[\"'])|%(?:25)*3D|>)"
    r"(\\?\"[^\"\\]*\\?\"|'[^']*'|(?:Bearer|Basic)\s+[^\s\"']+|[^\s&\"'<>,;)\]}]+)"
)
_AUTHORIZATION: Final = re.compile(r"(?i)\b(authorization)(\\?[\"']?\s*[=:]\s*|[\"']\s*,\s*)([bB]?[\"']?)[^\n\"']+")
_USERINFO: Final = re.compile(r"(?i)^([a-z][a-z0-9+.-]*://)[^/?#]*@")
_USERINFO_IN_TEXT: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s?#\"'<>]*@")
_URL_IN_TEXT: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s\"'<>]+")
_HOST: Final = re.compile(r"(?i)^([a-z][a-z0-9+.-]*://(?:[^/?#]*@)?)([^/?#@:\[\]]+)")


def _parameter_name(pair: str) -> str:
    return unquote(pair.partition("=")[0]).lower()


def _belongs(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name == p or (p.endswith("*") and name.startswith(p[:-1])) for p in patterns)


def unsigned_url(url: str) -> str:
    """The URL without user info and without the parameters of a signature; nothing else is changed.

    This is an image's key: the same object signed anew is the same image. Only the parameters named in
    `SIGNATURE_PARAMETERS` go, and only where their vendor's markers are present, so that a plain `?expires=` stays.
    """
    if "@" in url:
        url = _USERINFO.sub(r"\1", url)
    url, hash_mark, fragment = url.partition("#")
    head, mark, query = url.partition("?")
    if not mark:
        return url + hash_mark + fragment
    pairs = query.split("&")
    names = [_parameter_name(pair) for pair in pairs]
    present = set(names)
    drop: tuple[str, ...] = ()
    for markers, belonging in SIGNATURE_PARAMETERS.values():
        if present.issuperset(markers):
            drop += belonging
    kept = [pair for pair, name in zip(pairs, names, strict=True) if not _belongs(name, drop)]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def ascii_url(url: str) -> str:
    """The URL in ASCII: the host's name in IDNA, all else percent-escaped as UTF-8, once; `%XX` are left alone."""
    if not url.isascii():
        url = _HOST.sub(lambda found: found[1] + _ascii_host(found[2]), url)
    return quote(url, safe="%!#$&'()*+,/:;=?@[]~-._", errors="surrogatepass")


def _ascii_host(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def redact(text: str) -> str:
    """The text without signature parameters, user info, or values that stand beside a name of a secret."""
    text = _URL_IN_TEXT.sub(lambda found: unsigned_url(found.group()), text)
    text = _USERINFO_IN_TEXT.sub(r"\1", text)
    text = _AUTHORIZATION.sub(r"\1\2\3***", text)
    return _SECRET_PAIR.sub(lambda found: f"{found.group(1)}{found.group(2)}***", text)
