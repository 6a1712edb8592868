"""The OSS gateway of the emulator, asked with our own signatures and without a socket."""

import gzip
import io
import json
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

import pytest
from multidict import CIMultiDict
from PIL import Image

from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.core.signing import oss_v1, oss_v4
from imgtag_pipeline.emulator.alibaba_oss.gateway import OssGateway
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Refused, WireReply, WireRequest
from imgtag_pipeline.emulator.ledger import Ledger
from imgtag_pipeline.emulator.options import EmulatorOptions

NOW = datetime(2023, 7, 21, 8, 44, 58, tzinfo=UTC)
KEYS = {"access_key_id": "emulator", "access_key_secret": "emulator", "security_token": None, "now": NOW}
DOMAINS = {"img.example.com": "bkt"}
VHOST = "bkt.oss-cn-hangzhou.aliyuncs.com"


class StoppedClock(SystemClock):
    """Always the same moment."""

    def now(self) -> datetime:
        return NOW


def gateway(**options) -> OssGateway:
    cloud = Cloud(EmulatorOptions(**options), StoppedClock(), Ledger())
    return OssGateway(cloud, OssOptions(domains=DOMAINS))


def signed(method, key, query=None, body=b"", *, host="127.0.0.1", scheme=oss_v4, presigned=False) -> WireRequest:
    """A request for a key of the bucket `bkt`, signed with our own functions."""
    query, headers = dict(query or {}), {"Host": host}
    named = KEYS if scheme is oss_v1 else {**KEYS, "region": "cn-hangzhou"}
    if presigned:
        query |= scheme.presign(method, "bkt", key, query, headers, expires_in=60, **named)
    else:
        headers |= scheme.sign(method, "bkt", key, query, headers, **named)
    path = "/" + quote(key if "." in host and not host[0].isdigit() else f"bkt/{key}", safe="")
    path = path.replace("bkt%2F", "bkt/", 1)
    return WireRequest(method, path, urlencode(query), CIMultiDict(headers), body, 0.0, host, host)


async def ask(oss: OssGateway, request: WireRequest) -> WireReply:
    """As the core does it: admit, answer, or word the refusal."""
    assert oss.matches(request)
    try:
        return await oss.answer(request, oss.admit(request))
    except Refused as refusal:
        return oss.refuse(request, refusal)


def picture(kind="JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (60, 40), "red").save(file, kind)
    return file.getvalue()


def told(reply: WireReply) -> dict:
    return json.loads(gzip.decompress(reply.body))


@pytest.mark.parametrize("presigned", [False, True])
@pytest.mark.parametrize("scheme", [oss_v1, oss_v4])
@pytest.mark.parametrize("host", ["127.0.0.1", VHOST, "img.example.com"])
async def test_every_signature_in_every_style(host, scheme, presigned):
    """Put, get and tag an object by header and by presigned URL, wherever the bucket is named."""
    oss, how = gateway(), {"host": host, "scheme": scheme, "presigned": presigned}
    key = "相册/夜景 1+.jpg"
    assert (await ask(oss, signed("PUT", key, body=picture(), **how))).code == "ok"
    assert (await ask(oss, signed("GET", key, **how))).body == picture()
    reply = await ask(oss, signed("GET", key, {"x-oss-process": "imm/tagimage"}, **how))
    assert (reply.code, reply.is_billed, reply.is_chunked) == ("ok", True, True)
    assert "红色" in {tag["TagName"] for tag in told(reply)["Tags"]}
    assert oss.resolve(f"oss://bkt/{key}") == oss.resolve(f"https://{VHOST}/{quote(key)}?x=1") == picture()


async def test_threshold_leaves_out_what_is_below_it():
    """Labels under the threshold are left out, those at it stay; without one it is 70."""
    oss = gateway(is_synthetic=True)

    async def confidences(process: str) -> list[float]:
        reply = await ask(oss, signed("GET", "any.jpg", {"x-oss-process": process}))
        return [label["LabelConfidence"] for label in told(reply)["Labels"]]

    everything = await confidences("image/labels,thr_0")
    assert everything == sorted(everything, reverse=True)
    for threshold in (1, 50, 70, 100):
        kept = [confidence for confidence in everything if round(confidence * 100, 6) >= threshold]
        assert await confidences(f"image/labels,thr_{threshold}") == kept
    assert await confidences("image/labels") == await confidences("image/labels,thr_70")


async def test_answers_are_the_same_each_time():
    """The same object has the same tags, by pixels and by hash."""
    for options in ({}, {"is_synthetic": True}):
        oss = gateway(**options)
        await ask(oss, signed("PUT", "a.jpg", body=picture()))
        first, second = [
            told(await ask(oss, signed("GET", "a.jpg", {"x-oss-process": "imm/tagimage"})))["Tags"] for _ in range(2)
        ]
        assert first == second
        assert first


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "BMP"])
async def test_other_formats_are_refused_and_billed(kind):
    """Only JPEG and PNG are tagged; the refusal costs as much as an answer."""
    oss = gateway()
    await ask(oss, signed("PUT", "a.jpg", body=picture(kind)))
    reply = await ask(oss, signed("GET", "a.jpg", {"x-oss-process": "image/labels"}))
    assert (reply.status, reply.code, reply.is_billed) == (400, "BadRequest", True)


async def test_nobody_without_a_name_is_let_in_or_billed():
    """An unsigned request is refused in XML, also for an object that exists; nobody pays."""
    oss = gateway()
    await ask(oss, signed("PUT", "a.jpg", body=picture()))
    for query in ("", "x-oss-process=imm%2Ftagimage"):
        request = WireRequest("GET", "/bkt/a.jpg", query, CIMultiDict(), b"", 0.0, "127.0.0.1", "127.0.0.1:8099")
        reply = await ask(oss, request)
        assert (reply.status, reply.code, reply.is_billed) == (403, "AccessDenied", False)
        assert b"<Code>AccessDenied</Code>" in reply.body


def test_other_gateways_requests_are_left_to_them():
    """Requests of the other vendors are not object storage."""
    for method, path, host in (
        ("POST", "/", "imagerecog.cn-shanghai.aliyuncs.com"),
        ("POST", "/v1/detection/imagetag_detect", "service.image.myqcloud.com"),
        ("GET", "/", "127.0.0.1"),
    ):
        request = WireRequest(method, path, "", CIMultiDict(), b"", 0.0, host, host)
        assert not gateway().matches(request)
