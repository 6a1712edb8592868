"""Where stores and files behind URLs get their keys, and where this host keeps what is on its way."""

import json
import os
import subprocess
import sys

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.checkpoint.outbox import spool_folder
from imgtag_pipeline.cli.arguments import storage_options
from imgtag_pipeline.core.filesystems import path_text, storage_words
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.testing import environment, put_object, running_emulator


def test_storage_options_of_the_command_line():
    """`name=value`, options inside options, truth values; nonsense is one sentence."""
    assert storage_options(["key=a=b", "client_kwargs.endpoint_url=http://127.0.0.1:1", "anon=false"]) == {
        "key": "a=b",
        "client_kwargs": {"endpoint_url": "http://127.0.0.1:1"},
        "anon": False,
    }
    assert storage_options([]) is None
    with pytest.raises(ConfigError, match="not name=value"):
        storage_options(["key"])


def test_oss_keys_of_the_environment_reach_the_file_system(monkeypatch):
    """The names of README; options that are given come first, and other schemes are not touched."""
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "b")
    monkeypatch.delenv("ALIBABA_CLOUD_SECURITY_TOKEN", raising=False)
    assert storage_words("oss://b/k", {"endpoint": "e"}) == {"key": "a", "secret": "b", "endpoint": "e"}
    assert storage_words("oss://b/k", {"key": "mine", "secret": "mine"}) == {"key": "mine", "secret": "mine"}
    assert storage_words("s3://b/k", None) == {}
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "c")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "d")
    monkeypatch.setenv("OSS_SESSION_TOKEN", "t")
    assert storage_words("oss://b/k", None) == {"key": "c", "secret": "d", "token": "t"}


class Url:
    """As UPath and Airflow's ObjectStoragePath are: an fsspec path that is no path of this machine."""

    protocol, path = "s3", "b/k.parquet"

    def __str__(self):
        return "s3://b/k.parquet"

    def __fspath__(self):
        raise TypeError("not local")


def test_paths_of_fsspec_are_taken_as_their_urls(tmp_path):
    """And everything with `os.PathLike`."""
    assert path_text(Url()) == "s3://b/k.parquet"
    assert path_text(tmp_path) == str(tmp_path)


def test_the_spool_follows_the_environment(monkeypatch, tmp_path):
    """IMGTAG_SPOOL, then XDG_CACHE_HOME, then ~/.cache; `spool=` before all."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("IMGTAG_SPOOL", raising=False)
    assert spool_folder("s3://b/t", None, None).parent == tmp_path / "home/.cache/imgtag_pipeline/spool"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert spool_folder("s3://b/t", None, None).parent == tmp_path / "cache/imgtag_pipeline/spool"
    monkeypatch.setenv("IMGTAG_SPOOL", str(tmp_path / "spool"))
    assert spool_folder("s3://b/t", None, None).parent == tmp_path / "spool"
    assert spool_folder("s3://b/t", None, tmp_path / "mine").parent == tmp_path / "mine"


def test_a_spool_that_cannot_be_written_is_named(tmp_path):
    """Not the bucket."""
    frame = pd.DataFrame({"url": [str(tmp_path / "a.png")]})
    with pytest.raises(ConfigError, match=r"the spool /sys/spool.*cannot be written.*IMGTAG_SPOOL"):
        imgtag.label(frame, checkpoint="memory://b/t", spool="/sys/spool", progress=False)


@pytest.mark.sdk
def test_a_run_on_oss_with_nothing_but_the_documented_variables(tmp_path):
    """IN, OUT and checkpoint on oss:// from the command line: keys from the environment, the endpoint as an option."""
    with running_emulator(is_synthetic=True) as cloud:
        source = tmp_path / "in.parquet"
        pq.write_table(pa.table({"url": ["https://a.example/1.jpg", "https://a.example/2.jpg"]}), source)
        put_object(cloud, "bkt", "in.parquet", source.read_bytes())
        env = {**os.environ, **environment(cloud), "HOME": str(tmp_path), "IMGTAG_SPOOL": str(tmp_path / "spool")}
        program = [sys.executable, "-m", "imgtag_pipeline"]
        command = [*program, "label", "oss://bkt/in.parquet", "--out", "oss://bkt/o.parquet"]
        words = [
            "--provider",
            "viapi/TaggingImage",
            "--endpoint",
            cloud.url,
            "--checkpoint",
            "oss://bkt/tags",
            "--json",
        ]
        storage = ["--storage-option", f"endpoint={cloud.url}"]
        ended = subprocess.run([*command, *words, *storage], env=env, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["ok"] == 2
        status = [*program, "status", "oss://bkt/tags", "--json", *storage]
        told = subprocess.run(status, env=env, capture_output=True, text=True)
        assert json.loads(told.stdout)[0]["images"] == 2
        assert (tmp_path / "spool").is_dir()


def test_a_spool_of_a_store_that_was_deleted_is_not_believed(tmp_path):
    """What waits there belongs to a store that is gone: the images are asked again."""
    memory = fsspec.filesystem("memory")
    with running_emulator(is_synthetic=True) as cloud:
        provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"))
        frame = pd.DataFrame({"url": ["https://a.example/1.jpg"]})
        words = {"provider": provider, "checkpoint": "memory://gone/tags", "spool": tmp_path, "progress": False}
        imgtag.label(frame, **words)
        memory.rm("/gone", recursive=True)
        imgtag.label(frame, **words)
        assert cloud.ledger.billed == 2


def test_answers_that_wait_for_a_store_that_was_deleted_are_set_aside(tmp_path, caplog):
    """They were paid for, so they are kept, and told; the new store does not take them for its own."""
    memory = fsspec.filesystem("memory")
    with running_emulator(is_synthetic=True) as cloud:
        provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"))
        frame = pd.DataFrame({"url": ["https://a.example/1.jpg"]})
        words = {"provider": provider, "checkpoint": "memory://left/tags", "spool": tmp_path, "progress": False}
        imgtag.label(frame, **words)
        (part,) = [name for name in memory.find("/left") if name.endswith(".parquet")]
        (outbox,) = tmp_path.rglob("outbox")
        (outbox / part.rpartition("/")[2]).write_bytes(memory.cat_file(part))  # as a put that failed leaves it
        memory.rm("/left", recursive=True)
        imgtag.label(frame, **words)
        assert cloud.ledger.billed == 2
        assert "event=spool_set_aside files=1" in caplog.text
        assert len(list(outbox.parent.glob("deleted-*/*.parquet"))) == 1
