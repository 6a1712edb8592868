"""The tag store on `oss://` at the emulator, through ossfs: whole objects, signed, also when replies get lost."""

import pytest

from imgtag_pipeline.checkpoint.store import Tuning, compact, describe, open_store
from imgtag_pipeline.checkpoint.writer import FlushPolicy
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread
from imgtag_pipeline.emulator.faults import parse_all
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Outcome, Tag

pytest.importorskip("ossfs")
pytestmark = pytest.mark.sdk
IDENTITY = {"address": "viapi/TaggingImage"}


@pytest.fixture
def cloud():
    with run_in_thread(EmulatorOptions()) as running:
        yield running


@pytest.fixture
def opened(cloud, tmp_path):
    """Opens the store as a run on a host does."""
    options = {"endpoint": cloud.url, "key": "emulator", "secret": "emulator", "skip_instance_cache": True}

    def opened(run: str, host: str = "host"):
        return open_store(
            "oss://bkt/team/tags",
            identity=IDENTITY,
            run_id=run,
            clock=SystemClock(),
            storage_options=options,
            spool=tmp_path / host,
            tuning=Tuning(pace=FlushPolicy(parts_every=3600, put_every=3600)),
        )

    opened.options = options
    opened.spool = tmp_path / "host"
    return opened


def outcomes(*keys: str) -> list[Outcome]:
    return [Outcome(key, f"https://h/{key}", "ok", (Tag("猫", confidence=0.5),)) for key in keys]


async def test_answers_reach_the_bucket_and_other_hosts(cloud, opened):
    """What one host saved, another host knows; status and compaction work on the bucket."""
    for number in range(3):
        store = opened(f"r{number}")
        await store.save(outcomes(f"k{number}", f"m{number}"))
        await store.mark_sent(["x"])
        await store.close()
    other = opened("elsewhere", host="another")
    assert other.lookup(["k0", "m2", "z"]) == ["ok", "ok", None]
    assert other.take(["m1", "k0"]).column("key").to_pylist() == ["m1", "k0"]
    (done,) = compact("oss://bkt/team/tags", storage_options=opened.options, spool=opened.spool)
    assert (done.parts_before, done.parts_after) == (3, 1)
    assert other.take(["m1", "k0"]).column("key").to_pylist() == ["m1", "k0"]
    await other.close()
    (found,) = describe("oss://bkt/team/tags", storage_options=opened.options, spool=opened.spool)
    assert (found.images, found.possibly_billed) == (6, ("x",))


async def test_a_bucket_that_refuses_costs_nothing(cloud, opened):
    """While the bucket refuses, the answers wait in the spool; the next run puts them."""
    store = opened("r1")
    await store.save(outcomes("a"))
    cloud.faults.set(parse_all(["error:AccessDenied@PutObject"]))
    with pytest.raises(StoreError, match=r"no right to access.*spool"):
        await store.close()
    cloud.faults.set(())
    store = opened("r2")
    assert store.lookup(["a"]) == ["ok"]
    await store.close()
    other = opened("elsewhere", host="another")
    assert other.lookup(["a"]) == ["ok"]
    await other.close()


async def test_lost_replies_double_nothing(cloud, opened):
    """When the reply to a put is lost, the part is there once."""
    store = opened("r1")
    await store.save(outcomes("a", "b"))
    cloud.faults.set(parse_all(["reset-after#2@PutObject"]))
    await store.flush()
    await store.close()
    cloud.faults.set(())
    (found,) = describe("oss://bkt/team/tags", storage_options=opened.options, spool=opened.spool)
    assert (found.images, found.parts) == (2, 1)
