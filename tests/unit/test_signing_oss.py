"""OSS signatures V1 and V4: the vendor SDKs' own, made and verified, and refused for the right reason."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest

from imgtag_pipeline.core.signing import oss_v1, oss_v4

VECTORS = {
    vector["id"]: vector
    for vector in json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_text())["vectors"]
    if vector["scheme"].startswith("oss-")
}
HEADER = sorted(name for name, vector in VECTORS.items() if vector["scheme"].endswith("-header"))
PRESIGNED = sorted(name for name, vector in VECTORS.items() if vector["scheme"].endswith("-presign"))
NOW = datetime(2023, 7, 21, 8, 44, 58, tzinfo=UTC)
KEYS = {"access_key_id": "testid", "access_key_secret": "testsecret", "security_token": None}


def secret_of(access_key_id: str) -> str | None:
    return {"testid": "testsecret"}.get(access_key_id)


def facts(vector: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The scheme's module, the positional arguments of its functions, and the keyword ones."""
    given = vector["inputs"]
    named = {name: given[name] for name in ("access_key_id", "access_key_secret", "security_token")}
    named["now"] = datetime.fromisoformat(given["time"])
    scheme = oss_v1 if vector["scheme"].startswith("oss-v1") else oss_v4
    if scheme is oss_v4:
        named["region"] = given["region"]
        named["additional_headers"] = given.get("additional_headers", ())
    query = {"x-oss-process": given["x-oss-process"]}
    return scheme, (given["method"], given["bucket"], given["key"], query, given["extra_headers"]), named


def wire(vector: dict[str, Any]) -> tuple[str, str, str, str]:
    """What a server has before it verifies: method, bucket, key and the raw query."""
    parts = urlsplit(vector["request"]["url"] if "request" in vector else vector["url"])
    key = unquote(parts.path)[1:]
    if vector["inputs"].get("url_style") == "path":
        key = key.partition("/")[2]
    return vector["inputs"]["method"], vector["inputs"]["bucket"], key, parts.query


def parts_of(authorization: str) -> set[str]:
    scheme, _, rest = authorization.partition(" ")
    return {scheme, *(part.strip() for part in rest.split(","))}


@pytest.mark.parametrize("name", HEADER)
def test_signs_a_request_as_the_sdk_does(name):
    """The headers that we add carry the signature that the vendor's SDK computed."""
    vector = VECTORS[name]
    scheme, given, named = facts(vector)
    added = scheme.sign(*given, **named)
    assert parts_of(added["Authorization"]) == parts_of(vector["authorization"])
    sent = {key.lower(): value for key, value in vector["request"]["headers"].items()}
    for header, value in added.items():
        if header != "Authorization":
            assert sent[header.lower()] == value


@pytest.mark.parametrize("name", PRESIGNED)
def test_presigns_a_url_as_the_sdk_does(name):
    """The parameters that we add are those of the SDK's presigned URL."""
    vector = VECTORS[name]
    scheme, given, named = facts(vector)
    added = scheme.presign(*given, **named, expires_in=vector["inputs"]["expires_in"])
    assert {**given[3], **added} == dict(parse_qsl(urlsplit(vector["url"]).query))


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_verifies_from_the_wire(name):
    """A server that holds the secret accepts every request of the SDKs, and signs the same string."""
    vector = VECTORS[name]
    scheme, _, named = facts(vector)
    headers = vector.get("request", {}).get("headers", {})
    verdict = scheme.verify(*wire(vector), headers, secret_of=secret_of, now=named["now"])
    assert verdict is not None
    assert (verdict.access_key_id, verdict.error) == ("testid", None)
    assert verdict.security_token == vector["inputs"]["security_token"]
    assert verdict.string_to_sign == vector["string_to_sign"]
    if scheme is oss_v4:
        assert verdict.canonical_request == vector["canonical_request"]


@pytest.mark.parametrize("name", sorted(VECTORS))
def test_refuses_another_key(name):
    """The same signature over another object is refused, and the server says what it signed."""
    vector = VECTORS[name]
    scheme, _, named = facts(vector)
    method, bucket, key, query = wire(vector)
    headers = vector.get("request", {}).get("headers", {})
    verdict = scheme.verify(method, bucket, key + "x", query, headers, secret_of=secret_of, now=named["now"])
    assert verdict.error == "SignatureDoesNotMatch"
    assert verdict.string_to_sign
    assert "testsecret" not in repr(verdict)


@pytest.mark.parametrize("scheme", [oss_v1, oss_v4])
@pytest.mark.parametrize(
    ("passed", "secret", "error"),
    [
        (timedelta(minutes=14), "testsecret", None),
        (timedelta(minutes=-14), "testsecret", None),
        (timedelta(minutes=16), "testsecret", "RequestTimeTooSkewed"),
        (timedelta(minutes=-16), "testsecret", "RequestTimeTooSkewed"),
        (timedelta(0), None, "InvalidAccessKeyId"),
        (timedelta(0), "another", "SignatureDoesNotMatch"),
    ],
)
def test_header_is_good_for_a_quarter_of_an_hour(scheme, passed, secret, error):
    """A signed request is refused outside 15 minutes, with an unknown key id, and with a wrong secret."""
    named = KEYS if scheme is oss_v1 else {**KEYS, "region": "cn-hangzhou"}
    added = scheme.sign("GET", "bkt", "a.jpg", {}, {}, now=NOW, **named)
    verdict = scheme.verify("GET", "bkt", "a.jpg", "", added, secret_of=lambda _: secret, now=NOW + passed)
    assert verdict.error == error


@pytest.mark.parametrize("scheme", [oss_v1, oss_v4])
@pytest.mark.parametrize(("passed", "error"), [(59, None), (61, "AccessDenied")])
def test_presigned_url_expires(scheme, passed, error):
    """A presigned URL is good for the seconds that it says, and not one more."""
    named = KEYS if scheme is oss_v1 else {**KEYS, "region": "cn-hangzhou"}
    added = scheme.presign("GET", "bkt", "a.jpg", {}, {}, now=NOW, expires_in=60, **named)
    query = "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in added.items())
    later = NOW + timedelta(seconds=passed)
    assert scheme.verify("GET", "bkt", "a.jpg", query, {}, secret_of=secret_of, now=later).error == error


@pytest.mark.parametrize("scheme", [oss_v1, oss_v4])
@pytest.mark.parametrize("authorization", ["", "Bearer x", "OSS2 AccessKeyId:testid,Signature:x"])
def test_unsigned_request_has_no_verdict(scheme, authorization):
    """A request without a signature of the scheme is nobody's; the caller decides about anonymous access."""
    verdict = scheme.verify("GET", "b", "k", "", {"Authorization": authorization}, secret_of=secret_of, now=NOW)
    assert verdict is None


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"Authorization": "OSS testid"}, "InvalidArgument"),
        ({"Authorization": "OSS testid:abc"}, "AccessDenied"),
        ({"Authorization": "OSS testid:abc", "Date": "yesterday"}, "AccessDenied"),
        ({"Authorization": "OSS testid:äöü", "Date": "Fri, 21 Jul 2023 08:44:58 GMT"}, "SignatureDoesNotMatch"),
    ],
)
def test_malformed_v1_header_is_refused(headers, error):
    """Half a V1 header is refused in the vendor's words, never with an exception."""
    assert oss_v1.verify("GET", "b", "k", "", headers, secret_of=secret_of, now=NOW).error == error


@pytest.mark.parametrize(
    ("credential", "stamp", "error"),
    [
        ("testid", "20230721T084458Z", "InvalidArgument"),
        ("testid/20230721/cn-hangzhou/oss/aws4_request", "20230721T084458Z", "InvalidArgument"),
        ("testid/20230721/cn-hangzhou/oss/aliyun_v4_request", "20230722T084458Z", "InvalidArgument"),
        ("testid/20230721/cn-hangzhou/oss/aliyun_v4_request", "20230721", "AccessDenied"),
        ("testid/20230721/cn-hangzhou/oss/aliyun_v4_request", "20230721T084458Z", "SignatureDoesNotMatch"),
        ("testid/20230721/cn-beijing/oss/aliyun_v4_request", "20230721T084458Z", "InvalidArgument"),
    ],
)
def test_malformed_v4_header_is_refused(credential, stamp, error):
    """A V4 header with a wrong scope, date or region is refused in the vendor's words, never with an exception."""
    headers = {"Authorization": f"OSS4-HMAC-SHA256 Credential={credential}, Signature=00", "x-oss-date": stamp}
    verdict = oss_v4.verify("GET", "b", "k", "", headers, secret_of=secret_of, now=NOW, region="cn-hangzhou")
    assert verdict.error == error


@pytest.mark.parametrize("scheme", [oss_v1, oss_v4])
def test_bytes_that_are_no_text_are_refused(scheme):
    """Raw bytes in path, query or headers, as a server hands them on, are a wrong signature and no crash."""
    odd = b"\xff\xfe".decode(errors="surrogateescape")
    named = KEYS if scheme is oss_v1 else {**KEYS, "region": "cn-hangzhou"}
    added = scheme.sign("GET", "bkt", "a", {}, {}, now=NOW, **named)
    added["x-oss-meta-odd"] = odd
    added["Authorization"] += odd
    verdict = scheme.verify("GET", odd, odd, f"uploads={odd}&{odd}", added, secret_of=secret_of, now=NOW)
    assert verdict.error == "SignatureDoesNotMatch"


@pytest.mark.parametrize("expires", ["", "0", "-1", "604801", "x", "9" * 5000])
def test_v4_url_is_good_for_seven_days_at_most(expires):
    """A presigned V4 URL with an impossible life time is refused."""
    query = (
        "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date=20230721T084458Z&x-oss-signature=00"
        f"&x-oss-credential=testid%2F20230721%2Fcn%2Foss%2Faliyun_v4_request&x-oss-expires={expires}"
    )
    assert oss_v4.verify("GET", "b", "k", query, {}, secret_of=secret_of, now=NOW).error == "InvalidArgument"


def test_v1_signs_blank_sub_resources_by_name_alone():
    """`?uploads` is signed as `?uploads`, other parameters not at all, content headers in their lines."""
    headers = {"Content-Type": "text/plain", "Content-MD5": "md5==", "x-oss-meta-b": "2", "X-OSS-Meta-A": " 1 "}
    query = {"uploads": "", "prefix": "p", "acl": ""}
    added = oss_v1.sign("POST", "bkt", "k", query, headers, now=NOW, **KEYS)
    verdict = oss_v1.verify(
        "POST", "bkt", "k", "uploads&prefix=q&acl=", {**headers, **added}, secret_of=secret_of, now=NOW
    )
    assert verdict.error is None
    assert verdict.string_to_sign == (
        "POST\nmd5==\ntext/plain\nFri, 21 Jul 2023 08:44:58 GMT\nx-oss-meta-a:1\nx-oss-meta-b:2\n/bkt/k?acl&uploads"
    )


def test_v4_signs_named_headers_that_are_there():
    """Additional headers are signed when the request has them; a changed one is noticed."""
    headers = {"Host": "bkt.oss-cn-hangzhou.aliyuncs.com", "Range": "bytes=0-9"}
    names = ("Range", "host", "x-oss-date", "user-agent")
    added = oss_v4.sign("GET", "bkt", "k", {}, headers, region="cn-hangzhou", now=NOW, additional_headers=names, **KEYS)
    assert "AdditionalHeaders=host;range," in added["Authorization"]
    sent = {**headers, **added}
    assert oss_v4.verify("GET", "bkt", "k", "", sent, secret_of=secret_of, now=NOW).error is None
    sent["Range"] = "bytes=0-99"
    assert oss_v4.verify("GET", "bkt", "k", "", sent, secret_of=secret_of, now=NOW).error == "SignatureDoesNotMatch"
