"""The tag store: what is saved is known, in memory, on a disk and behind a URL, for this run and for the next."""

import asyncio
import shutil

import pytest

from imgtag_pipeline.checkpoint.store import describe, outcomes
from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Box, Outcome, Tag


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


async def test_what_is_saved_is_known_and_taken(any_place):
    """Every field of an outcome comes back, in the order asked for."""
    store = any_place.open()
    tag = Tag("cat", "fruit", 0.5, 50.0, 1, "animal", "t1", "en", Box(1, 2, 3, 4), 0.25, {"Score": "x", "n": [1]})
    await store.save([ok("a"), Outcome("b", "https://h/b", "empty"), failed("c"), Outcome("d", "u", "ok", (tag,))])
    assert store.lookup(["a", "b", "c", "d", "e"]) == ["ok", "empty", "failed", "ok", None]
    rows = store.take(["d", "a", "c"])
    assert rows.schema == schema.OUTCOME
    first, second, third = rows.to_pylist()
    assert first["tags"] == [
        {
            "tag": "cat",
            "kind": "fruit",
            "confidence": 0.5,
            "confidence_raw": 50.0,
            "level": 1,
            "parent": "animal",
            "tag_id": "t1",
            "language": "en",
            "bbox": {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0},
            "extra": '{"Score":"x","n":[1]}',
            "measure": 0.25,
        }
    ]
    assert [t["tag"] for t in second["tags"]] == ["cat", "dog"]
    assert (second["request_id"], second["billed"], second["cost_micro_yuan"], second["run"]) == (
        "R-a",
        "yes",
        15,
        "run1",
    )
    assert (third["error_code"], third["error"], third["tags"]) == ("HTTP404", "gone", [])
    await store.close()


async def test_what_is_not_known_cannot_be_taken(any_place):
    """Taking an image without an outcome is an error, never a wrong row."""
    store = any_place.open()
    await store.save([ok("a")])
    with pytest.raises(StoreError, match="no outcome for 'b'"):
        store.take(["a", "b"])
    assert store.take([]).num_rows == 0
    await store.close()


async def test_a_closed_store_can_be_read_and_not_written(any_place):
    """Closing twice is fine; what is known can still be taken; saving is refused."""
    store = any_place.open()
    await store.save([ok("a")])
    await store.close()
    await store.close()
    assert taken(store, "a") == [("a", "ok", 1)]
    with pytest.raises(StoreError, match="closed"):
        await store.save([ok("b")])


async def test_many_small_saves_and_seals_keep_every_row(any_place):
    """Rows saved one by one over many sealed parts are all there, in any order."""
    store = any_place.open(seal_rows=25)
    names = [f"k{i}" for i in range(120)]
    await asyncio.gather(*(store.save([ok(name)]) for name in names[:60]))
    for name in names[60:]:
        await store.save([ok(name)])
    assert [key for key, _, _ in taken(store, *reversed(names))] == names[::-1]
    await store.close()
    assert [key for key, _, _ in taken(store, *names[::7])] == names[::7]


async def test_the_next_run_knows(place):
    """A second run finds what the first one closed with, and needs to write nothing."""
    first = place.open()
    await first.save([ok("a"), failed("b")])
    await first.close()
    second = place.open()
    assert second.lookup(["a", "b", "c"]) == ["ok", "failed", None]
    assert second.recovered["segments"] == 0
    before = place.texts()
    await second.close()
    assert place.texts() == before


async def test_a_crash_loses_nothing_that_was_saved(place):
    """After a crash the next run knows every outcome whose save had returned."""
    first = place.open()
    await first.save([ok("a")])
    await first.save([failed("b")])
    crashed = place.after_a_crash()
    second = crashed.open()
    assert second.lookup(["a", "b"]) == ["ok", "failed"]
    assert second.recovered["segments"] == 1
    assert second.recovered["outcomes"] == 2
    await second.close()
    third = crashed.open()
    assert third.recovered["segments"] == 0
    assert taken(third, "a", "b") == [("a", "ok", 1), ("b", "failed", 1)]
    await third.close()
    await first.close()


async def test_a_crash_between_sealing_and_clearing_up_doubles_nothing(disk):
    """A segment whose rows already stand in a part is harmless."""
    first = disk.open()
    await first.save([ok("a")])
    crashed = disk.after_a_crash()
    await first.close()
    for part in disk.folder.rglob("*.parquet"):
        shutil.copy(part, next(crashed.folder.rglob("parts")))
    second = crashed.open()
    assert taken(second, "a") == [("a", "ok", 1)]
    await second.close()
    assert [found.images for found in describe(crashed.url)] == [1]
    assert sum(rows.num_rows for _, rows in outcomes(crashed.url)) == 1


async def test_a_success_beats_a_failure_and_the_newest_wins(place):
    """Whatever the order of runs, an answer is not displaced by a failure; of two answers the later counts."""
    for outcome in (failed("a", "E1"), ok("a", "old"), ok("a", "new"), failed("a", "E2")):
        store = place.open()
        await store.save([outcome])
        await store.close()
        await place.clock.advance(1)
    store = place.open()
    assert store.lookup(["a"]) == ["ok"]
    assert store.take(["a"]).column("tags").to_pylist()[0][0]["tag"] == "new"
    assert store.attempts("a") == 4
    await store.close()


async def test_attempts_count_on_over_runs(any_place):
    """Each outcome of an image says how many there have been."""
    store = any_place.open()
    await store.save([failed("a")])
    await store.save([failed("a"), ok("b")])
    assert (store.attempts("a"), store.attempts("b"), store.attempts("c")) == (2, 1, 0)
    await store.close()
    if any_place.kind != "memory":
        store = any_place.open()
        await store.save([failed("a", "E9")])
        assert taken(store, "a") == [("a", "failed", 3)]
        await store.close()


async def test_only_failures_of_earlier_runs_are_retried(place):
    """With `retry_failed`, what failed before is asked again, once: not what failed in this run."""
    first = place.open()
    await first.save([failed("a"), ok("b")])
    await first.close()
    second = place.open()
    assert second.lookup(["a", "b"]) == ["failed", "ok"]
    assert second.lookup(["a", "b"], retry_failed=True) == [None, "ok"]
    await second.save([failed("a"), failed("c")])
    assert second.lookup(["a", "c"], retry_failed=True) == ["failed", "failed"]
    await second.close()


async def test_a_clock_that_went_back_does_not_bring_back_the_past(disk):
    """The later outcome wins also when the machine's clock was set back in between."""
    for name in ("old", "new"):
        store = disk.open()
        await store.save([ok("a", name)])
        await store.close()
        disk.clock.set_wall(disk.clock.now().replace(year=2020))
    store = disk.open()
    assert store.take(["a"]).column("tags").to_pylist()[0][0]["tag"] == "new"
    await store.close()
