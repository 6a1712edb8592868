"""Aliyun RPC, ACS3 and the Tencent token against the signatures that the vendors' SDKs computed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from imgtag_pipeline.core.signing import acs3, rpc, tencent

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "signatures.json").read_text())["vectors"]


def vectors(scheme, sdk=""):
    chosen = [vector for vector in VECTORS if vector["scheme"] == scheme and sdk in vector["sdk"]["name"]]
    return pytest.mark.parametrize("vector", chosen, ids=[vector["id"] for vector in chosen])


def moment(text):
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def arguments(inputs):
    return {
        "access_key_id": inputs["access_key_id"],
        "access_key_secret": inputs["access_key_secret"],
        "security_token": inputs["security_token"],
        "now": moment(inputs["timestamp"]),
        "nonce": inputs["nonce"],
    }


# What `sign` adds by itself; whatever else the SDK signed is handed in.
COMMON = ("AccessKeyId", "SignatureMethod", "SignatureNonce", "SignatureVersion", "Timestamp", "SecurityToken")


def wire_parameters(request):
    """The decoded parameters of query and body, as a gateway finds them."""
    found = dict(request["query"])
    if "target" in request:
        found = dict(parse_qsl(request["target"].partition("?")[2], keep_blank_values=True))
    found |= dict(parse_qsl(request.get("body") or "", keep_blank_values=True))
    return found | request.get("body_params", {})


@vectors("aliyun-rpc-hmac-sha1")
def test_rpc_signs_as_the_sdk(vector):
    """The string to sign and the signature are those of the SDK, common parameters included."""
    inputs = vector["inputs"]
    handed = {name: value for name, value in inputs["signed_params"].items() if name not in COMMON}
    added = rpc.sign(inputs["method"], handed, **arguments(inputs))
    assert rpc.string_to_sign(inputs["method"], {**handed, **added}) == vector["string_to_sign"]
    assert added["Signature"] == vector["signature"]
    assert {**handed, **added} == {**inputs["signed_params"], "Signature": vector["signature"]}


@vectors("aliyun-rpc-hmac-sha1")
def test_rpc_verifies_the_wire(vector):
    """The request as the SDK sent it is accepted; with another secret, method or value it is not."""
    method, secret = vector["inputs"]["method"], vector["inputs"]["access_key_secret"]
    received = wire_parameters(vector["request"])
    assert rpc.verify(method, received, secret)
    assert not rpc.verify(method, received, secret + "x")
    assert not rpc.verify("GET" if method == "POST" else "POST", received, secret)
    assert not rpc.verify(method, {**received, "Action": "Other"}, secret)
    assert not rpc.verify(method, {**received, "Signature": ""}, secret)


def test_rpc_signs_blank_values():
    """A parameter without a value is part of what is signed."""
    signed = rpc.string_to_sign("GET", {"Action": "A", "SignatureType": ""})
    assert signed == "GET&%2F&Action%3DA%26SignatureType%3D"


ACS3_OWN = ("authorization", "host")


@vectors("aliyun-acs3-hmac-sha256")
def test_acs3_signs_as_the_sdk(vector):
    """Canonical request, string to sign and Authorization are those of the SDK."""
    inputs, request = vector["inputs"], vector["request"]
    body = (request["body"] or "").encode()
    sent = {name.lower(): value for name, value in request["headers"].items()}
    handed = {
        name: value
        for name, value in sent.items()
        if name not in ACS3_OWN and (not name.startswith("x-acs-") or name == "x-acs-credentials-provider")
    }
    headers = acs3.sign(
        inputs["method"],
        inputs["host"],
        request["path"],
        request["query"],
        handed,
        body,
        action=inputs["action"],
        version=inputs["version"],
        **arguments(inputs),
    )
    assert headers == {**sent, "authorization": vector["authorization"]}
    parts = acs3.parse(headers["authorization"])
    canonical = acs3.received_canonical_request(
        inputs["method"], request["path"], request["query"], headers, parts.signed_headers
    )
    assert canonical == vector["canonical_request"]
    assert acs3.string_to_sign(canonical) == vector["string_to_sign"]


@vectors("aliyun-acs3-hmac-sha256")
def test_acs3_verifies_the_wire(vector):
    """The request as the SDK sent it is accepted; a changed secret, body, query or signed header is not."""
    inputs, request = vector["inputs"], vector["request"]
    body = (request["body"] or "").encode()
    headers = {name.lower(): value for name, value in request["headers"].items()}
    secret = inputs["access_key_secret"]

    def verify(query=request["query"], headers=headers, body=body, secret=secret):
        return acs3.verify(inputs["method"], request["path"], query, headers, body, secret)

    assert verify()
    assert not verify(secret="other")
    assert not verify(body=body + b"&x=1")
    assert not verify(query={**request["query"], "x": "1"})
    assert not verify(headers={**headers, "x-acs-action": "Other"})
    assert verify(headers={**headers, "x-forwarded-for": "10.0.0.1"})


@pytest.mark.parametrize("header", ["", "Basic abc", "ACS3-HMAC-SHA256 Credential=a,Signature=b", "ACS3-HMAC-SHA256"])
def test_acs3_refuses_an_incomplete_header(header):
    """An Authorization of another scheme, or with a part missing, verifies nothing."""
    assert acs3.parse(header) is None
    assert not acs3.verify("POST", "/", {}, {"authorization": header}, b"", "secret")


@vectors("tencent-hmac-sha1")
def test_tencent_token_as_the_sdk(vector):
    """The token over the SDK's text is the SDK's token, and it verifies on the bytes as received."""
    secret = vector["inputs"]["secret_key"]
    assert tencent.token(vector["string_to_sign"], secret) == vector["signature"]
    received = tencent.parse(vector["signature"])
    assert tencent.verify(received, secret)
    assert not tencent.verify(received, secret + "x")
    assert received.app_id == vector["inputs"]["appid"]
    assert received.secret_id == vector["inputs"]["secret_id"]
    assert received.expires_at == vector["inputs"]["expired_time"]


@vectors("tencent-hmac-sha1", sdk="qcloud_image")
def test_tencent_signs_as_qcloud_image(vector):
    """Time, expiry and random number handed in give the token of the current SDK's field order."""
    inputs = vector["inputs"]
    signed = tencent.sign(
        app_id=inputs["appid"],
        secret_id=inputs["secret_id"],
        secret_key=inputs["secret_key"],
        bucket=inputs["bucket"],
        now=datetime.fromtimestamp(inputs["current_time"], UTC),
        rand=inputs["rand"],
        expires_in=inputs["expired_time"] - inputs["current_time"],
    )
    assert signed == vector["signature"]


@pytest.mark.parametrize("received", ["", "not base64!", "QUJD", "Bearer abc", "BJYp/me6L601oiQth3SD/sG94tQ="])
def test_tencent_refuses_what_is_no_token(received):
    """Text that is not base64, or holds nothing after the digest, is no token."""
    assert tencent.parse(received) is None
