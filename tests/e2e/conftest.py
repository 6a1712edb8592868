"""A small client for tests of the emulator: it signs as the manuals say, and shows what came back."""

from __future__ import annotations

import http.client
import io
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

import pytest
from PIL import Image

from imgtag_pipeline.core.signing import acs3, rpc, tencent


@dataclass
class Answer:
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The vendor's code, "ok" for a success."""
        found = self.json
        return str(found.get("Code") or found.get("code") or "ok")


class Client:
    """Calls one emulator; keyword arguments in lower case are about the call, those with capitals are parameters."""

    def __init__(self, url):
        self.url = url
        self.host = urlsplit(url).netloc
        self.most = None  # how many bytes of a body to read

    def send(self, method, target, body=b"", headers=None):
        connection = http.client.HTTPConnection(self.host, timeout=10)
        try:
            connection.request(method, target, body, headers or {})
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read(self.most))
        finally:
            connection.close()

    def viapi(
        self,
        action="TaggingImage",
        *,
        key="emulator",
        secret="emulator",
        token=None,
        now=None,
        nonce=None,
        scheme="rpc",
        version="2019-09-30",
        fmt="JSON",
        method="POST",
        fault=None,
        **params,
    ):
        arguments = {
            "access_key_id": key,
            "access_key_secret": secret,
            "security_token": token,
            "now": now or datetime.now(UTC),
            "nonce": nonce or secrets.token_hex(8),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if method == "POST" else {}
        if fault:
            headers["x-emulator-fault"] = fault
        body = urlencode(params).encode() if method == "POST" else b""
        query = {} if method == "POST" else params
        if scheme == "acs3":
            signed = acs3.sign(
                method, self.host, "/", query, headers, body, action=action, version=version, **arguments
            )
            return self.send(method, f"/?{urlencode(query)}" if query else "/", body, signed)
        query = {**query, "Action": action, "Version": version, "Format": fmt}
        query |= rpc.sign(method, {**params, **query}, **arguments)
        return self.send(method, "/?" + urlencode(query), body, headers)

    def tencent(self, version, fields, *, app_id="1000001", key="emulator", secret="emulator", now=None, **send):
        path = {"v1": "/v1/detection/imagetag_detect", "v2": "/imagetag/picture_classify"}[version]
        token = tencent.sign(app_id=app_id, secret_id=key, secret_key=secret, now=now or datetime.now(UTC), rand=1)
        headers = {"Authorization": token, "Content-Type": "application/json", **send.pop("headers", {})}
        body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        return self.send("POST", path, body, {name: value for name, value in headers.items() if value is not None})


def make_picture(width=320, height=200, kind="JPEG", mode="RGB"):
    file = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert(mode).save(file, kind)
    return file.getvalue()


@pytest.fixture
def client(emulator):
    """A client of this test's emulator."""
    return Client(emulator.url)


@pytest.fixture
def client_of():
    """Builds a client for an address."""
    return Client


@pytest.fixture
def picture():
    """Builds a small picture: `picture(width, height, kind, mode)`."""
    return make_picture
