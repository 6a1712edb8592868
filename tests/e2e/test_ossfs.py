"""ossfs, pandas and pyarrow on the emulator: whole objects written with `pipe_file`, read by anybody."""

import io
import os

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread
from imgtag_pipeline.emulator.faults import parse_all

ossfs = pytest.importorskip("ossfs")

pytestmark = pytest.mark.sdk
TABLE = pa.table({"url": [f"https://x/{n}.jpg" for n in range(1000)], "tag": ["猫", "dog"] * 500})


@pytest.fixture(scope="module")
def running():
    with run_in_thread(EmulatorOptions()) as emulator:
        keys = {"endpoint": emulator.url, "key": "emulator", "secret": "emulator"}
        ossfs.OSSFileSystem(**keys, skip_instance_cache=True).pipe_file("bkt/first", b"makes the bucket")
        yield emulator


@pytest.fixture
def cloud(running):
    running.ledger.clear()
    yield running
    running.faults.set(())


@pytest.fixture
def options(cloud):
    """What a user hands to fsspec."""
    return {"endpoint": cloud.url, "key": "emulator", "secret": "emulator"}


@pytest.fixture
def files(options):
    return ossfs.OSSFileSystem(**options, skip_instance_cache=True)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_parquet_written_whole_is_read_by_pandas(files, options):
    """A Parquet object put with one call is a data frame for pandas."""
    files.pipe_file("bkt/tags/part-0.parquet", parquet(TABLE))
    frame = pd.read_parquet("oss://bkt/tags/part-0.parquet", storage_options=options)
    assert frame["tag"].tolist() == TABLE["tag"].to_pylist()


def test_pandas_writes_what_pyarrow_reads(files, options):
    """pandas writes through ossfs' own file handle, pyarrow reads the same table back."""
    frame = TABLE.to_pandas()
    frame.to_parquet("oss://bkt/pandas.parquet", storage_options=options)
    frame.to_parquet("oss://bkt/pandas.parquet", storage_options=options)
    assert pq.read_table("bkt/pandas.parquet", filesystem=files).to_pylist() == TABLE.to_pylist()


def test_folder_of_parts_is_a_dataset(files):
    """A folder of parts under odd names is one pyarrow dataset, scanned with a filter."""
    for number in range(3):
        files.pipe_file(f"bkt/set/day=2024-01-0{number + 1}/部分 {number}+.parquet", parquet(TABLE))
    found = ds.dataset("bkt/set", filesystem=files, format="parquet", partitioning="hive")
    assert found.count_rows() == 3000
    assert found.to_table(filter=ds.field("tag") == "猫", columns=["url"]).num_rows == 1500


def test_large_object_goes_up_in_parts(files):
    """What is larger than ossfs' block is uploaded in parts, and comes back byte by byte."""
    data = os.urandom(11 << 20)
    files.pipe_file("bkt/large", data)
    assert files.cat_file("bkt/large") == data
    assert files.cat_file("bkt/large", start=5, end=9)[:4] == data[5:9]
    with files.open("bkt/large", "rb", block_size=1 << 20) as handle:
        handle.seek(10 << 20)
        assert handle.read(100) == data[10 << 20 : (10 << 20) + 100]


def test_folders_are_walked(files, tmp_path):
    """Listing, finding, globbing, copying, moving and removing behave as on a disk."""
    for name in ("a.txt", "b.txt", "deep/c.txt", "deep/er/d.txt"):
        files.pipe_file(f"bkt/tree/{name}", name.encode())
    assert sorted(name.rstrip("/") for name in files.ls("bkt/tree", detail=False)) == [
        "bkt/tree/a.txt",
        "bkt/tree/b.txt",
        "bkt/tree/deep",
    ]
    assert len(files.find("bkt/tree")) == 4
    assert sorted(files.glob("bkt/tree/**/*.txt"))[-1] == "bkt/tree/deep/er/d.txt"
    assert files.isdir("bkt/tree/deep")
    assert files.info("bkt/tree/a.txt")["size"] == 5
    assert not files.exists("bkt/tree/nothing")
    files.cp_file("bkt/tree/a.txt", "bkt/tree/copy.txt")
    files.mv("bkt/tree/b.txt", "bkt/tree/moved.txt")
    files.get_file("bkt/tree/copy.txt", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == b"a.txt"
    assert files.cat_file("bkt/tree/moved.txt") == b"b.txt"
    files.rm("bkt/tree", recursive=True)
    files.invalidate_cache()
    assert not files.exists("bkt/tree/a.txt")
    assert "bkt" in [name.strip("/") for name in files.ls("", detail=False)]


def test_missing_object_is_a_missing_file(files):
    """What is not there is FileNotFoundError, in a missing bucket too."""
    for path in ("bkt/nothing.parquet", "no-such-bucket/nothing.parquet"):
        with pytest.raises(FileNotFoundError):
            files.cat_file(path)


def test_wrong_secret_is_an_error(options):
    """A wrong secret is an error with the vendor's code, not a missing file."""
    files = ossfs.OSSFileSystem(**{**options, "secret": "wrong"}, skip_instance_cache=True)
    with pytest.raises(OSError, match="SignatureDoesNotMatch") as caught:
        files.cat_file("bkt/a")
    assert not isinstance(caught.value, FileNotFoundError)


def test_lost_reply_is_asked_again(files, cloud):
    """When the reply to a PUT is lost, ossfs puts again; the object is there once, and whole."""
    cloud.faults.set(parse_all(["reset-after#1@PutObject"]))
    files.pipe_file("bkt/retried", b"x" * 1000)
    assert files.cat_file("bkt/retried") == b"x" * 1000
    assert cloud.ledger.by_action["oss", "PutObject"] == 2


async def test_async_flavour_reads(files, options):
    """The asynchronous ossfs reads and lists; its writing does not work with today's aiohttp, anywhere."""
    files.pipe_file("bkt/async/相 1.bin", b"12345")
    waiting = ossfs.AioOSSFileSystem(**options, asynchronous=True, skip_instance_cache=True)
    await waiting.set_session()
    assert await waiting._cat_file("bkt/async/相 1.bin") == b"12345"
    assert await waiting._find("bkt/async") == ["bkt/async/相 1.bin"]
    await waiting._session.close()
