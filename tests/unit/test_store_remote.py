"""Stores behind a URL: whole objects, a spool, and replies that get lost."""

import secrets
import threading
from typing import ClassVar

import fsspec
import pyarrow as pa
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline import providers
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.store import compact, describe, outcomes
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Job, Outcome, Tag
from imgtag_pipeline.options import Options
from imgtag_pipeline.pipeline.pipeline import Pipeline
from imgtag_pipeline.source.tables import open_source


def ok(key: str, *names: str) -> Outcome:
    tags = tuple(Tag(name, confidence=0.5, confidence_raw=50.0) for name in names or ("cat", "dog"))
    return Outcome(
        key, f"https://h/{key}", "ok", tags, request_id=f"R-{key}", calls=1, billed="yes", cost_micro_yuan=15
    )


def taken(store, *keys: str) -> list[tuple[str, str, int]]:
    """Key, status and attempts of what the store holds for these keys."""
    rows = store.take(list(keys))
    return list(zip(*(rows.column(name).to_pylist() for name in ("key", "status", "attempts")), strict=True))


class Shaky(Files):
    """Puts fail, before or after they have happened, as often as told."""

    def __init__(self) -> None:
        self.fail_before = self.fail_after = 0
        self.sizes: list[int] = []

    def pipe_file(self, filesystem, path, data):
        if self.fail_before:
            self.fail_before -= 1
            raise ConnectionError("https://b.oss.com/?Signature=CANARY refused")
        super().pipe_file(filesystem, path, data)
        self.sizes.append(len(data))
        if self.fail_after:
            self.fail_after -= 1
            raise TimeoutError("no reply")


async def test_what_cannot_be_put_waits_in_the_spool(remote):
    """When puts fail, closing says where the answers lie; the next run puts them, and nothing is lost."""
    shaky = Shaky()
    store = remote.open(files=shaky)
    await store.save([ok("a")])
    shaky.fail_before = 1000
    with pytest.raises(StoreError, match=r"could not be put.*nothing is lost.*spool") as caught:
        await store.close()
    assert str(remote.spool) in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert taken(store, "a") == [("a", "ok", 1)]
    again = remote.open()
    assert again.lookup(["a"]) == ["ok"]
    await again.save([ok("b")])
    await again.close()
    assert not list(remote.spool.rglob("*.parquet"))
    other = remote.on_another_host().open()
    assert other.lookup(["a", "b"]) == ["ok", "ok"]
    await other.close()


async def test_a_lost_reply_to_a_put_doubles_nothing(remote):
    """A put that happened though its reply was lost is repeated under the same name."""
    shaky = Shaky()
    store = remote.open(files=shaky)
    await store.save([ok("a"), ok("b")])
    shaky.fail_after = 1
    with pytest.raises(StoreError):
        await store.flush()
    await store.flush()
    await store.close()
    assert sum(rows.num_rows for _, rows in outcomes(remote.url, spool=remote.spool)) == 2


async def test_another_host_learns_of_marks_and_jobs(remote):
    """Sent marks and jobs of a host that is gone reach the next host through the store."""
    job = Job("j1", remote.clock.now())
    first = remote.open()
    await first.mark_sent(["a", "b"])
    await first.save_job("c", job)
    await first.flush()
    elsewhere = remote.on_another_host()
    early = elsewhere.open()
    assert (early.possibly_billed, early.jobs(["c"])) == ([], {"c": job})
    await early.close()
    await remote.clock.advance(3600)
    late = elsewhere.open()
    assert (late.possibly_billed, late.jobs(["c"])) == (["a", "b"], {"c": job})
    await late.save([ok("a"), ok("b"), ok("c")])
    await late.close()
    assert [found.possibly_billed for found in describe(remote.url, spool=elsewhere.spool)] == [()]
    await first.close()


async def test_claims_hold_between_the_processes_of_one_host(remote):
    """A second process is granted nothing twice; another host may be, and then both bills and one answer are kept."""
    first, second, elsewhere = remote.open(), remote.open(), remote.on_another_host().open()
    assert await first.claim(["a"]) == {"a"}
    assert await second.claim(["a"]) == set()
    assert await elsewhere.claim(["a"]) == {"a"}
    await first.save([ok("a")])
    await elsewhere.save([ok("a")])
    for store in (first, second, elsewhere):
        await store.close()
    assert [found.images for found in describe(remote.url, spool=remote.spool)] == [1]
    kept = [
        cost for _, rows in outcomes(remote.url, spool=remote.spool) for cost in rows["cost_micro_yuan"].to_pylist()
    ]
    assert kept == [15, 15]


async def test_objects_stay_small_and_few(remote):
    """Parts in a remote store are split at the limit, and a run's many small ones are merged as it goes."""
    shaky = Shaky()
    store = remote.open(files=shaky, object_bytes=20_000)
    await store.save([ok(f"big{i}", *(secrets.token_hex(20) for _ in range(40))) for i in range(60)])
    await store.flush()
    assert len(describe(remote.url, spool=remote.spool)) == 1
    assert describe(remote.url, spool=remote.spool)[0].parts > 1
    assert max(shaky.sizes) <= 20_000
    for number in range(70):
        await store.save([ok(f"k{number}")])
        await store.flush()
    assert describe(remote.url, spool=remote.spool)[0].parts < 40
    assert len(taken(store, *(f"k{n}" for n in range(70)), *(f"big{n}" for n in range(60)))) == 130
    await store.close()
    assert describe(remote.url, spool=remote.spool)[0].images == 130


class Bucket(fsspec.AbstractFileSystem):
    """An object store that can do nothing but put, get, list and remove whole objects."""

    protocol = "strictbucket"
    cachable = False
    objects: ClassVar[dict[str, bytes]] = {}

    def pipe_file(self, path, value, mode="overwrite", **options):
        self.objects[path] = bytes(value)

    def cat_file(self, path, start=None, end=None, **options):
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **options):
        found = {
            name: {"name": name, "size": len(data)} for name, data in self.objects.items() if name.startswith(path)
        }
        return found if detail else list(found)

    def ls(self, path, detail=True, **options):
        heads = {name.removeprefix(path + "/").split("/")[0] for name in self.objects if name.startswith(path + "/")}
        return [{"name": f"{path}/{head}", "type": "directory"} for head in sorted(heads)]

    def rm_file(self, path):
        if self.objects.pop(path, None) is None:
            raise FileNotFoundError(path)

    def open(self, *arguments, **options):
        raise AssertionError("file handles of object stores are not atomic")

    mv = cp_file = mkdir = makedirs = exists = info = open


class Watched(Bucket):
    """A bucket that remembers which threads have waited for it."""

    protocol = "watchedbucket"
    objects: ClassVar[dict[str, bytes]] = {}
    threads: ClassVar[set[int]] = set()

    def __getattribute__(self, name):
        if name in ("pipe_file", "cat_file", "find", "ls", "rm_file"):
            Watched.threads.add(threading.get_ident())
        return super().__getattribute__(name)


async def test_nobody_waits_for_a_bucket_on_the_event_loop(tmp_path, monkeypatch):
    """A run and a plan let other tasks go on while a slow store answers."""
    fsspec.register_implementation("watchedbucket", Watched, clobber=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    picture = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    table = pa.table({"url": [str(picture)]})
    await imgtag.alabel(table, checkpoint="watchedbucket://tags")
    pipeline = Pipeline(open_source(table), "url", Options(checkpoint="watchedbucket://tags"), providers.get("local"))
    assert (await pipeline.plan()).known == 1
    assert Watched.threads
    assert threading.get_ident() not in Watched.threads


async def test_any_object_store_will_do(remote):
    """Nothing but whole puts, gets, listings and removals is asked of the driver."""
    fsspec.register_implementation("strictbucket", Bucket, clobber=True)
    remote.url = "strictbucket://tags"
    for run in range(3):
        store = remote.open()
        await store.save([ok(f"k{run}")])
        await store.mark_sent(["x"])
        await store.flush()
        await store.close()
    assert [found.images for found in describe(remote.url, spool=remote.spool)] == [3]
    compact(remote.url, spool=remote.spool)
    store = remote.open()
    assert (store.lookup(["k0", "k2"]), store.possibly_billed) == (["ok", "ok"], ["x"])
    await store.close()
