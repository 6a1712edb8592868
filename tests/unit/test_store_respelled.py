"""A store that was written before references were normalised opens, and costs nothing, however they are spelled now."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.model import Outcome, Tag
from imgtag_pipeline.providers import Keys, Local, OssLabels, Viapi

MADE = Path(__file__).parents[1] / "data" / "store_before_14"
KEYS = Keys("emulator", "emulator", app_id="1000001")
NOWHERE = "http://127.0.0.1:9"  # nobody listens: a call would fail its row
SIGNED = "Expires=1800000007&OSSAccessKeyId=LTAI5tExampleKeyId0002&Signature=c%2Fsm7Xk0mOY4m5W1cbJx0Z0Fp1c%3D"
VIAPI = Viapi(action="TaggingImage", endpoint=NOWHERE, image_hosts="any", credentials=KEYS)
LOCAL = Local(objects=False)
LABELS = OssLabels(endpoint=NOWHERE, region="cn-hangzhou", credentials=KEYS)
H = "https://img.example.com/"
WRITTEN = [
    *(
        "https://Img.Example.com/图.jpg",
        H + "a b.jpg",
        H + "%e5%9b%be/lower.jpg",
        "https://img.example.com:443/port.jpg",
    ),
    *(H + "page.jpg#top", H + "x/../dots.jpg", H + "empty.jpg?", H + "50%off.jpg", H + "%7Etilde.jpg?q=%7e"),
    *("https://b.oss-cn-shanghai.aliyuncs.com/signed.jpg", "https://b.oss-cn-shanghai.aliyuncs.com/inner.jpg"),
    *(H + "unsealed 图.jpg", "HTTPS://img.example.com/unsealed2.jpg"),
]
OTHERWISE = [
    *(H + "%E5%9B%BE.jpg", H + "a%20b.jpg", H + "图/lower.jpg", H + "port.jpg", H + "page.jpg#end", H + "dots.jpg"),
    *(H + "empty.jpg", H + "50%25off.jpg", H + "~tilde.jpg?q=~"),
    *(
        f"https://b.oss-cn-shanghai.aliyuncs.com/signed.jpg?{SIGNED}",
        "https://B.oss-cn-shanghai.aliyuncs.com/inner.jpg#",
    ),
    *(H + "unsealed%20%E5%9B%BE.jpg", H + "unsealed2.jpg?"),
]
OBJECTS = [
    "oss://pictures/a b.jpg",
    *(f"https://pictures.oss-cn-hangzhou.aliyuncs.com/{name}" for name in ("%e5%9b%be.jpg",)),
]
OBJECTS_OTHERWISE = [
    *("https://pictures.oss-cn-hangzhou.aliyuncs.com/a%20b.jpg", "oss://pictures/图.jpg", "oss://pictures/inner.jpg"),
    *(f"https://pictures.oss-accelerate.aliyuncs.com/inner.jpg?{SIGNED}", "oss://pictures/small.jpg"),
    "https://oss-cn-hangzhou.aliyuncs.com/pictures/small.jpg?x-oss-process=style/other",
]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy, with this folder as the working one and the picture as old as it was."""
    shutil.copytree(MADE, tmp_path / "made")
    os.utime(tmp_path / "made" / "pictures" / "red.png", (1_700_000_000, 1_700_000_000))
    monkeypatch.chdir(tmp_path / "made")
    return tmp_path / "made"


def labelled(urls: list[str], made: Path, **words: object) -> pd.DataFrame:
    return imgtag.label(pd.DataFrame({"url": urls}), checkpoint=str(made / "store"), progress=False, **words)


@pytest.mark.parametrize(
    ("provider", "urls"),
    [
        (VIAPI, WRITTEN),
        (VIAPI, OTHERWISE),
        (VIAPI, WRITTEN + OTHERWISE),
        (LABELS, OBJECTS),
        (LABELS, OBJECTS_OTHERWISE),
        (LOCAL, ["pictures/red.png", "./pictures/../pictures/red.png"]),
        (LOCAL, ["http://127.0.0.1:18431/pictures/red.png", "http://127.0.0.1:18431/pictures/red.png?v=1#y"]),
    ],
)
def test_an_older_store_costs_nothing(provider: object, urls: list[str], made: Path) -> None:
    """The same references, and the same images by other spellings: all known, sealed or not, and no call."""
    table = labelled(urls, made, provider=provider)
    report = table.attrs["imgtag"]
    assert (report["calls"], report["known"], report["failed"]) == (0, report["images"], {})
    assert set(table["status"]) <= {"ok", "empty"}
    assert len(set(table["url"])) == len({url.partition("?Expires")[0] for url in urls})


def test_a_tagger_that_tells_objects_is_another_one(made: Path) -> None:
    """A store of the tagger without objects keeps its answers beside those of today's default."""
    urls = ["pictures/red.png"]
    assert labelled(urls, made).attrs["imgtag"]["known"] == 0
    assert labelled(urls, made).attrs["imgtag"]["known"] == 1
    assert labelled(urls, made, provider=LOCAL).attrs["imgtag"]["known"] == 1


def test_images_that_were_taken_for_one_are_counted_as_one(made: Path) -> None:
    """Written and otherwise spelled: one image each."""
    assert labelled(WRITTEN + OTHERWISE, made, provider=VIAPI).attrs["imgtag"]["images"] == len(WRITTEN)


def test_named_keys_stay_as_they_were(made: Path) -> None:
    """`key=` values are no references, even where they look like one."""
    frame = pd.DataFrame({"url": ["https://x.example/1.jpg", "https://x.example/2.jpg"]})
    frame["sku"] = ["http://shop/#1", "http://shop/#2"]
    words = {"provider": VIAPI, "checkpoint": str(made / "store"), "progress": False}
    table = imgtag.label(frame, col="url", key="sku", **words)
    assert (table.attrs["imgtag"]["images"], table.attrs["imgtag"]["known"]) == (2, 2)
    plan = imgtag.plan(pd.DataFrame({"url": ["http://shop/"]}), provider=VIAPI, checkpoint=str(made / "store"))
    assert plan.known == 0


def test_marks_and_jobs_of_an_older_journal_are_found(made: Path) -> None:
    """What was sent and never answered is told under today's key; an unfinished job is polled, not bought again."""
    clock = SystemClock()
    store = open_store(str(made / "store"), identity=VIAPI.identity(), run_id="r", clock=clock, key_of=VIAPI.key)
    assert store.possibly_billed == [VIAPI.key(H + "lost 图.jpg")]
    ads = Viapi(action="TaggingAdImage", endpoint=NOWHERE, image_hosts="any", credentials=KEYS)
    jobs = open_store(str(made / "store"), identity=ads.identity(), run_id="r", clock=clock, key_of=ads.key)
    key = ads.key(H + "job%20%e5%9b%be.jpg")
    assert jobs.jobs([key])[key].job_id == "job-1"


async def test_versions_that_share_a_store_lose_nothing(tmp_path: Path) -> None:
    """A success beats a failure and the newest wins, whichever spelling each was written by."""
    clock = SystemClock()
    words = {"identity": VIAPI.identity(), "clock": clock}
    old, new = H + "a b.jpg", VIAPI.key(H + "a b.jpg")
    before = open_store(str(tmp_path), run_id="before", **words)
    await before.save([Outcome(old, old, "ok", (Tag("cat"),))])
    today = open_store(str(tmp_path), run_id="today", key_of=VIAPI.key, **words)
    assert today.lookup([new]) == ["ok"]
    await today.save([Outcome(new, old, "failed", error_code="Late")])
    await today.close()
    await before.close()
    again = open_store(str(tmp_path), run_id="again", key_of=VIAPI.key, **words)
    assert again.lookup([new, old]) == ["ok", "ok"]
    rows = again.take([new])
    assert rows.column("key").to_pylist() == [new]
    assert rows.column("tags").to_pylist()[0][0]["tag"] == "cat"
    await again.close()


def test_a_file_changed_since_is_asked_again(made: Path) -> None:
    """An older row of a relative path counts for the file as it was then."""
    later = datetime.now(UTC).timestamp() + 10**8
    os.utime(made / "pictures" / "red.png", (later, later))
    report = labelled(["pictures/red.png"], made, provider="local").attrs["imgtag"]
    assert report["known"] == 0
