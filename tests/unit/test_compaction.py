"""Compaction and status: nothing is lost, and what is there is told."""

import pyarrow as pa

from imgtag_pipeline.checkpoint.store import compact, describe, outcomes
from imgtag_pipeline.model import Job, Outcome, Tag

IDENTITY = {"address": "viapi/TaggingImage", "options": {"a": 1}}


def ok(key: str, *names: str) -> Outcome:
    tags = tuple(Tag(name, confidence=0.5, confidence_raw=50.0) for name in names or ("cat", "dog"))
    return Outcome(
        key, f"https://h/{key}", "ok", tags, request_id=f"R-{key}", calls=1, billed="yes", cost_micro_yuan=15
    )


def failed(key: str, code: str = "HTTP404") -> Outcome:
    return Outcome(key, f"https://h/{key}", "failed", error_code=code, error="gone")


def taken(store, *keys: str) -> list[tuple[str, str, int]]:
    """Key, status and attempts of what the store holds for these keys."""
    rows = store.take(list(keys))
    return list(zip(*(rows.column(name).to_pylist() for name in ("key", "status", "attempts")), strict=True))


async def test_compaction_keeps_every_outcome(place):
    """Many small parts become one; attempts, history and marks are kept."""
    for number in range(6):
        store = place.open()
        await store.save([failed("a", f"E{number}"), ok(f"k{number}")])
        await store.close()
        await place.clock.advance(1)
    (done,) = compact(place.url, spool=place.spool, clock=place.clock)
    assert (done.parts_before, done.parts_after) == (6, 1)
    store = place.open()
    assert store.attempts("a") == 6
    assert store.take(["a"]).column("error_code").to_pylist() == ["E5"]
    assert store.lookup([f"k{n}" for n in range(6)]) == ["ok"] * 6
    await store.close()
    history = pa.concat_tables([rows for _, rows in outcomes(place.url, spool=place.spool)])
    assert sorted(c for c in history.column("error_code").to_pylist() if c) == [f"E{n}" for n in range(6)]


async def test_a_run_goes_on_while_others_compact(place):
    """A run that had opened the old parts reads from the new one without noticing."""
    for number in range(3):
        store = place.open()
        await store.save([ok(f"k{number}")])
        await store.close()
    running = place.open()
    await running.save([ok("mine")])
    compact(place.url, spool=place.spool, clock=place.clock)
    assert [key for key, _, _ in taken(running, "k2", "mine", "k0")] == ["k2", "mine", "k0"]
    await running.close()


async def test_compaction_of_a_compacted_store_changes_nothing(place):
    """There is nothing left to merge."""
    for number in range(3):
        store = place.open()
        await store.save([ok(f"k{number}")])
        await store.close()
    compact(place.url, spool=place.spool)
    (done,) = compact(place.url, spool=place.spool)
    assert (done.parts_before, done.parts_after, done.bytes_before) == (1, 1, done.bytes_after)


async def test_status_tells_what_a_store_holds(place):
    """Counts by image and code, what may have been billed, jobs, writers; a foreign version is named."""
    first = place.open()
    await first.save([ok("a"), Outcome("b", "u", "empty"), failed("c", "E1"), failed("d", "E1"), failed("e", "E2")])
    await first.mark_sent(["x"])
    await first.save_job("y", Job("j", place.clock.now()))
    await first.close()
    running = place.open(identity={"address": "tencent_v1"})
    await running.save([failed("z")])
    by_address = {found.address: found for found in describe(place.url, spool=place.spool)}
    found = by_address["viapi/TaggingImage"]
    assert (found.images, found.ok, found.empty, found.failed) == (5, 1, 1, {"E1": 2, "E2": 1})
    assert (found.possibly_billed, found.unfinished_jobs, found.writers, found.parts) == (("x",), 1, 0, 1)
    assert found.identity == IDENTITY
    assert found.oldest is not None
    assert (by_address["tencent_v1"].images, by_address["tencent_v1"].writers) == (1, 1)
    await running.close()
    again = place.open()
    assert again.possibly_billed == ["x"]
    await again.close()
