"""What a remote store is told of calls whose answers it does not have: soon, in groups, and until it has them."""

import threading

import fsspec
import pytest

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.mark_uploads import Teller
from imgtag_pipeline.checkpoint.store import describe, loss_bound
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Job, Outcome, Tag

PATIENCE = 60


def ok(*keys: str) -> list[Outcome]:
    return [Outcome(key, f"https://h/{key}", "ok", (Tag("cat"),), calls=1, billed="yes") for key in keys]


class Watched(Files):
    """Says when marks were put, and refuses parts when told."""

    def __init__(self) -> None:
        self.told = threading.Semaphore(0)
        self.refuses_parts = False

    def pipe_file(self, filesystem, path, data):
        if self.refuses_parts and path.endswith(".parquet"):
            raise ConnectionError("refused")
        super().pipe_file(filesystem, path, data)
        if path.endswith(".open"):
            self.told.release()


async def test_a_mark_is_put_without_a_flush(remote):
    """A call is told to the store by itself, and the next host lists the image when it sends it again."""
    files = Watched()
    lost = remote.open(files=files, put_every=0.05)
    await lost.mark_sent(["a", "b"])
    assert files.told.acquire(timeout=PATIENCE)
    after = remote.on_another_host().open()
    assert after.possibly_billed == []
    await after.mark_sent(["b", "c"])
    assert after.possibly_billed == ["b"]
    await after.close()
    await lost.close()


async def test_an_answer_that_is_not_put_stays_told(remote):
    """Images that are answered here only are listed by the next host; with the answers in the store they are not."""
    files = Watched()
    lost = remote.open(files=files)
    job = Job("j1", remote.clock.now())
    await lost.mark_sent(["a", "b"])
    await lost.save_job("b", job)
    await lost.save(ok("a", "b"))
    files.refuses_parts = True
    with pytest.raises(StoreError, match="could not be put"):
        await lost.close()
    elsewhere = remote.on_another_host()
    after = elsewhere.open()
    assert (after.lookup(["a", "b"]), after.jobs(["a", "b"])) == ([None, None], {"b": job})
    await after.mark_sent(["a"])
    assert after.possibly_billed == ["a"]
    await after.save(ok("a"))
    await after.close()
    files.refuses_parts = False
    again = remote.open(files=files)
    assert again.lookup(["a", "b"]) == ["ok", "ok"]
    await again.close()
    await remote.clock.advance(3600)
    assert describe(remote.url, spool=elsewhere.spool)[0].possibly_billed == ()


async def test_answers_in_the_store_are_told_no_more(remote):
    """Once the parts are put, the next host knows the images and lists none."""
    files = Watched()
    first = remote.open(files=files, put_every=0.05)
    await first.mark_sent(["a"])
    await first.save(ok("a"))
    await first.flush()
    await remote.clock.advance(3600)
    after = remote.on_another_host().open()
    assert (after.lookup(["a"]), after.possibly_billed) == (["ok"], [])
    await after.close()
    await first.close()


async def test_a_put_whose_reply_was_lost_leaves_nothing(remote):
    """Marks that were put without a reply are taken back when their answers are in the store."""

    class Deaf(Files):
        def pipe_file(self, filesystem, path, data):
            super().pipe_file(filesystem, path, data)
            if path.endswith(".open"):
                raise TimeoutError("no reply")

    store = remote.open(files=Deaf())
    await store.mark_sent(["a"])
    with pytest.raises(StoreError):
        await store.flush()
    await store.save(ok("a"))
    await store.close()
    assert not [path for path in fsspec.filesystem("memory").find(remote.url) if path.endswith(".open")]


async def test_a_failure_that_is_asked_again_is_no_doubt(remote):
    """An image whose failure is in the store is not listed because the mark of a living host still stands beside it."""
    files = Watched()
    first = remote.open(files=files, put_every=0.05)
    await first.mark_sent(["a"])
    assert files.told.acquire(timeout=PATIENCE)
    other = remote.on_another_host()
    second = other.open()
    await second.mark_sent(["a"])
    assert second.possibly_billed == ["a"]
    await second.save([Outcome("a", "https://h/a", "failed", error_code="InvalidImage", calls=1, billed="yes")])
    await second.close()
    third = other.open()
    await third.mark_sent(["a"])
    assert third.possibly_billed == []
    for store in (third, first):
        await store.close()


def test_many_calls_are_told_in_few_puts():
    """What is sent while a put is under way is told by the next one, all at once."""
    begun, may_end, puts = threading.Semaphore(0), threading.Semaphore(0), []

    def say():
        begun.release()
        assert may_end.acquire(timeout=PATIENCE)
        puts.append(1)

    teller = Teller(say, put_every=0)
    teller.note()
    assert begun.acquire(timeout=PATIENCE)
    for _ in range(100):
        teller.note()
    may_end.release(3)
    assert begun.acquire(timeout=PATIENCE)
    teller.end()
    assert len(puts) <= 3


def test_a_put_that_fails_is_tried_again(caplog):
    """Nothing is raised, it is said once, and the next put says all."""
    tries, is_told = [], threading.Event()

    def say():
        tries.append(1)
        if len(tries) < 3:
            raise OSError("the store is away")
        is_told.set()

    teller = Teller(say, put_every=0.001)
    teller.note()
    assert is_told.wait(PATIENCE)
    teller.end()
    assert caplog.text.count("event=marks_not_put") == 1


def test_the_bound_is_said_of_stores_elsewhere_only():
    """What the loss of the host costs, in a sentence with the figures."""
    assert loss_bound(None, put_every=0.3) is None
    assert loss_bound("/tags", put_every=0.3) is None
    assert "last 0.5 s and one put" in loss_bound("oss://b/tags", put_every=0.5)
