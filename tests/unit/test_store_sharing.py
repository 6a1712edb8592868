"""Several processes in one store: they see and never repeat each other's work."""

import asyncio
import os
import socket

from imgtag_pipeline.checkpoint.store import describe
from imgtag_pipeline.model import Outcome, Tag


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


async def test_two_runs_see_each_others_answers(place):
    """What one process saves, the other knows after a look, journaled or sealed."""
    first, second = place.open(), place.open()
    await first.save([ok("a")])
    await second.save([ok("b")])
    await second.refresh()
    assert second.lookup(["a", "b"]) == ["ok", "ok"]
    await first.close()
    await second.refresh()
    assert taken(second, "b", "a") == [("b", "ok", 1), ("a", "ok", 1)]
    await second.close()
    assert describe(place.url, spool=place.spool)[0].images == 2


async def test_nobody_asks_about_what_another_has_claimed(place):
    """A claimed image is granted to no other process until it is released, or for good once it is answered."""
    first, second = place.open(), place.open()
    assert await first.claim(["a", "b", "c"]) == {"a", "b", "c"}
    assert await second.claim(["b", "c", "d"]) == {"d"}
    await first.save([ok("b")])
    await first.release(["c"])
    assert await second.claim(["a", "b", "c"]) == {"c"}
    await first.close()
    assert await second.claim(["a", "b"]) == {"a"}
    await second.close()


async def test_the_claims_of_the_dead_expire(disk):
    """What a killed process had claimed is granted to the next one that asks."""
    first = disk.open()
    await first.claim(["a"])
    second = disk.after_a_crash().open()
    assert await second.claim(["a"]) == {"a"}
    await second.close()
    await first.close()


async def test_claims_outlast_the_sealing_of_their_segment(disk):
    """A claim still holds when its owner has gone on to another segment."""
    first, second = disk.open(seal_rows=1), disk.open()
    await first.claim(["a", "b"])
    for name in "xyz":
        await first.save([ok(name)])
    assert await second.claim(["a", "b"]) == set()
    await first.release(["a"])
    assert await second.claim(["a", "b"]) == {"a"}
    await first.close()
    await second.close()


async def test_waiting_ends_when_the_other_has_answered_or_given_up(disk):
    """Who waits for another's claims gets the answered ones back; the rest is free."""
    first, second = disk.open(), disk.open()
    await first.claim(["a", "b", "c"])
    waiting = asyncio.ensure_future(second.wait_for(["a", "b", "z"]))
    await first.save([ok("a")])
    for _ in range(200):
        await asyncio.sleep(0.001)
        await disk.clock.advance(0.2)
    assert not waiting.done()
    await first.close()
    assert await disk.clock.run(asyncio.wait_for(waiting, 30)) == {"a"}
    assert await second.claim(["a", "b", "z"]) == {"b", "z"}
    await second.close()


async def test_a_long_wait_for_others_is_logged_with_their_names(disk, caplog):
    """Who waits for a process that is stopped can find out which one that is."""
    caplog.set_level("INFO", "imgtag_pipeline")
    first, second = disk.open(), disk.open()
    await first.claim(["a"])
    waiting = asyncio.ensure_future(second.wait_for(["a"]))
    while not caplog.messages:
        await asyncio.sleep(0.001)
        await disk.clock.advance(0.2)
    assert caplog.messages == [f"event=waiting_for_claims images=1 writers={socket.gethostname()}:{os.getpid()}"]
    await first.release(["a"])
    assert await disk.clock.run(asyncio.wait_for(waiting, 30)) == set()
    await first.close()
    await second.close()


async def test_a_failure_is_claimed_again_only_to_retry_it(disk):
    """A failed image is granted when it is to be retried, and then to one process only."""
    zero = disk.open()
    await zero.save([failed("a")])
    await zero.close()
    await disk.clock.advance(1)
    first, second = disk.open(), disk.open()
    assert await first.claim(["a"]) == set()
    assert await first.claim(["a"], retry_failed=True) == {"a"}
    assert await second.claim(["a"], retry_failed=True) == set()
    await first.save([failed("a")])
    assert await second.claim(["a"], retry_failed=True) == set()
    await first.close()
    await second.close()
