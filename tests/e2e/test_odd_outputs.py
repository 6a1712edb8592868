"""OUT as people name it by mistake: its own input, a place that cannot be written, a URL that is none."""

import os
import subprocess
import sys
import tempfile
from typing import ClassVar

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.errors import ConfigError, OutputError
from imgtag_pipeline.testing import environment, running_emulator


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A folder with an input of two pictures, to work in."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "b.png")
    folder = tmp_path / "in"
    folder.mkdir()
    urls = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    pq.write_table(pa.table({"url": urls, "n": [1, 2]}), folder / "in.parquet")
    monkeypatch.chdir(tmp_path)
    (tmp_path.parent / f"{tmp_path.name}-temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.parent / f"{tmp_path.name}-temporary"))
    return tmp_path


def tag(source, out, **words):
    return imgtag.enrich(source, out, progress=False, **words)


# --- its own input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("in/in.parquet", "in/in.parquet"),
        ("in/in.parquet", "./in/../in/in.parquet"),
        ("in/in.parquet", "file://{work}/in/in.parquet"),
        ("in/in.parquet", "link.parquet"),
        ("in/in.parquet", "hard.parquet"),
        ("in", "in/in.parquet"),
        ("in/*.parquet", "in/in.parquet"),
        ("in/in.parquet", "in/"),
    ],
)
def test_out_that_is_an_input_is_refused(work, source, out):
    """By any spelling; the input is as it was."""
    os.symlink("in/in.parquet", "link.parquet")
    os.link("in/in.parquet", "hard.parquet")
    before = (work / "in" / "in.parquet").read_bytes()
    with pytest.raises(ConfigError, match=r"OUT .*(take the place of its input|already|not ours)"):
        tag(source, out.format(work=work), overwrite=True)
    assert (work / "in" / "in.parquet").read_bytes() == before


@pytest.mark.parametrize("shape", ["wide", "nested"])
def test_a_table_that_keeps_the_rows_may_replace_its_input(work, shape):
    """With `overwrite`, and never without."""
    with pytest.raises(ConfigError):
        tag("in/in.parquet", "in/in.parquet", shape=shape)
    tag("in/in.parquet", "in/in.parquet", shape=shape, overwrite=True)
    assert pq.read_table("in/in.parquet").column("n").to_pylist() == [1, 2]


def test_a_glob_does_not_reach_below_its_folder(work):
    """`in/*.parquet` never reads what lies in a folder of `in`."""
    assert tag("in/*.parquet", "in/sub/out.parquet").rows == 2


@pytest.mark.parametrize("store", ["nul\0", "data:,", "ftp://127.0.0.1:1/x", "nosuch://x", "/sys/tags", "x" * 300])
def test_a_store_that_cannot_be_is_one_sentence(work, store):
    """Before any call, exit code 2, and nothing is made."""
    if "\0" not in store:
        command = [sys.executable, "-m", "imgtag_pipeline", "label", "in/in.parquet", "--out", "o.parquet"]
        ended = subprocess.run([*command, "--checkpoint", store], capture_output=True, text=True)
        assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)
    with pytest.raises(ConfigError) as caught:
        tag("in/in.parquet", "o.parquet", checkpoint=store)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir()) == ["a.png", "b.png", "in"]


@pytest.mark.parametrize(
    ("source", "out"), [("in", "in/out.parquet"), ("in/*.parquet", "in/out.parquet"), ("in", "in/o/")]
)
def test_out_among_the_inputs_is_refused(work, source, out):
    """The next night would read it as input."""
    with pytest.raises(ConfigError, match="the next run would read it"):
        tag(source, out, overwrite=True)
    assert os.listdir("in") == ["in.parquet"]


def test_three_nights_read_the_same_rows(work):
    """A tag store, results of an older version and what a killed run left lie below the input folder: none is input."""
    tag("in/in.parquet", "old/")
    os.rename("old", "in/old")
    (work / "in" / ".in.parquet.imgtag-0123").write_bytes(b"torn")
    for _ in range(3):
        report = tag("in", "out.parquet", checkpoint="in/tags", overwrite=True)
        assert report.rows == 2


@pytest.mark.parametrize("source", ["in/**/*.parquet", "memory://nights/in/**/*.parquet"])
def test_stores_and_results_below_a_glob_are_no_input(work, source):
    """The glob finds their Parquet files, and not what marks them."""
    if source.startswith("memory:"):
        folder = fsspec.filesystem("memory")
        folder.pipe_file("/nights/in/in.parquet", (work / "in" / "in.parquet").read_bytes())
    root = source.partition("/**")[0]
    for night in range(3):
        report = tag(source, f"{root}-out-{night}.parquet", checkpoint=f"{root}/tags")
        assert report.rows == 2
        tag(f"{root}/in.parquet", f"{root}/results/{night}/")


@pytest.mark.parametrize("name", ["manifest.json", "claims.lock", "_imgtag.json"])
def test_a_strangers_folder_with_such_a_name_is_input(work, name):
    """Told by what stands in the file: no row is left out for a name."""
    (work / "in" / "day1").mkdir()
    (work / "in" / "in.parquet").rename(work / "in" / "day1" / "a.parquet")
    (work / "in" / "day1" / name).write_text('{"files": ["a.parquet"]}')
    assert tag("in/day*/*.parquet", "out.parquet").rows == 2
    if name != "_imgtag.json":  # the folder is then read whole, and a JSON file is a kind of file
        return
    assert tag("in", "again.parquet").rows == 2


def test_a_glob_through_a_link_looks_where_the_link_leads(work):
    """OUT there would be read the next night."""
    os.symlink("in", "link")
    with pytest.raises(ConfigError, match="the next run would read it"):
        tag("link/*.parquet", "in/x.parquet")


def test_files_of_two_file_systems_are_refused(work):
    """In either order, with both named."""
    fsspec.filesystem("memory").pipe_file("/two/in.parquet", (work / "in" / "in.parquet").read_bytes())
    for files in (["in/in.parquet", "memory://two/in.parquet"], ["memory://two/in.parquet", "in/in.parquet"]):
        with pytest.raises(ConfigError, match="different file systems"):
            tag(files, "out.parquet")


@pytest.mark.parametrize("command", ["status", "compact", "ledger"])
@pytest.mark.parametrize("store", ["ftp://127.0.0.1:1/x", "x" * 300, "oss://b/x"])
def test_a_look_at_a_store_that_cannot_be_is_one_sentence(work, monkeypatch, command, store):
    """The caller's mistake: exit code 2."""
    for name in ("OSS_ENDPOINT", "OSS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    ended = subprocess.run([sys.executable, "-m", "imgtag_pipeline", command, store], capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr, ended.stderr.count("\n")) == (2, False, 1)


# --- a place that cannot be written ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "out",
    [
        "/sys/x.parquet",
        "/sys/new/x.parquet",
        "/proc/x.csv",
        "/sys/x.jsonl.gz",
        "/sys/folder/",
        "a.png/x.parquet",
        "in",
        "x" * 300 + ".parquet",
        "nul\0.parquet",
        "-",
        "ftp://127.0.0.1:1/x.parquet",
        "data:,",
        "nosuch://x/y.parquet",
        "out.xlsx",
        "",
    ],
)
def test_an_output_that_cannot_be_written_costs_no_call(work, out):
    """One sentence, exit code 2, no call, nothing left."""
    with running_emulator(is_synthetic=True) as cloud:
        command = [sys.executable, "-m", "imgtag_pipeline", "label", "in/in.parquet", "--out", out]
        options = ["--provider", "viapi/TaggingImage", "--endpoint", cloud.url, "--allow-local"]
        if "\0" in out:
            with pytest.raises(ConfigError, match="NUL"):
                tag("in/in.parquet", out)
            return
        ended = subprocess.run(
            [*command, *options], env={**os.environ, **environment(cloud)}, capture_output=True, text=True
        )
        assert cloud.ledger.calls == 0
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert ended.stderr.strip().splitlines()[-1].startswith("imgtag: ")
    assert sorted(os.listdir()) == ["a.png", "b.png", "in"]


@pytest.mark.parametrize(
    "source", ["x" * 300 + ".parquet", "nosuch://x/y.parquet", "ftp://127.0.0.1:1/x.parquet", "data:,", "/proc/1/mem"]
)
def test_an_input_that_cannot_be_read_is_one_sentence(work, source):
    """Whatever the file system raises."""
    with pytest.raises(ConfigError) as caught:
        tag(source, "out.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("what", ["in", "out"])
@pytest.mark.parametrize("options", [{}, {"endpoint": "http://127.0.0.1:1"}, {"key": "k", "secret": "wrong"}])
def test_a_bucket_that_says_no_is_one_sentence(work, what, options):
    """Without an endpoint, with one that nobody answers at, with a wrong secret: no call is made."""
    pytest.importorskip("ossfs")
    with running_emulator(is_synthetic=True) as cloud:
        words = {"endpoint": cloud.url, **options} if "key" in options else options
        places = ("in/in.parquet", "oss://bkt/x.parquet") if what == "out" else ("oss://bkt/x.parquet", "out.parquet")
        with pytest.raises(ConfigError) as caught:
            tag(*places, storage_options=words)
        assert "wrong" not in str(caught.value).replace("what was wrong", "")
        assert "\n" not in str(caught.value)


class Refusing(fsspec.get_filesystem_class("memory")):
    """A store that takes small objects only until it is told to take none."""

    protocol = ("s3", "refusing")
    cachable = False
    store: ClassVar = {}
    is_shut = False

    def pipe_file(self, path, value, **words):
        if Refusing.is_shut and not path.endswith("probe"):
            raise RuntimeError("the bucket is gone")
        super().pipe_file(path, value, **words)


def test_a_finished_table_that_the_bucket_does_not_take_is_kept(work, monkeypatch):
    """The error names the local file."""
    fsspec.register_implementation("refusing", Refusing, clobber=True)
    monkeypatch.setattr(Refusing, "is_shut", True)
    with pytest.raises(OutputError, match=r"the finished table is kept at '(.*)'") as caught:
        tag("in/in.parquet", "refusing://b/out.parquet")
    kept = str(caught.value).rpartition("kept at '")[2].rstrip("'")
    assert pq.read_table(kept).column("url").to_pylist()


def test_a_bucket_that_is_missing_costs_no_call(work):
    """OUT is tried before the first call: a small object is put and removed."""
    pytest.importorskip("ossfs")
    with running_emulator(is_synthetic=True, oss=OssOptions(creates_buckets=False)) as cloud:
        keys = {"endpoint": cloud.url, "key": "emulator", "secret": "emulator"}
        provider = imgtag.providers.Viapi(
            action="TaggingImage", endpoint=cloud.url, credentials=imgtag.providers.Keys("emulator", "emulator")
        )
        pq.write_table(pa.table({"url": ["https://a.example/1.jpg"]}), "urls.parquet")
        with pytest.raises(ConfigError, match="cannot be written"):
            tag("urls.parquet", "oss://no-such-bucket/out.parquet", storage_options=keys, provider=provider)
        assert [entry for entry in cloud.ledger if entry.family == "viapi"] == []


# --- what is no file, and lists of files ----------------------------------------------------------------------------


def test_what_is_no_file_is_one_sentence(work):
    """A table, a class instead of a provider."""
    frame = pd.read_parquet("in/in.parquet")
    for wrong in (frame, 7, None, [frame]):
        with pytest.raises(ConfigError, match="not the name of a file"):
            tag(wrong, "out.parquet")
    with pytest.raises(ConfigError, match="list of files is empty"):
        tag([], "out.parquet")
    with pytest.raises(ConfigError, match=r"the class Local; build one"):
        imgtag.label(frame, provider=imgtag.providers.Local, progress=False)


def test_a_list_of_files_is_read_in_order(work):
    """Paths of several kinds."""
    pq.write_table(pa.table({"url": [str(work / "a.png")], "n": [3]}), "more.parquet")
    report = tag(["in/in.parquet", work / "more.parquet"], "out.parquet", shape="wide")
    assert report.rows == 3
    assert pq.read_table("out.parquet").column("n").to_pylist() == [1, 2, 3]
