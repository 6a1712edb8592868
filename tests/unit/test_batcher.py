"""Rows become windows of distinct images."""

import asyncio

import pyarrow as pa

from imgtag_pipeline.model import Image
from imgtag_pipeline.run.batches import Pending, Seen, cut, slices
from imgtag_pipeline.urls import unsigned_url

SIGNED = "https://b.oss-cn-shanghai.aliyuncs.com/a.jpg?OSSAccessKeyId=k&Expires=1800000000&Signature=" + "s" * 27


def window_of(references, keys=None):
    rows = pa.record_batch({"url": pa.array(references, pa.string())})
    names = None if keys is None else pa.array(keys, pa.string())
    return cut(rows, rows.column("url"), names, unsigned_url)


def test_duplicates_and_resigned_urls_are_one_image():
    """Three spellings of one object are asked about once, and every row knows its answer."""
    window = window_of([SIGNED, "https://b.oss-cn-shanghai.aliyuncs.com/a.jpg", "b.jpg", SIGNED.replace("=ss", "=tt")])
    assert [image.key for image in window.images] == ["https://b.oss-cn-shanghai.aliyuncs.com/a.jpg", "b.jpg"]
    assert window.index.to_pylist() == [0, 0, 1, 0]


def test_null_and_blank_rows_belong_to_no_image():
    """A row without a reference stays a row; surrounding blanks of a reference do not count."""
    window = window_of([None, "", "  ", " b.jpg "])
    assert window.index.to_pylist() == [None, None, None, 0]
    assert [image.url for image in window.images] == ["b.jpg"]


def test_a_key_column_decides_what_is_the_same_image():
    """With key="sku" two URLs of one product are one image; where the key is missing or blank, the URL decides."""
    window = window_of(["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"], keys=["7", "7", None, "", " "])
    assert [image.key for image in window.images] == ["7", "c.jpg", "d.jpg", "e.jpg"]


def test_keys_are_taken_as_they_are_written():
    """A name that the caller gives is no reference: blanks, escapes and fragments tell images apart."""
    names = ["x", "x ", "http://shop/#1", "http://shop/#2", "a%20b", "a b"]
    window = window_of(["a.jpg"] * len(names), keys=names)
    assert [image.key for image in window.images] == names


def test_a_key_that_is_a_url_carries_no_signature():
    """What identifies an image is stored, and a signature is a secret."""
    window = window_of(["a.jpg", "b.jpg"], keys=[SIGNED, SIGNED.replace("=ss", "=tt")])
    assert [image.key for image in window.images] == ["https://b.oss-cn-shanghai.aliyuncs.com/a.jpg"]


def test_shown_urls_carry_no_signature():
    """What leaves in the long table is the URL without its signature; the call still gets the signed one."""
    window = window_of([SIGNED])
    assert window.urls.to_pylist() == ["https://b.oss-cn-shanghai.aliyuncs.com/a.jpg"]
    assert window.images[0].url == SIGNED
    assert "Signature" not in repr(window.images[0])


def test_inline_pictures_are_known_by_their_digest():
    """A data: URL does not become a key of a megabyte."""
    window = window_of(["data:image/png;base64," + "A" * 100_000] * 2)
    assert len(window.images) == 1
    assert len(window.images[0].key) < 100


def test_slices_cover_every_row_once():
    """Cutting loses nothing and leaves empty batches out."""
    batches = [pa.record_batch({"n": list(range(10))}), pa.record_batch({"n": pa.array([], pa.int64())})]
    assert [s.column("n").to_pylist() for s in slices(iter(batches), 4)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_seen_knows_a_key_once_however_many_follow(monkeypatch):
    """Distinct counting holds across the border between fresh and sorted keys."""
    monkeypatch.setattr("imgtag_pipeline.run.batches.SEEN_FRESH", 10)
    seen = Seen()
    for start in range(0, 100, 7):
        assert all(seen.first_time([str(n) for n in range(start, start + 7)]))
    assert not any(seen.first_time([str(n) for n in range(98)]))


async def test_pending_gives_every_image_to_exactly_one_worker():
    """Workers that wait before images come get them all, in batches of at most the size asked for."""
    pending = Pending()
    workers = [asyncio.create_task(pending.take(2)) for _ in range(2)]
    await asyncio.sleep(0)
    pending.put([Image(str(n), str(n)) for n in range(5)])
    taken = [image.key for task in workers for image in await task]
    pending.close()
    taken += [image.key for image in await pending.take(9)]
    assert taken == ["0", "1", "2", "3", "4"]
    assert await pending.take(1) == []


async def test_a_cancelled_worker_takes_no_image_with_it():
    """An image that a cancelled worker was woken for is still there for the next one."""
    pending = Pending()
    worker = asyncio.create_task(pending.take(1))
    await asyncio.sleep(0)
    worker.cancel()
    pending.put([Image("a", "a")])
    assert [image.key for image in await pending.take(1)] == ["a"]
