"""Sent marks and jobs: after a crash it is known which images may have been paid for."""

from imgtag_pipeline.model import Job, Outcome, Tag


def ok(key: str, *names: str) -> Outcome:
    tags = tuple(Tag(name, confidence=0.5, confidence_raw=50.0) for name in names or ("cat", "dog"))
    return Outcome(
        key, f"https://h/{key}", "ok", tags, request_id=f"R-{key}", calls=1, billed="yes", cost_micro_yuan=15
    )


def failed(key: str, code: str = "HTTP404") -> Outcome:
    return Outcome(key, f"https://h/{key}", "failed", error_code=code, error="gone")


async def test_an_image_sent_before_a_crash_is_named(place):
    """After a crash exactly the images that were sent and not answered may have been billed."""
    first = place.open()
    await first.save([ok("before")])
    await first.mark_sent(["a", "b", "c", "d"])
    await first.save([ok("b")])
    await first.clear_sent(["c"])
    second = place.after_a_crash().open()
    assert second.possibly_billed == ["a", "d"]
    assert second.lookup(["a"]) == [None]
    await second.close()
    await first.close()


async def test_possibly_billed_images_are_named_until_they_are_answered(place):
    """The knowledge survives further runs and crashes, and ends with the image's outcome."""
    first = place.open()
    await first.mark_sent(["a", "b"])
    crashed = place.after_a_crash()
    await first.close()
    for _ in range(2):
        store = crashed.open()
        assert sorted(store.possibly_billed) == ["a", "b"]
        await store.save([ok("other")])
        await store.close()
    store = crashed.open()
    await store.save([ok("a")])
    crashed = crashed.after_a_crash()
    await store.close()
    store = crashed.open()
    assert store.possibly_billed == ["b"]
    await store.save([failed("b")])
    await store.close()
    store = crashed.open()
    assert store.possibly_billed == []
    await store.close()


async def test_a_retry_that_was_cut_off_is_named_though_it_failed_before(place):
    """An earlier failure does not answer a later sent mark."""
    first = place.open()
    await first.save([failed("a")])
    await first.close()
    await place.clock.advance(5)
    second = place.open()
    await second.mark_sent(["a"])
    third = place.after_a_crash().open()
    assert third.possibly_billed == ["a"]
    await third.close()
    await second.close()


async def test_marks_survive_the_sealing_of_their_segment(disk):
    """A mark whose segment was sealed meanwhile stands in the next one."""
    first = disk.open(seal_rows=2)
    await first.mark_sent(["a"])
    for name in "bcde":
        await first.save([ok(name)])
    second = disk.after_a_crash().open()
    assert second.possibly_billed == ["a"]
    assert second.lookup(list("bcde")) == ["ok"] * 4
    await second.close()
    await first.close()


async def test_unfinished_jobs_outlive_the_run(any_place):
    """A job that was paid for is known until its image has an outcome."""
    job = Job("job-1", any_place.clock.now())
    store = any_place.open()
    await store.save_job("a", job)
    assert store.jobs(["a", "b"]) == {"a": job}
    if any_place.kind != "memory":
        any_place, first = any_place.after_a_crash(), store
        store = any_place.open()
        assert store.jobs(["a"]) == {"a": job}
        await first.close()
        await store.close()
        store = any_place.open()
        assert store.jobs(["a"]) == {"a": job}
    await store.save([ok("a")])
    assert store.jobs(["a"]) == {}
    await store.close()
