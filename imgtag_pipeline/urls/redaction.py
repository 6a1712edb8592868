"""Takes secrets out of everything that is printed, logged or raised."""

from __future__ import annotations

import re
from typing import Final

from imgtag_pipeline.urls.signatures import unsigned_by_name

# Names whose value is a secret wherever they stand in a text: query, header, JSON, XML, form, Python's repr.
_SECRET_NAMES: Final = "|".join(
    (
        "signature|signatureprovided|x-oss-signature|x-amz-signature|x-goog-signature|x-tos-signature|q-signature|sig",
        "ossaccesskeyid|accesskeyid|awsaccesskeyid|googleaccessid|access_key_id|secretid|secret_id|q-ak|key-pair-id",
        "accesskeysecret|access_key_secret|secretkey|secret_key|secret|password|policy|q-key-time|q-sign-time",
        "securitytoken|security_token|security-token|x-oss-security-token|x-acs-security-token|x-amz-security-token",
        "x-cos-security-token|x-tos-security-token|x-obs-security-token|x-oss-credential|x-amz-credential",
        "x-goog-credential|x-tos-credential|credential|token|sessiontoken|session_token|auth_key",
        "x-kss-security-token|x-bce-security-token|x-amz-s3session-token|kssaccesskeyid|nosaccesskeyid|ucloudpublickey",
        "sign|_upt|x-oss-access-key-id|access_key|secret_access_key|aws_access_key_id|aws_secret_access_key",
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
_USERINFO_IN_TEXT: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s?#\"'<>]*@")
_URL_IN_TEXT: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s\"'<>]+")


def redact(text: str) -> str:
    """The text without signature parameters, user info, or values that stand beside a name of a secret."""
    text = _URL_IN_TEXT.sub(lambda found: unsigned_by_name(found.group()), text)
    text = _USERINFO_IN_TEXT.sub(r"\1", text)
    text = _AUTHORIZATION.sub(r"\1\2\3***", text)
    return _SECRET_PAIR.sub(lambda found: f"{found.group(1)}{found.group(2)}***", text)
