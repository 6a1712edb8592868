"""Tencent's image tagging as a gateway, V1 (imagetag_detect) and V2 (picture_classify), behind one token."""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from imgtag_pipeline.core.signing import tencent
from imgtag_pipeline.emulator.alibaba_viapi.answers import general_tags
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Admission, Documented, Refused, WireReply, WireRequest, request_id
from imgtag_pipeline.emulator.multipart import form_fields
from imgtag_pipeline.emulator.options import Account
from imgtag_pipeline.emulator.pictures import NotFetched
from imgtag_pipeline.emulator.tencent_image.codes import COMMON, V1_CODES, V2_CODES
from imgtag_pipeline.emulator.vision import NotSeen, Sight
from imgtag_pipeline.emulator.vocabulary import chinese, english_label
from imgtag_pipeline.urls import unsigned_url

MAX_BODY: Final = 6 << 20
_MAX_URL: Final = 2048
_LONGEST_TOKEN: Final = 92 * 86_400  # three months
_V1_FORMATS: Final = frozenset(("JPEG", "PNG", "BMP"))
_NOT_SEEN: Final = {
    "url": "-1505",
    "download": "-1308",
    "empty": "-1300",
    "content": "-1400",
    "decode": "-1102",
    "pixels": "-1404",
}
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class _Asked:
    url: str = field(default="", repr=False)
    image: bytes = field(default=b"", repr=False)


class Tencent:
    """Family `tencent_v1` or `tencent_v2`.

    Answers, and errors about an image (negative codes), are billed; errors about request or account are not.
    """

    common: Mapping[str, str] = COMMON

    def __init__(self, cloud: Cloud, version: Literal["v1", "v2"]) -> None:
        self._cloud = cloud
        self._is_v1 = version == "v1"
        self._path = "/v1/detection/imagetag_detect" if self._is_v1 else "/imagetag/picture_classify"
        self._action = self._path.rpartition("/")[2]
        self._app_id_names = ("appid",) if self._is_v1 else ("app_id", "App_ID")
        self.name = f"tencent_{version}"
        self.codes: Mapping[str, Documented] = V1_CODES if self._is_v1 else V2_CODES

    def matches(self, request: WireRequest) -> bool:
        """By the path alone, whatever the host."""
        return request.path == self._path

    def admit(self, request: WireRequest) -> Admission:
        """Verify the token on its bytes as received, and read the image from JSON or form."""
        self._check_frame(request)
        token, account = self._verify(request.headers.get("Authorization", ""))
        fields = self._fields(request)
        app_id = next((str(fields[name]) for name in self._app_id_names if fields.get(name)), "")
        if not app_id:
            raise Refused("-1301", f"{self._app_id_names[0]} is empty")
        if app_id != token.app_id:
            raise Refused("6")
        asked = _read_image(fields)
        name = unsigned_url(asked.url) if asked.url else f"sha256:{hashlib.sha256(asked.image).hexdigest()}"
        return Admission(account.name, self._action, (name,), memo=asked)

    async def answer(self, request: WireRequest, admission: Admission) -> WireReply:
        """The labels of the image."""
        asked: _Asked = admission.memo
        fixed = self._cloud.sights.fixture(asked.url, self._action) if asked.url else None
        if isinstance(fixed, dict):
            if "error" in fixed:
                raise Refused(str(fixed["error"]))
            body: Any = fixed
        else:
            body = self._body(await self._see(asked))
        return WireReply(200, _encode(body), "application/json", request_id=request_id(), is_billed=True)

    def refuse(self, request: WireRequest, refusal: Refused) -> WireReply:
        """`code` and `message` under HTTP 200; V2 answers a bad token with HTTP 401 or 403."""
        code = refusal.code
        documented = self.codes.get(code) or Documented(code, 200, "unknown error")
        if code.startswith("HTTP"):
            return WireReply(documented.status, content_type="text/html", code=code)
        status = documented.status
        if not self._is_v1 and code in ("4", "5", "6", "9", "10", "11", "12", "13", "14"):
            status = 401 if code == "4" else 403
        number = int(code) if code.lstrip("-").isdigit() else -1
        body = _encode({"code": number, "message": refusal.message or documented.message})
        is_billed = number < 0
        return WireReply(status, body, "application/json", code=code, request_id=request_id(), is_billed=is_billed)

    def _check_frame(self, request: WireRequest) -> None:
        if request.method != "POST":
            raise Refused("3" if self._is_v1 else "HTTP400", "the method must be POST")
        if not self._is_v1 and "Content-Length" not in request.headers:
            raise Refused("HTTP411")
        if len(request.body) > MAX_BODY:
            raise Refused("23" if self._is_v1 else "HTTP413")

    def _verify(self, received: str) -> tuple[tencent.Token, Account]:
        if not received:
            raise Refused("4")
        token = tencent.parse(received)
        if token is None or not token.expires_at:
            raise Refused("5")
        account = self._cloud.account(token.secret_id)
        if account is None:
            raise Refused("11")
        if token.app_id != account.app_id:
            raise Refused("12" if any(a.app_id == token.app_id for a in self._cloud.options.accounts) else "10")
        if not tencent.verify(token, account.secret):
            raise Refused("14")
        now = self._cloud.now().timestamp()
        if token.expires_at < now:
            raise Refused("9")
        if token.expires_at > now + _LONGEST_TOKEN:
            raise Refused("5", "the signature is valid for too long")
        if account.refusal in self.codes:
            raise Refused(account.refusal or "")
        return token, account

    def _fields(self, request: WireRequest) -> Mapping[str, Any]:
        """The fields of a form, or of JSON under any Content-Type (the vendor's SDK sends none for bytes)."""
        kind = request.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            form = form_fields(kind, request.body)
            if form is not None:
                return {
                    name: value if name == "image" else value.decode("utf-8", "replace") for name, value in form.items()
                }
        else:
            try:
                found = msgspec.json.decode(request.body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                found = None
            if isinstance(found, dict):
                return found
        raise Refused("3" if self._is_v1 else "HTTP400", "the body is malformed")

    async def _see(self, asked: _Asked) -> Sight:
        try:
            if asked.url:
                sight = await self._cloud.sights.see(asked.url, self._action)
            else:
                sight = await self._cloud.sights.see_bytes(asked.image)
        except (NotFetched, NotSeen) as failure:
            code = _NOT_SEEN[failure.reason]
            raise Refused("-1102" if code == "-1400" and not self._is_v1 else code) from None
        if self._is_v1 and sight.format not in _V1_FORMATS:
            raise Refused("-1400")
        return sight

    def _body(self, sight: Sight) -> dict[str, Any]:
        tags = general_tags(sight)
        if self._is_v1:  # not sorted, as in the manual's example
            shown = [{"tag_name": chinese(t.name), "tag_confidence": round(100 * (t.confidence or 0))} for t in tags]
            return {"code": 0, "message": "success", "tags": shown[1::2] + shown[::2]}
        items = [{"label_name": english_label(t.name), "probability": t.confidence} for t in tags]
        if self._cloud.options.shape == "collapsed":  # as the field table words it
            items = [{"level_name": item["label_name"], "probability": item["probability"]} for item in items]
            return {"code": 0, "message": "ok", "data": {"items": items}}
        return {"code": 0, "message": "ok", "data": [{"items": items}]}


def _read_image(fields: Mapping[str, Any]) -> _Asked:
    """The image of a request; a URL wins over bytes."""
    url, image = fields.get("url"), fields.get("image")
    if url:
        return _Asked(url=_checked_url(url))
    if image is None:
        raise Refused("-1301", "url and image are both empty")
    if not isinstance(image, (str, bytes)):
        raise Refused("21")
    if not image:
        raise Refused("-1300")
    if isinstance(image, bytes):
        return _Asked(image=image)
    try:
        return _Asked(image=b64decode(image, validate=True))
    except (binascii.Error, ValueError):
        raise Refused("-1102", "the image is not base64") from None


def _checked_url(url: Any) -> str:
    if not isinstance(url, str):
        raise Refused("21")
    if len(url) > _MAX_URL:
        raise Refused("-1304")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Refused("-1505") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Refused("-1505")
    return url
