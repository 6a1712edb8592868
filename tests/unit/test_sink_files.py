"""OUT is written whole or not at all, on a disk and elsewhere."""

import errno
import os
import re
import resource
import signal
import stat

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError, OutputError
from imgtag_pipeline.pipeline import expand
from imgtag_pipeline.sink import disk
from imgtag_pipeline.sink.files import FileSink
from imgtag_pipeline.source.files import open_files

REPORT = {"rows": 4, "failed": {"HTTP404": 1}, "yuan": None}
URLS = ["two.jpg", None, "none.jpg", "gone.jpg", "two.jpg"]
TABLE = pa.table({"url": URLS, "n": [1, 2, 3, 4, 5]})
BOX = {"x": 1.0, "y": 2.0, "width": 3.5, "height": 4.0}
ANSWERS = {
    "two.jpg": [
        {"tag": "cat", "confidence": 0.9, "kind": "label", "bbox": BOX},
        {"tag": "猫", "extra": '{"a": "b,\\n"}'},
    ],
    "none.jpg": [],
}


def shaped(shape="long", table=TABLE):
    """A finished table: every shape of the same small job."""
    urls = table.column("url").combine_chunks()
    distinct = list(dict.fromkeys(url for url in urls.to_pylist() if url))
    index = pa.array([distinct.index(url) if url else None for url in urls.to_pylist()], pa.int64())
    found = pa.RecordBatch.from_pylist([outcome(url) for url in distinct], schema=schema.OUTCOME)
    if shape == "long":
        batch = expand.long(table.select([]), urls, found, index, provider="local")
    elif shape == "wide":
        batch = expand.wide(table, found, index, vocabulary=["cat", "猫"])
    else:
        batch = expand.nested(table, found, index)
    return pa.Table.from_batches([batch])


def outcome(url):
    tags = ANSWERS.get(url)
    status = "failed" if tags is None else "ok" if tags else "empty"
    code = "HTTP404" if tags is None else None
    return {"key": url, "url": url, "status": status, "tags": tags, "error_code": code, "error": code}


def save(out, shape="long", table=TABLE, **options):
    """Write that table to OUT, two rows at a time."""
    result = shaped(shape, table)
    with FileSink(str(out), **options) as sink:
        for batch in result.to_batches(max_chunksize=2):
            sink.write(batch)
        sink.finish(result.schema, REPORT)
    return result


def stopped(sink, batch, error):
    """A job that ends with an error after one batch."""
    with sink:
        sink.write(batch)
        raise error


def all_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_nothing_shows_before_the_end(tmp_path):
    """While it is written, OUT does not exist and no reader of the folder sees a file of its kind."""
    result = shaped()
    with FileSink(f"{tmp_path}/new/out.parquet", group_rows=1) as sink:
        assert not (tmp_path / "new").exists()
        for batch in result.to_batches():
            sink.write(batch)
        assert not any(name.endswith(".parquet") for name in all_files(tmp_path))
        sink.finish(result.schema, REPORT)
    assert all_files(tmp_path) == ["new/out.parquet"]
    assert stat.S_IMODE((tmp_path / "new/out.parquet").stat().st_mode) & 0o400


@pytest.mark.parametrize("name", ["out.parquet", "out.csv.gz", "new/deep/out.jsonl", "out/", "memory"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ConfigError("stop")])
def test_a_job_that_stops_leaves_nothing(tmp_path, name, error):
    """An interrupt or an error between batches takes away what was begun, folders too."""
    out = "memory://sink-stopped/out.parquet" if name == "memory" else f"{tmp_path}/{name}"
    with pytest.raises((KeyboardInterrupt, ConfigError)):
        stopped(FileSink(out, group_rows=1), TABLE.to_batches()[0], error)
    assert list(tmp_path.iterdir()) == []
    assert not fsspec.filesystem("memory").exists("/sink-stopped")


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out/"])
def test_existing_output_is_refused_until_it_may_be_replaced(tmp_path, name):
    """The old output stays whole until the new one is complete."""
    out = f"{tmp_path}/{name}"
    save(out, table=TABLE.slice(0, 1))
    before = {path: (tmp_path / path).read_bytes() for path in all_files(tmp_path)}
    with pytest.raises(ConfigError, match="exists already"):
        FileSink(out)
    with pytest.raises(ConfigError, match="stop"):
        stopped(FileSink(out, overwrite=True, group_rows=1), TABLE.to_batches()[0], ConfigError("stop"))
    assert {path: (tmp_path / path).read_bytes() for path in all_files(tmp_path)} == before
    expected = save(out, overwrite=True)
    assert open_files(out).rows == expected.num_rows
    assert set(all_files(tmp_path)) == set(before)


def test_output_that_appears_meanwhile_is_not_overwritten(tmp_path):
    """Two jobs with one OUT: the second to finish says so and leaves the first one's table."""
    with FileSink(f"{tmp_path}/out.parquet") as sink:
        sink.write(TABLE.to_batches()[0])
        (tmp_path / "out.parquet").write_text("first")
        with pytest.raises(ConfigError, match="exists already"):
            sink.finish(TABLE.schema, REPORT)
    assert (tmp_path / "out.parquet").read_text() == "first"
    assert all_files(tmp_path) == ["out.parquet"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    """overwrite=True replaces only what this package wrote."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.docx"):
        FileSink(f"{tmp_path}/out/", overwrite=True)
    assert all_files(tmp_path) == ["out/thesis.docx"]


def test_an_existing_empty_folder_is_filled(tmp_path):
    """A folder that was made beforehand becomes the dataset, with or without the slash."""
    (tmp_path / "out").mkdir()
    save(tmp_path / "out")
    assert all_files(tmp_path) == ["out/_imgtag.json", "out/part-00000.parquet"]


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("out.xlsx", "let it end in"),
        ("out.parquet.gz", "let it end in"),
        ("file.txt/out.parquet", "not a folder"),
        ("file.txt/", "is a file"),
        ("nope://out.parquet", "cannot be opened"),
    ],
)
def test_impossible_outputs_are_refused_and_nothing_is_written(tmp_path, out, reason):
    """A suffix that says nothing, a file where a folder should be, an unknown scheme: one sentence, beforehand."""
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ConfigError, match=reason):
        FileSink(out if "://" in out else f"{tmp_path}/{out}")
    assert all_files(tmp_path) == ["file.txt"]


def test_what_killed_jobs_left_is_swept_by_the_next(tmp_path):
    """A temporary file that nobody holds any more goes; one that is being written stays."""
    old = tmp_path / ".out.parquet.imgtag-dead"
    old.write_text("x")
    os.utime(old, (0, 0))
    with FileSink(f"{tmp_path}/out.parquet", group_rows=1) as alive:
        alive.write(TABLE.to_batches()[0])
        assert not old.exists()
        (held,) = tmp_path.glob(".out.parquet.imgtag-*")
        os.utime(held, (0, 0))
        save(tmp_path / "out.parquet")
        assert held.exists()
    assert all_files(tmp_path) == ["out.parquet"]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out.jsonl.gz", "out/"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, name):
    """When the bytes do not fit, one sentence says so and the half file is gone."""
    noise = np.random.default_rng(0).bytes(400_000).hex()
    table = pa.table({"url": ["two.jpg"], "own": [noise]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be written .*nothing is left"):
            save(f"{tmp_path}/{name}", "wide", table=table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_large_datasets_are_cut_into_parts(tmp_path):
    """A folder gets a new part when the current one is large; together they are the table, in order."""
    expected = save(f"{tmp_path}/out/", "wide", part_bytes=1, group_rows=2)
    assert [name for name in all_files(tmp_path / "out") if name.startswith("part")] == [
        f"part-0000{number}.parquet" for number in range(3)
    ]
    assert parquet.read_table(tmp_path / "out").equals(expected)


class SlowStore(MemoryFileSystem):
    """A filesystem whose puts are not whole, like SFTP; a put whose name holds "full" fails half way."""

    protocol = "slowstore"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def put_file(self, lpath, rpath, **kwargs):
        super().put_file(lpath, rpath, **kwargs)
        if "full" in rpath and "part-00001" in rpath:
            raise OSError(errno.ENOSPC, "No space left on device")

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("slowstore://", "memory://"))


fsspec.register_implementation("slowstore", SlowStore, clobber=True)


@pytest.mark.parametrize("scheme", ["memory", "slowstore"])
@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "deep/out/"])
def test_remote_output_is_one_whole_object(scheme, name):
    """Any fsspec filesystem takes OUT; nothing but OUT is left there, and it is refused the second time."""
    out = f"{scheme}://sink-{scheme}/{name}"
    expected = save(out)
    assert open_files(out).rows == expected.num_rows
    with pytest.raises(ConfigError, match="exists already"):
        FileSink(out)
    save(out, overwrite=True)
    filesystem = fsspec.filesystem(scheme)
    names = [path.rpartition("/")[2] for path in filesystem.find(f"/sink-{scheme}/{name}".rstrip("/"))]
    names = [re.sub(r"part-00000-[0-9a-f]{8}\.", "part-00000.", each) for each in names]
    assert names == (["_imgtag.json", "part-00000.parquet"] if name.endswith("/") else [name])
    filesystem.rm(f"/sink-{scheme}", recursive=True)


def test_remote_parts_are_taken_away_when_one_fails():
    """A store that fills up half way through a dataset is left as it was."""
    with pytest.raises(OutputError, match="No space left"):
        save("slowstore://full/out/", part_bytes=1, group_rows=2)
    assert fsspec.filesystem("slowstore").find("/full") == []


def test_remote_folder_that_cannot_be_replaced_stays_as_it_was(monkeypatch):
    """New parts have names of their own, so a store that fails half way still holds the old table, and only it."""
    expected = save("memory://replaced/out/")
    puts = []

    def fails_at_the_second(self, path, value, **words):
        puts.append(path)
        if len(puts) == 2:
            raise OSError(errno.ENOSPC, "No space left on the store")
        return real(self, path, value, **words)

    real = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fails_at_the_second)
    with pytest.raises(OutputError, match="No space left"):
        save("memory://replaced/out/", overwrite=True, part_bytes=1, group_rows=2)
    monkeypatch.undo()
    assert open_files("memory://replaced/out/").rows == expected.num_rows
    assert len(fsspec.filesystem("memory").find("/replaced")) == 2
    fsspec.filesystem("memory").rm("/replaced", recursive=True)


@pytest.mark.parametrize(("refused", "message", "rows"), [(1, "nothing is left", "old"), (2, "remove .*part", "both")])
def test_remote_parts_that_cannot_be_removed(monkeypatch, refused, message, rows):
    """Before an old part is gone all is put back; after that, those that stay are named."""
    save("memory://kept/out/", part_bytes=1, group_rows=2)
    old = fsspec.filesystem("memory").find("/kept")
    removed = []

    def refuses(self, path):
        removed.append(path)
        if len(removed) == refused:
            raise PermissionError(errno.EACCES, "may not")
        return real(self, path)

    real = MemoryFileSystem._rm
    monkeypatch.setattr(MemoryFileSystem, "rm_file", refuses)
    with pytest.raises(OutputError, match=message):
        save("memory://kept/out/", overwrite=True)
    monkeypatch.undo()
    found = fsspec.filesystem("memory").find("/kept")
    assert found == old if rows == "old" else set(found) - set(old)
    fsspec.filesystem("memory").rm("/kept", recursive=True)


def test_folder_whose_replacement_was_cut_in_two_is_given_back(tmp_path):
    """Where names cannot be exchanged, a kill between two renames leaves the old folder aside; it is not swept."""
    save(f"{tmp_path}/out/")
    (tmp_path / "out").rename(tmp_path / ".out.imgtag-0123-old")
    with pytest.raises(ConfigError, match="exists already"):
        FileSink(f"{tmp_path}/out/")
    assert all_files(tmp_path) == ["out/_imgtag.json", "out/part-00000.parquet"]


def test_two_steps_serve_where_names_cannot_be_exchanged(tmp_path, monkeypatch):
    """On other systems a folder is replaced by two renames."""
    monkeypatch.setattr(disk.sys, "platform", "other")
    for _ in range(2):
        save(f"{tmp_path}/out/", overwrite=True)
    assert all_files(tmp_path) == ["out/_imgtag.json", "out/part-00000.parquet"]


def test_output_that_appears_at_the_last_moment_is_not_overwritten(tmp_path):
    """Two jobs with one OUT: the second is told, however close they come."""
    for name in ("ours", "theirs"):
        (tmp_path / name).write_text(name)
    with pytest.raises(FileExistsError):
        disk.show(tmp_path / "ours", tmp_path / "theirs", overwrite=False)
    assert (tmp_path / "theirs").read_text() == "theirs"
    disk.show(tmp_path / "ours", tmp_path / "theirs", overwrite=True)
    assert all_files(tmp_path) == ["theirs"]


def test_link_to_a_folder_is_replaced_as_a_link(tmp_path):
    """What the link leads to is somebody else's and stays."""
    save(f"{tmp_path}/real/")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    save(f"{tmp_path}/out/", "wide", overwrite=True)
    assert not (tmp_path / "out").is_symlink()
    assert "real/part-00000.parquet" in all_files(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_name_with_glob_marks_sweeps_its_own_leftovers_only(tmp_path):
    """`a[1].csv` is a name and no pattern."""
    for name in (".a[1].csv.imgtag-dead", ".a1.csv.imgtag-dead"):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (0, 0))
    save(f"{tmp_path}/a[1].csv")
    assert all_files(tmp_path) == [".a1.csv.imgtag-dead", "a[1].csv"]
