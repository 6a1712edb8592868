"""VIAPI imagerecog as a gateway: both signatures, twelve actions, polling, and the authorisation of uploads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from imgtag_pipeline.emulator.alibaba_viapi.actions import (
    ACTIONS,
    POLL,
    UPLOAD,
    UPLOAD_VERSION,
    VERSION,
    check_options,
    check_url,
)
from imgtag_pipeline.emulator.alibaba_viapi.answers import ANSWERS, logo_element, tag_info
from imgtag_pipeline.emulator.alibaba_viapi.auth import Asked, read, verify
from imgtag_pipeline.emulator.alibaba_viapi.codes import CODES, COMMON
from imgtag_pipeline.emulator.alibaba_viapi.jobs import Jobs, submitted_body
from imgtag_pipeline.emulator.alibaba_viapi.render import JSON_TYPE, XML_TYPE, as_json, as_xml, collapsed
from imgtag_pipeline.emulator.alibaba_viapi.upload import Uploads
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Admission, Documented, Refused, WireReply, WireRequest, request_id
from imgtag_pipeline.emulator.pictures import NotFetched
from imgtag_pipeline.emulator.vision import NotSeen, Sight
from imgtag_pipeline.urls import unsigned_url

_XML: Final = re.compile(r"(?i)(?:^|&)format=xml(?:&|$)")
_NOT_SEEN: Final = {
    "url": "InvalidImage.URL",
    "download": "InvalidImage.Download",
    "empty": "InvalidImage.Content",
    "content": "InvalidImage.Content",
    "decode": "InvalidImage.Decode",
    "pixels": "InvalidImage.Resolution",
}


class Viapi:
    """Family `viapi`; failed calls are not billed, and neither are polls and upload authorisations."""

    name = "viapi"
    codes: Mapping[str, Documented] = CODES
    common: Mapping[str, str] = COMMON

    def __init__(self, cloud: Cloud, uploads: Uploads) -> None:
        self._cloud = cloud
        self._uploads = uploads
        self._jobs = Jobs(cloud)

    def matches(self, request: WireRequest) -> bool:
        """An RPC request: path `/` and an action in query, header or form."""
        if request.path not in ("/", ""):
            return False
        if "x-acs-action" in request.headers or "Action=" in request.query:
            return True
        return request.method == "POST" and (request.body.startswith(b"Action=") or b"&Action=" in request.body)

    def admit(self, request: WireRequest) -> Admission:
        """Verify the signature and find out what is asked; wrong parameters are refused in `answer`."""
        asked = read(request)
        account = verify(self._cloud, request, asked)
        if request.method not in ("GET", "POST"):
            raise Refused("UnsupportedHTTPMethod")
        action = asked.action
        if action not in ACTIONS and action not in (POLL, UPLOAD):
            raise Refused("InvalidAction.NotFound")
        if asked.version != (UPLOAD_VERSION if action == UPLOAD else VERSION):
            raise Refused("UnsupportedOperation", f"The version {asked.version!r} of {action} is not supported.")
        if action not in ACTIONS:
            return Admission(account.name, action, is_limited=False, memo=asked)
        try:
            images = ACTIONS[action].images(asked.params)
        except Refused:
            images = ()
        return Admission(account.name, action, tuple(self._reference(url) for url in images), memo=asked)

    async def answer(self, request: WireRequest, admission: Admission) -> WireReply:
        """The answer to an admitted request."""
        asked: Asked = admission.memo
        if asked.action == POLL:
            job_id = asked.params.get("JobId", "")
            return self._reply(request, {"RequestId": request_id(), "Data": self._jobs.poll(job_id, admission.account)})
        if asked.action == UPLOAD:
            return self._reply(request, {"RequestId": request_id(), **self._uploads.authorize(request.host)})
        urls = ACTIONS[asked.action].images(asked.params)
        check_options(asked.action, asked.params)
        for url in urls:
            check_url(url, self._cloud.options, self._cloud.url)
        if asked.action == "TaggingAdImage":
            return await self._submit(request, urls[0], admission)
        body = self._fixed(urls[0], asked.action) or {"Data": await self._data(asked, urls)}
        return self._reply(request, {"RequestId": request_id(), **body}, is_billed=True)

    def refuse(self, request: WireRequest, refusal: Refused) -> WireReply:
        """The error document, as XML where XML was asked for."""
        documented = CODES.get(refusal.code) or Documented(refusal.code, 400, refusal.code)
        reply_id = request_id()
        body = {
            "RequestId": reply_id,
            "HostId": request.authority,
            "Code": documented.code,
            "Message": refusal.message or documented.message,
            "Recommend": f"https://next.api.aliyun.com/troubleshoot?q={documented.code}&product=imagerecog",
            **refusal.details,
        }
        is_xml = _XML.search(request.query) is not None
        headers = {"x-acs-request-id": reply_id}
        if refusal.retry_after:
            headers["x-acs-retry-after"] = str(refusal.retry_after)
        return WireReply(
            documented.status,
            as_xml("Error", body) if is_xml else as_json(body),
            XML_TYPE if is_xml else JSON_TYPE,
            headers,
            code=documented.code,
            request_id=reply_id,
        )

    def _reference(self, url: str) -> str:
        return self._uploads.content_name(url) or unsigned_url(url)

    def _fixed(self, url: str, action: str) -> dict[str, Any] | None:
        """The whole reply that a fixture prescribes, None when it prescribes none; refuses where it says so."""
        found = self._cloud.sights.fixture(url, action)
        if not isinstance(found, dict):
            return None
        if "error" in found:
            raise Refused(str(found["error"]))
        return found

    async def _data(self, asked: Asked, urls: tuple[str, ...]) -> dict[str, Any]:
        if asked.action != "RecognizeLogo":
            return ANSWERS[asked.action](await self._see(asked, urls[0]), asked.params)
        sights = [await self._see(asked, url) for url in urls]
        return {
            "Elements": [
                logo_element(sight, url, f"img{request_id()[:8]}-{at}")
                for at, (sight, url) in enumerate(zip(sights, urls, strict=True), start=1)
            ]
        }

    async def _see(self, asked: Asked, url: str) -> Sight:
        count = int(asked.params.get("ColorCount", "5")) if asked.action == "RecognizeImageColor" else 5
        try:
            sight = await self._cloud.sights.see(url, asked.action, color_count=count)
        except (NotFetched, NotSeen) as failure:
            raise Refused(_NOT_SEEN[failure.reason]) from None
        ACTIONS[asked.action].check(sight)
        return sight

    async def _submit(self, request: WireRequest, url: str, admission: Admission) -> WireReply:
        """Start a job; one that fails is not billed."""
        found, code = None, ""
        try:
            fixed = self._fixed(url, "TaggingAdImage")
            found = fixed or tag_info(await self._see(admission.memo, url))
        except Refused as refusal:
            code = refusal.code
        body = submitted_body(request_id())
        is_billed = self._jobs.submit(body["RequestId"], admission.account, found, code)
        return self._reply(request, body, is_billed=is_billed)

    def _reply(self, request: WireRequest, body: dict[str, Any], *, is_billed: bool = False) -> WireReply:
        reply_id = str(body["RequestId"])
        is_xml = "ormat=" in request.query and _XML.search(request.query) is not None
        if self._cloud.options.shape == "collapsed":
            body = collapsed(body)
        action = request.headers.get("x-acs-action", "") if is_xml else ""
        return WireReply(
            200,
            as_xml(f"{action or read(request).action}Response", body) if is_xml else as_json(body),
            XML_TYPE if is_xml else JSON_TYPE,
            {"x-acs-request-id": reply_id},
            request_id=reply_id,
            is_billed=is_billed,
        )
