"""What lies in a store's folder: one folder for each identity, nothing foreign, nothing secret."""

import os
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.checkpoint.store import describe, open_store
from imgtag_pipeline.core import schema
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.model import Outcome, Tag

IDENTITY = {"address": "viapi/TaggingImage", "options": {"a": 1}}


def ok(key: str, *names: str) -> Outcome:
    tags = tuple(Tag(name, confidence=0.5, confidence_raw=50.0) for name in names or ("cat", "dog"))
    return Outcome(
        key, f"https://h/{key}", "ok", tags, request_id=f"R-{key}", calls=1, billed="yes", cost_micro_yuan=15
    )


async def test_identities_never_mix(disk):
    """Another action, or another option that changes results, has its own folder."""
    first = disk.open()
    await first.save([ok("a")])
    second = disk.open(identity={**IDENTITY, "options": {"a": 2}})
    assert second.lookup(["a"]) == [None]
    await first.close()
    await second.close()
    assert len([p for p in Path(disk.url).iterdir() if p.name.startswith("viapi-TaggingImage-")]) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"format": 1', '"format": 9'), "format version 9 .*; this version reads format version 1"),
        (('"a": 1', '"a": 3'), r'made with .*"a":3.*, and this run has .*"a":1'),
        (("{", "<"), "no manifest"),
    ],
)
async def test_a_folder_that_is_something_else_is_refused(disk, change, message):
    """A manifest of another format or other settings is refused with both named, and nothing is read or written."""
    await disk.open().close()
    manifest = next(disk.folder.rglob("manifest.json"))
    manifest.write_text(manifest.read_text().replace(*change))
    before = disk.texts()
    with pytest.raises(ConfigError, match=message):
        disk.open()
    assert disk.texts() == before


async def test_an_identity_in_another_format_is_not_paid_for_again(place):
    """A folder of the same identity that an other version wrote is refused by name rather than passed over."""
    await place.open().close()
    old = place.texts()
    if place.kind == "disk":
        manifest = next(place.folder.rglob("manifest.json"))
        text = manifest.read_text().replace('"format": 1', '"format": 0')
        manifest.write_text(text)
        manifest.parent.rename(manifest.parent.with_name("viapi-TaggingImage-000000000000"))
    else:
        filesystem = fsspec.filesystem("memory")
        (path,) = filesystem.find(place.url)
        text = filesystem.cat_file(path).decode().replace('"format": 1', '"format": 0')
        filesystem.rm(path)
        filesystem.pipe_file(f"{place.url}/viapi-TaggingImage-000000000000/manifest.json", text.encode())
    assert old
    with pytest.raises(ConfigError, match=r"viapi-TaggingImage-000000000000 cannot be used.*format version 0"):
        place.open()


def test_an_identity_must_be_json(disk):
    """An identity that cannot be written down is the caller's mistake."""
    with pytest.raises(ConfigError, match="JSON"):
        disk.open(identity={"address": object()})


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "https://host/x"])
def test_an_impossible_place_is_refused(url, tmp_path):
    """A scheme without a driver, or one that cannot be written, is said before anything is done."""
    with pytest.raises(ConfigError, match="checkpoint"):
        open_store(url, identity=IDENTITY, run_id="r", clock=SystemClock(), spool=tmp_path)


async def test_parts_are_plain_parquet_for_anybody(disk):
    """A part holds the fixed schema and says which run and version made it."""
    store = disk.open()
    await store.save([ok("a")])
    await store.close()
    (part,) = disk.folder.rglob("*.parquet")
    table = pq.read_table(part)
    assert table.schema.equals(schema.OUTCOME)
    facts = {key.decode(): value.decode() for key, value in pq.read_schema(part).metadata.items()}
    assert facts["imgtag_run"] == "run1"
    assert set(facts) >= {"imgtag_version", "imgtag_format", "imgtag_schema"}


async def test_a_damaged_part_is_refused_by_name(disk):
    """A part that cannot be read is never half read: the error names it and says what to do."""
    store = disk.open()
    await store.save([ok("a")])
    await store.close()
    (part,) = disk.folder.rglob("*.parquet")
    data = bytearray(part.read_bytes())
    data[-20] ^= 255
    part.write_bytes(data)
    with pytest.raises(StoreError, match=f"part {part.name} cannot be read"):
        disk.open()
    part.write_bytes(b"")
    with pytest.raises(StoreError, match=f"part {part.name} cannot be read"):
        disk.open()


async def test_no_secret_reaches_the_store(place):
    """A signed URL leaves no trace of its signature in journal, parts, manifest or spool."""
    signed = "https://b.oss.com/a.jpg?OSSAccessKeyId=CANARY1&Expires=1800000000&Signature=CANARY2CANARY2CANARY2CANARY"
    store = place.open()
    await store.save([Outcome("a", signed, "failed", error=f"GET {signed} q-ak=CANARY3", error_code="E")])
    assert b"CANARY" not in place.texts()
    await store.close()
    assert b"CANARY" not in place.texts()


async def test_old_temporary_files_are_swept(disk):
    """What a killed process left half written goes after a day; what is in the making stays."""
    await disk.open().close()
    (parts,) = disk.folder.rglob("parts")
    old, new = parts / ".tmp-old.parquet", parts / ".tmp-new.parquet"
    for path in (old, new):
        path.write_bytes(b"half")
    yesterday = path.stat().st_mtime - 90_000
    os.utime(old, (yesterday, yesterday))
    await disk.open().close()
    assert (old.exists(), new.exists()) == (False, True)
    assert describe(disk.url)[0].parts == 0
