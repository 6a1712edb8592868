"""Image references as text: the key of a URL (without its signature), and the redaction of everything we print."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one vendor signs a URL; names are compared without case."""

    markers: tuple[str, ...]  # all present: the URL is signed this way
    more: tuple[str, ...] = ()  # parameters that belong to the signature beside the markers
    value: re.Pattern[str] | None = None  # of the first marker, where its name alone says too little

    @property
    def parameters(self) -> tuple[str, ...]:
        """All that belongs to the signature, and nothing that says which image it is."""
        return self.markers + self.more


_COS: Final = (
    *("q-sign-algorithm", "q-ak", "q-sign-time", "q-key-time", "q-header-list", "q-url-param-list"),
    "x-cos-security-token",
)
_V4: Final = ("algorithm", "credential", "date", "expires", "signedheaders", "security-token", "content-sha256")
_AZURE: Final = (
    *("se", "st", "sp", "sr", "spr", "sip", "si", "ss", "srt", "sdd", "ses"),
    *("skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid", "scid", "sduoid", "skdutid"),
)

SIGNATURE_SCHEMES: Final[dict[str, Scheme]] = {
    "oss_v1": Scheme(
        ("ossaccesskeyid",),
        (
            *("expires", "signature", "security-token"),
            *("x-oss-ac-source-ip", "x-oss-ac-subnet-mask", "x-oss-ac-vpc-id", "x-oss-ac-forward-allow"),
        ),
    ),
    "oss_v4": Scheme(
        ("x-oss-signature",),
        (
            *("x-oss-signature-version", "x-oss-credential", "x-oss-date", "x-oss-expires", "x-oss-security-token"),
            *("x-oss-additional-headers", "x-oss-access-key-id"),
        ),
    ),
    "cos": Scheme(("q-signature",), _COS),
    # The same, or the token of the older API, in one parameter: https://cloud.tencent.com/document/product/436/31711
    "cos_sign": Scheme(
        ("sign",), ("x-cos-security-token",), re.compile(r"(?i)q-sign-algorithm=|[a-z0-9+/_ -]{100,}={0,2}$")
    ),
    "tencent_cdn_a": Scheme(("sign",), (), re.compile(r"(?i)[0-9]{9,11}-[0-9a-z]{0,100}-[0-9]+-[0-9a-f]{32}$")),
    "tencent_cdn_d": Scheme(("sign", "t"), (), re.compile(r"(?i)[0-9a-f]{32}$")),
    "aws_v4": Scheme(
        ("x-amz-signature",), tuple(f"x-amz-{name}" for name in (*_V4, "s3session-token", "region-set", "user-agent"))
    ),
    "aws_v2": Scheme(("awsaccesskeyid",), ("expires", "signature", "x-amz-security-token")),
    "gcs": Scheme(("x-goog-signature",), tuple(f"x-goog-{name}" for name in _V4)),
    "gcs_v2": Scheme(("googleaccessid",), ("expires", "signature")),
    "google_cdn": Scheme(("keyname", "signature"), ("expires", "urlprefix")),
    "cloudfront": Scheme(("key-pair-id",), ("expires", "signature", "policy")),
    "azure_sas": Scheme(("sig", "sv"), _AZURE),
    "huawei_obs": Scheme(("accesskeyid", "signature"), ("expires", "x-obs-security-token")),
    "volcengine_tos": Scheme(("x-tos-signature",), tuple(f"x-tos-{name}" for name in (*_V4, "policy"))),
    "baidu_bos": Scheme(("authorization",), ("x-bce-security-token",), re.compile("(?i)bce-auth-v")),
    "kingsoft_ks3": Scheme(("kssaccesskeyid",), ("expires", "signature", "x-kss-security-token")),
    "netease_nos": Scheme(("nosaccesskeyid",), ("expires", "signature")),
    "ucloud_us3": Scheme(("ucloudpublickey",), ("expires", "signature")),
    "qiniu": Scheme(("e", "token")),
    "upyun": Scheme(("_upt",)),
    "aliyun_cdn": Scheme(("auth_key",)),
}
_FIRST_MARKERS: Final = frozenset(scheme.markers[0] for scheme in SIGNATURE_SCHEMES.values())
_MOST_NESTED: Final = 3

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
_USERINFO: Final = re.compile(r"(?i)^([a-z][a-z0-9+.-]*://)[^/?#]*@")
_USERINFO_IN_TEXT: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://)[^/\s?#\"'<>]*@")
_URL_IN_TEXT: Final = re.compile(r"(?i)\b[a-z][a-z0-9+.-]{0,30}://[^\s\"'<>]+")
_HOST: Final = re.compile(r"(?i)^([a-z][a-z0-9+.-]*://(?:[^/?#]*@)?)([^/?#@:\[\]]+)")


def unsigned_url(url: str) -> str:
    """The URL without user info and without the parameters of a signature; nothing else is changed.

    This is an image's key: the same object signed anew is the same image. Only the parameters named in
    `SIGNATURE_SCHEMES` go, and only where their vendor's markers are present, so that a plain `?expires=` stays. A
    parameter that is a signed URL itself, as image proxies take it, loses its signature too.
    """
    return _unsigned(url, _MOST_NESTED)


def _unsigned(url: str, levels: int) -> str:
    if "@" in url:
        url = _USERINFO.sub(r"\1", url)
    url, hash_mark, fragment = url.partition("#")
    head, mark, query = url.partition("?")
    if not mark:
        return url + hash_mark + fragment
    pairs = query.split("&")
    names = [_parameter_name(pair) for pair in pairs]
    drop = _signature(pairs, names) if not _FIRST_MARKERS.isdisjoint(names) else ()
    kept = [pair for pair, name in zip(pairs, names, strict=True) if name not in drop]
    if levels:
        kept = [_without_nested(pair, levels) for pair in kept]
    return head + ("?" + "&".join(kept) if kept else "") + hash_mark + fragment


def _parameter_name(pair: str) -> str:
    name = pair.partition("=")[0]  # "amp;": a URL that was copied out of HTML
    return (unquote(name) if "%" in name else name).lower().removeprefix("amp;")


def _signature(pairs: list[str], names: list[str]) -> frozenset[str]:
    """The names of those parameters that are parts of a signature."""
    found: set[str] = set()
    for scheme in SIGNATURE_SCHEMES.values():
        if not all(name in names for name in scheme.markers):
            continue
        value = pairs[names.index(scheme.markers[0])].partition("=")[2]
        if scheme.value is None or scheme.value.match(unquote(unquote(value))):
            found.update(scheme.parameters)
    return frozenset(found)


def _without_nested(pair: str, levels: int) -> str:
    name, equals, value = pair.partition("=")
    if "://" not in value and "%3a%2f%2f" not in value.lower():
        return pair
    inner = unquote(value)
    plain = _unsigned(inner, levels - 1)
    return pair if plain == inner else name + equals + quote(plain, safe="", errors="surrogatepass")


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
