"""Image processing on stored objects: `imm/tagimage` and `image/labels`, answered as OSS does, gzip and chunked.

Docs: the manual of imm/tagimage (seed 000) and https://help.aliyun.com/zh/oss/user-guide/image-labels (seed 003).
"""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import uuid4

from imgtag_pipeline.emulator.alibaba_oss.codes import documented
from imgtag_pipeline.emulator.alibaba_oss.objects import ObjectStore
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.alibaba_oss.read import facts
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Refused, WireReply, request_id
from imgtag_pipeline.emulator.vision import NotSeen, Sight
from imgtag_pipeline.emulator.vocabulary import COLORS, THINGS, chinese
from imgtag_pipeline.model import Tag

_MAX_BYTES: Final = 20 << 20
_MAX_SIDE: Final = 30_000
_MAX_PIXELS: Final = 250_000_000
_FORMATS: Final = frozenset({"JPEG", "PNG"})
_DEFAULT_THRESHOLD: Final = 70
_LABELS: Final = re.compile(r"image/labels(?:,thr_(?P<thr>[^,]*))?")
# What a word of the tagger belongs to, in the language of the answers; here the tree has two levels, OSS's has three.
_GROUPS: Final = {
    "animation": "动态",
    "aspect": "画幅",
    "colorfulness": "色彩",
    "contrast": "对比度",
    "orientation": "方向",
    "sharpness": "清晰度",
    "tone": "影调",
    "transparency": "透明度",
}
_PARENTS: Final = dict.fromkeys(COLORS, "颜色") | dict.fromkeys(THINGS, "事物")


@dataclass(frozen=True, slots=True)
class Process:
    """What an `x-oss-process` asks for; labels under `threshold` percent are left out."""

    action: Literal["tagimage", "labels"]
    threshold: int = 0


def read_process(text: str) -> Process:
    """The process of this text; raises InvalidArgument, or NotImplemented for one that is not played."""
    if text == "imm/tagimage":
        return Process("tagimage")
    found = _LABELS.fullmatch(text)
    if found is None:
        is_misspelt = text.startswith(("image/labels", "imm/tagimage"))
        details = {"ArgumentName": "x-oss-process", "ArgumentValue": text}
        raise Refused("InvalidArgument" if is_misspelt else "NotImplemented", details=details)
    threshold = found["thr"]
    if threshold is None:
        return Process("labels", _DEFAULT_THRESHOLD)
    if not re.fullmatch("[0-9]{1,3}", threshold) or int(threshold) > 100:
        raise Refused("InvalidArgument", details={"ArgumentName": "thr", "ArgumentValue": threshold})
    return Process("labels", int(threshold))


class Processing:
    """The two image operations on one store."""

    def __init__(self, cloud: Cloud, store: ObjectStore, options: OssOptions) -> None:
        self._cloud = cloud
        self._store = store
        self._options = options

    async def process(self, call: OssCall) -> WireReply:
        """The answer for one object: tags from its pixels, from a hash, or from a fixture."""
        asked = read_process(call.query["x-oss-process"])
        found = self._cloud.sights.fixture(call.address.reference, asked.action)
        if isinstance(found, dict) and "error" in found:
            raise Refused(str(found["error"]))
        if isinstance(found, dict):
            return self._reply(call, found)
        if isinstance(found, list) or self._cloud.options.is_synthetic:
            sight = await self._cloud.sights.see(call.address.reference, asked.action)
        else:
            sight = await self._see(call)
        tags = _ranked(sight)
        body = self._tagimage(call, tags) if asked.action == "tagimage" else self._labels(tags, sight, asked.threshold)
        return self._reply(call, body)

    async def _see(self, call: OssCall) -> Sight:
        data = self._store.read(call.bucket, call.key)
        if len(data) > _MAX_BYTES:
            raise Refused("ImageTooLarge")
        try:
            sight = await self._cloud.sights.see_bytes(data)
        except NotSeen as error:
            raise Refused("ImageTooLarge" if error.reason == "pixels" else "BadRequest") from None
        if sight.format not in _FORMATS:
            raise Refused("BadRequest")
        if max(sight.width, sight.height) > _MAX_SIDE or sight.width * sight.height > _MAX_PIXELS:
            raise Refused("ImageTooLarge")
        return sight

    def _labels(self, tags: list[Tag], sight: Sight, threshold: int) -> dict[str, Any]:
        labels = []
        for rank, tag in enumerate(tags):
            confidence = round(tag.confidence or 0.0, 3)
            if round(confidence * 100, 6) < threshold:
                continue
            label: dict[str, Any] = {
                "CentricScore": round(0.5 + (sight.seed >> rank) % 500 / 1000, 3),
                "LabelConfidence": confidence,
                "LabelLevel": tag.level or (2 if _parent(tag) else 1),
                "LabelName": chinese(tag.name),
                "Language": tag.language or "zh-Hans",
            }
            if parent := _parent(tag):
                label["ParentLabelName"] = parent
            labels.append(label)
        return {"Labels": self._listed(labels), "RequestId": request_id()}

    def _tagimage(self, call: OssCall, tags: list[Tag]) -> dict[str, Any]:
        found: list[dict[str, Any]] = []
        seen: dict[str, int] = {}
        for tag in tags:
            parent = _parent(tag)
            if parent and parent not in seen:  # parents are listed, before their first child, as sure as that
                seen[parent] = len(found) + 1
                found.append(self._tag(seen[parent], parent, tag, 1, "", 0))
            level = tag.level or (2 if parent else 1)
            found.append(self._tag(len(found) + 1, chinese(tag.name), tag, level, parent, seen.get(parent, 0)))
        return {
            "ImageUri": call.address.reference,
            "RequestId": uuid4().hex[:24].upper(),
            "Tags": self._listed(found),
            "httpStatusCode": 200,
            "success": True,
        }

    def _tag(self, number: int, name: str, tag: Tag, level: int, parent: str, parent_id: int) -> dict[str, Any]:
        confidence = tag.confidence or 0.0
        if self._options.tagimage_shape == "table":
            family = {"ParentTagId": str(parent_id), "ParentTagName": parent}
            named = {"TagId": str(number), "TagLevel": str(level), "TagName": name}
            return {**named, **family, "TagScore": str(confidence)}
        family = {"ParentTagName": parent} if parent else {}
        return {**family, "TagConfidence": confidence, "TagLevel": level, "TagName": name}

    def _listed(self, items: list[dict[str, Any]]) -> Any:
        return items[0] if len(items) == 1 and self._cloud.options.shape == "collapsed" else items

    def _reply(self, call: OssCall, body: dict[str, Any]) -> WireReply:
        # Checksum and date are the object's, not this body's; the body is gzip whether or not that was asked for.
        about = facts(self._store.stored(call.bucket, call.key)) if self._store.has(call.bucket, call.key) else {}
        headers = {
            **about,
            "Vary": "Accept-Encoding",
            "Content-Disposition": "attachment",
            "x-oss-force-download": "true",
            "x-oss-ec": "0048-00000104",
            "Content-Encoding": "gzip",
        }
        text = json.dumps(body, ensure_ascii=False).encode()
        return WireReply(200, gzip.compress(text, mtime=0), headers=headers, is_billed=True, is_chunked=True)


def _ranked(sight: Sight) -> list[Tag]:
    colors = [Tag(tag.name, confidence=tag.measure, extra=tag.extra) for tag in sight.colors]
    return sorted((*sight.tags, *colors), key=lambda tag: -(tag.confidence or 0.0))


def _parent(tag: Tag) -> str:
    if tag.parent:
        return _GROUPS.get(tag.parent, tag.parent)
    return "" if tag.level == 1 else _PARENTS.get(tag.name, "")


def is_billed(code: str) -> bool:
    """Whether IMM bills a processing request that ended with this code: 4xx yes, 5xx no (IMM's billing overview)."""
    status = documented(code).status
    return status == 200 or 400 <= status < 500
