"""The vendors' recorded replies, each through its provider: the expected tags, or the right class of error.

`replies/<provider>/` holds the bodies with an index of HTTP status and content type; `golden/<provider>.json` what they
come to. `python tests/conformance/test_replies.py` writes the golden tables anew, to be read before they are committed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imgtag_pipeline.errors import CallError, PermanentError
from imgtag_pipeline.model import Answer, Call, Image, Job, Reply
from imgtag_pipeline.providers import Keys, Provider, get
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS

HERE = Path(__file__).parent
FOLDERS = sorted(folder.name for folder in (HERE / "replies").iterdir())
KEYS = Keys("key-id", "secret", app_id="1000001")
JOB_ID = "72CFDC08-3FEF-56AA-91E5-B14DE31C09C2"
IMAGE = {"oss_labels": "oss://image-demo/example.jpg", "oss_tagimage": "oss://image-demo/example.jpg"}
NO_REPLIES = {"oss_image_labels.headers.txt", "tencent_v2_request_example.json"}


def index(folder: str) -> dict[str, Any]:
    return json.loads((HERE / "replies" / folder / "index.json").read_text())


CASES = [(folder, name) for folder in FOLDERS for name in index(folder) if name not in NO_REPLIES]


def provider_for(folder: str, name: str) -> Provider:
    """The provider that would get this reply; errors of VIAPI come to TaggingImage."""
    if folder != "viapi":
        options = {"region": "cn-hangzhou"} if folder.startswith("oss") else {}
        return get(folder, credentials=KEYS, **options)
    action = name.removeprefix("viapi_").split(".")[0].split("_")[0]
    if action == "GetAsyncJobResult":
        action = "TaggingAdImage"
    address = f"viapi/{action if action in ACTIONS else 'TaggingImage'}"
    options = {"certificate_type": "IDCard"} if action == "EvaluateCertificateQuality" else {}
    return get(address, credentials=KEYS, **options)


def reply_of(folder: str, name: str) -> Reply:
    facts = index(folder)[name]
    headers = {"content-type": facts["content_type"]}
    return Reply(facts["http_status"], headers, (HERE / "replies" / folder / name).read_bytes())


def come_to(provider: Provider, name: str, reply: Reply) -> dict[str, Any]:
    """What one reply comes to: tags, an error, or the next call."""
    image = Image("key", IMAGE.get(provider.address, "https://bucket.oss-cn-shanghai.aliyuncs.com/a.jpg"))
    is_poll = "GetAsyncJobResult" in name
    jobs = {"key": Job(JOB_ID, datetime(2023, 7, 21, tzinfo=UTC))} if is_poll else {}
    exchange = provider.exchange([image], jobs)
    call = next(exchange)
    assert isinstance(call, Call)
    try:
        provider.check(call, reply)
        step = exchange.send(reply)
    except CallError as error:
        return {
            "error": type(error).__name__,
            "code": error.code,
            "request_id": error.request_id,
            "billing": error.billing,
            "max_attempts": error.max_attempts,
        }
    except StopIteration as done:
        (answer,) = done.value
        if isinstance(answer, PermanentError):
            return {"failed": answer.code, "request_id": answer.request_id, "billing": answer.billing}
        assert isinstance(answer, Answer)
        return {"request_id": answer.request_id, "tags": [told(tag) for tag in answer.tags]}
    return {"next": step.operation if isinstance(step, Call) else type(step).__name__}


def told(tag: Any) -> dict[str, Any]:
    """The tag's fields that say something."""
    return {name: value for name, value in asdict(tag).items() if value is not None and value != {}}


def golden(folder: str) -> dict[str, Any]:
    return json.loads((HERE / "golden" / f"{folder}.json").read_text())


@pytest.mark.parametrize(("folder", "name"), CASES, ids=[name for _, name in CASES])
def test_recorded_reply_comes_to_its_golden_rows(folder, name):
    """Every recorded reply gives the tags or the error that the golden table has."""
    assert come_to(provider_for(folder, name), name, reply_of(folder, name)) == golden(folder)[name]


def test_all_recorded_files_are_used():
    """All 95 files are here: 93 replies, one request, one set of headers."""
    names = {name for folder in FOLDERS for name in index(folder)}
    assert len(names) == 95
    assert names == {name for _, name in CASES} | NO_REPLIES
    for folder in FOLDERS:
        assert set(golden(folder)) == set(index(folder)) - NO_REPLIES


def test_headers_of_a_labels_reply_give_the_storage_request_id():
    """An OSS answer has two request ids, of the processing and of the storage; both are kept."""
    lines = (HERE / "replies/oss_labels/oss_image_labels.headers.txt").read_text().splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    reply = reply_of("oss_labels", "oss_image_labels.json")
    found = come_to(provider_for("oss_labels", ""), "", Reply(200, headers, reply.body))
    assert found["request_id"] == "0EC0B6EC-EB16-5EF4-812B-EF3A60C7D20D 64BA42225DFDD13437ECD00E"


def test_request_of_tencent_v2_has_the_fields_of_the_example():
    """The bytes of an image are sent under the names of the manual's example."""
    example = json.loads((HERE / "replies/tencent_v2/tencent_v2_request_example.json").read_text())
    provider = get("tencent_v2", credentials=KEYS, image_mode="bytes")
    exchange = provider.exchange([Image("key", "a.png")], {})
    next(exchange)
    call = exchange.send(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\x40" * 2)
    for field in example:
        assert f'name="{field}"'.encode() in call.request.body
    assert b"1000001" in call.request.body


def test_xml_and_json_of_an_action_say_the_same():
    """Where a reply is recorded in both forms, both give the same tags."""
    rows = golden("viapi")
    pairs = [(name, name.replace(".json", ".xml")) for name in rows if name.replace(".json", ".xml") in rows]
    both = [(rows[json_name], rows[xml_name]) for json_name, xml_name in pairs if json_name.endswith(".json")]
    assert len(both) == 14
    assert [one["tags"] for one, _ in both if "tags" in one] == [other["tags"] for _, other in both if "tags" in other]


if __name__ == "__main__":
    (HERE / "golden").mkdir(exist_ok=True)
    for folder in FOLDERS:
        table = {
            name: come_to(provider_for(folder, name), name, reply_of(folder, name))
            for name in index(folder)
            if name not in NO_REPLIES
        }
        (HERE / "golden" / f"{folder}.json").write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
