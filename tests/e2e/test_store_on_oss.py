"""The tag store on oss:// at the emulator: written by one host, found by another, whole after lost replies."""

import io
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest
from PIL import Image

from imgtag_pipeline.api import label
from imgtag_pipeline.checkpoint import store as checkpoint
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread
from imgtag_pipeline.emulator.faults import parse_all
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Outcome, Tag
from imgtag_pipeline.providers.alibaba_oss.tagimage import OssTagimage

ossfs = pytest.importorskip("ossfs")

pytestmark = pytest.mark.sdk
IDENTITY = {"provider": "oss_tagimage", "format": 1}
KEYS = [f"oss://pictures/{number}.jpg" for number in range(300)]


@pytest.fixture
def cloud():
    with run_in_thread(EmulatorOptions(qps=None)) as emulator:
        yield emulator


@pytest.fixture
def options(cloud):
    """What a user hands to fsspec."""
    return {"endpoint": cloud.url, "key": "emulator", "secret": "emulator"}


def opened(options, spool: Path, run: str = "run"):
    return checkpoint.open_store(
        "oss://bkt/tags", identity=IDENTITY, run_id=run, clock=SystemClock(), storage_options=options, spool=spool
    )


def outcome(key: str) -> Outcome:
    return Outcome(key, key, "ok", (Tag("猫", confidence=0.9, level=2, parent="动物"),), calls=1, billed="yes")


async def fill(store, keys) -> None:
    await store.mark_sent(keys)
    await store.save([outcome(key) for key in keys])


async def test_another_host_knows_what_was_saved(options, tmp_path):
    """What one host saved and closed, a host with an empty spool finds, tags and all."""
    first = opened(options, tmp_path / "here")
    assert first.lookup(KEYS[:2]) == [None, None]
    await fill(first, KEYS)
    await first.close()
    second = opened(options, tmp_path / "there")
    assert second.lookup([*KEYS, "oss://pictures/new.jpg"]) == ["ok"] * len(KEYS) + [None]
    row = second.take([KEYS[7]]).to_pylist()[0]
    assert (row["key"], row["tags"][0]["tag"], row["tags"][0]["parent"]) == (KEYS[7], "猫", "动物")
    assert second.possibly_billed == []
    await second.close()


async def test_parts_are_plain_parquet(options, tmp_path):
    """Anybody reads the parts with pyarrow; the manifest lies beside them; no key is among the bytes."""
    store = opened(options, tmp_path)
    await fill(store, KEYS)
    await store.close()
    files = ossfs.OSSFileSystem(**options, skip_instance_cache=True)
    parts = [path for path in files.find("bkt/tags") if path.endswith(".parquet")]
    assert sorted(ds.dataset(parts, filesystem=files).to_table(columns=["key"])["key"].to_pylist()) == sorted(KEYS)
    assert any(path.endswith("manifest.json") for path in files.find("bkt/tags"))
    assert all(b"emulator" not in files.cat_file(path) for path in files.find("bkt/tags"))


async def test_lost_reply_loses_and_doubles_nothing(cloud, options, tmp_path):
    """Replies to puts that never arrive: the parts are put again, and every image is known once."""
    store = opened(options, tmp_path / "here")
    await fill(store, KEYS)
    cloud.faults.set(parse_all(["reset-after#2@PutObject"]))
    await store.close()
    cloud.faults.set(())
    assert [entry.is_answered for entry in cloud.ledger if entry.action == "PutObject"].count(False) == 2
    second = opened(options, tmp_path / "there")
    assert second.lookup(KEYS) == ["ok"] * len(KEYS)
    await second.close()
    summary = checkpoint.describe("oss://bkt/tags", storage_options=options, spool=tmp_path / "there")[0]
    assert (summary.images, summary.ok) == (len(KEYS), len(KEYS))


async def test_store_that_cannot_be_put_is_kept_for_later(cloud, options, tmp_path):
    """While the object storage is down nothing is lost: a later run on the same host puts it."""
    store = opened(options, tmp_path / "here")
    await fill(store, KEYS)
    cloud.faults.set(parse_all(["error:ServiceUnavailable@PutObject"]))
    with pytest.raises(StoreError):
        await store.close()
    cloud.faults.set(())
    again = opened(options, tmp_path / "here", "later")
    assert again.lookup(KEYS) == ["ok"] * len(KEYS)
    await again.close()
    elsewhere = opened(options, tmp_path / "there")
    assert elsewhere.lookup(KEYS) == ["ok"] * len(KEYS)
    await elsewhere.close()


def test_wrong_secret_is_said_without_saying_it(options, tmp_path):
    """A store that may not be read is a StoreError, and shows neither the secret nor a signature."""
    with pytest.raises(StoreError) as caught:
        opened({**options, "secret": "not-the-secret"}, tmp_path)
    assert "not-the-secret" not in repr(caught.value) + str(caught.value.__cause__)


def test_pictures_and_store_in_one_cloud(cloud, options, monkeypatch, tmp_path, caplog):
    """Pictures on OSS are tagged by OSS, the answers kept on OSS; a second run from elsewhere makes no call.

    Each run says at its start what the loss of its host would cost.
    """
    caplog.set_level("INFO", logger="imgtag_pipeline")
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "emulator")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "emulator")
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "JPEG")
    files = ossfs.OSSFileSystem(**options, skip_instance_cache=True)
    urls = [f"oss://pictures/夜景 {number}.jpg" for number in range(10)]
    for url in urls:
        files.pipe_file(url, file.getvalue())
    frame = pd.DataFrame({"url": [*urls, *urls]})
    for home in ("here", "there"):
        monkeypatch.setenv("HOME", str(tmp_path / home))
        found = label(
            frame,
            col="url",
            provider=OssTagimage(endpoint=cloud.url, region="cn-hangzhou"),
            checkpoint="oss://bkt/tags",
            storage_options=options,
        )
        assert set(found["status"]) == {"ok"}
        assert "方图" in set(found["tag"])
    assert cloud.ledger.billed == len(urls)
    assert found.attrs["imgtag"]["calls"] == 0
    assert caplog.text.count("event=loss_bound put_every=0.3") == 2
