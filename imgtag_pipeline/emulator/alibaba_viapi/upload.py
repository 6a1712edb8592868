"""The upload path of the vendor's SDKs: a one-time form for a temporary bucket, the bucket, and what lies in it."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import secrets
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Admission, Documented, Refused, WireReply, WireRequest, request_id
from imgtag_pipeline.emulator.multipart import form_fields

PREFIX: Final = "viapi-upload/"
_BUCKET: Final = "viapi-customer-temp"
_ENDPOINT: Final = "oss-cn-shanghai.aliyuncs.com"
_KEPT_SECONDS: Final = 3600.0
_TABLE: Final = (
    ("AccessDenied", 403, "Invalid according to Policy: Policy expired."),
    ("InvalidAccessKeyId", 403, "The OSS Access Key Id you provided does not exist in our records."),
    ("SignatureDoesNotMatch", 403, "The request signature we calculated does not match the signature you provided."),
    ("MalformedPOSTRequest", 400, "The body of your POST request is not well-formed multipart/form-data."),
    ("NoSuchKey", 404, "The specified key does not exist."),
    ("InternalError", 500, "We encountered an internal error. Please try again."),
    ("ServiceUnavailable", 503, "Please reduce your request rate."),
)


@dataclass(slots=True)
class _Form:
    """One authorised upload, good until `expires` (monotonic); `data` once it has happened."""

    secret: str
    policy: str
    expires: float
    data: bytes | None = None
    digest: str = ""


class Uploads:
    """The temporary bucket. It is found under any host, so that no name has to be resolved to reach it.

    A client that came to a loopback address is sent back there: the SDKs build the host as `<Bucket>.<Endpoint>`, so
    the bucket is "127" and the endpoint "0.0.1:8099".
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._forms: dict[str, _Form] = {}
        cloud.pictures.add_resolver(self.data_of)

    def authorize(self, host: str) -> dict[str, Any]:
        """The answer of AuthorizeFileUpload to a client that came to this host."""
        now = self._cloud.clock.monotonic()
        self._forget(now)
        key = f"{PREFIX}{secrets.token_hex(16)}"
        secret = secrets.token_hex(16)
        until = self._cloud.now() + timedelta(seconds=_KEPT_SECONDS)
        rules = {"expiration": until.strftime("%Y-%m-%dT%H:%M:%S.000Z"), "conditions": [["eq", "$key", key]]}
        policy = b64encode(json.dumps(rules).encode()).decode()
        self._forms[key] = _Form(secret, policy, now + _KEPT_SECONDS)
        bucket, endpoint = self._place(host)
        return {
            "AccessKeyId": f"TMP.{key.removeprefix(PREFIX)}",
            "Bucket": bucket,
            "EncodedPolicy": policy,
            "Endpoint": endpoint,
            "ObjectKey": key,
            "Signature": _signature(secret, policy),
            "UseAccelerate": False,
        }

    def put(self, fields: Mapping[str, bytes]) -> str:
        """Take an upload in; answers its key. Refuses a form that was not authorised like this."""
        text = {name: value.decode("utf-8", "replace") for name, value in fields.items() if name != "file"}
        key = text.get("key", "")
        form = self._forms.get(key)
        if "file" not in fields or not key:
            raise Refused("MalformedPOSTRequest")
        if form is None or text.get("OSSAccessKeyId") != f"TMP.{key.removeprefix(PREFIX)}":
            raise Refused("InvalidAccessKeyId")
        if self._cloud.clock.monotonic() >= form.expires:
            raise Refused("AccessDenied")
        expected = _signature(form.secret, text.get("policy", ""))
        if not hmac.compare_digest(expected.encode(), text.get("Signature", "").encode()):
            raise Refused("SignatureDoesNotMatch")
        if text["policy"] != form.policy:
            raise Refused("AccessDenied", "Invalid according to Policy.")
        form.data = fields["file"]
        form.digest = hashlib.sha256(form.data).hexdigest()
        return key

    def data_of(self, url: str) -> bytes | None:
        """The bytes uploaded under this URL, None when there are none."""
        form = self._form_of(url)
        return form.data if form else None

    def content_name(self, url: str) -> str | None:
        """The uploaded image by its content ("sha256:..."), so that the ledger knows it again under a new URL."""
        form = self._form_of(url)
        return f"sha256:{form.digest}" if form and form.digest else None

    def _form_of(self, url: str) -> _Form | None:
        if PREFIX not in url:
            return None
        form = self._forms.get(PREFIX + url.partition(PREFIX)[2])
        return form if form and self._cloud.clock.monotonic() < form.expires else None

    def _forget(self, now: float) -> None:
        for key in [key for key, form in self._forms.items() if form.expires <= now]:
            del self._forms[key]

    def _place(self, host: str) -> tuple[str, str]:
        own = urlsplit(self._cloud.url)
        if host.endswith(".aliyuncs.com") or not _is_ipv4(own.hostname or ""):
            return _BUCKET, _ENDPOINT
        bucket, _, rest = (own.hostname or "").partition(".")
        return bucket, f"{rest}:{own.port}"


class UploadBucket:
    """Family `viapi_upload`: the object storage that uploads are posted to; nothing here is billed or limited."""

    name = "viapi_upload"
    codes: Mapping[str, Documented] = {code: Documented(code, status, text) for code, status, text in _TABLE}
    common: Mapping[str, str] = {
        "throttle": "ServiceUnavailable",
        "arrears": "AccessDenied",
        "clock": "AccessDenied",
        "internal": "InternalError",
    }

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    def matches(self, request: WireRequest) -> bool:
        """A form posted to the root of any host that names one of our keys, or a look at an uploaded file."""
        if request.method == "POST":
            kind = request.headers.get("Content-Type", "")
            is_form = request.path in ("/", "") and kind.startswith("multipart/form-data")
            return is_form and PREFIX.encode() in request.body
        return request.method == "GET" and request.path.startswith("/" + PREFIX)

    def admit(self, request: WireRequest) -> Admission:
        """Everybody is let in; the form carries its own signature."""
        return Admission("", "PostObject" if request.method == "POST" else "GetObject", is_limited=False)

    async def answer(self, request: WireRequest, admission: Admission) -> WireReply:
        """Store the file, or give it back."""
        if admission.action == "GetObject":
            data = self._uploads.data_of(request.path)
            if data is None:
                raise Refused("NoSuchKey")
            return WireReply(200, data, "application/octet-stream", {"x-oss-request-id": request_id()})
        fields = form_fields(request.headers.get("Content-Type", ""), request.body)
        if fields is None:
            raise Refused("MalformedPOSTRequest")
        key = self._uploads.put(fields)
        bucket = escape(request.host.partition(".")[0])
        tag = hashlib.md5(fields["file"]).hexdigest().upper()
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>'
            f"<Bucket>{bucket}</Bucket><Location>http://{escape(request.authority)}/{escape(key)}</Location>"
            f'<Key>{escape(key)}</Key><ETag>"{tag}"</ETag></PostResponse>'
        )
        status = 201 if fields.get("success_action_status") == b"201" else 204
        return WireReply(status, body.encode() if status == 201 else b"", "application/xml", request_id=request_id())

    def refuse(self, request: WireRequest, refusal: Refused) -> WireReply:
        """The object storage's error document."""
        documented = self.codes.get(refusal.code) or Documented(refusal.code, 400, refusal.code)
        reply_id = request_id()
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{documented.code}</Code>'
            f"<Message>{escape(refusal.message or documented.message)}</Message><RequestId>{reply_id}</RequestId>"
            f"<HostId>{escape(request.authority)}</HostId></Error>"
        )
        return WireReply(documented.status, body.encode(), "application/xml", code=documented.code, request_id=reply_id)


def _signature(secret: str, policy: str) -> str:
    return b64encode(hmac.digest(secret.encode(), policy.encode(), "sha1")).decode()


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
