"""`import imgtag_pipeline` registers `df.imgtag` and does nothing else, as the interpreter itself sees it."""

import json
import subprocess
import sys

import pytest

WATCH = """
import importlib.metadata, json, os, sys, threading
import numpy, pandas, pyarrow, pyarrow.compute, pyarrow.dataset, pyarrow.fs, pyarrow.parquet, pyarrow.csv
import asyncio, concurrent.futures.thread, http, ssl, uuid, hashlib, secrets, importlib.resources, email.utils
import msgspec

before = set(sys.modules)
threads = threading.active_count()
seen = {"open": [], "socket": [], "process": [], "thread": [], "environ": []}
NOTED = {"open": "open", "os.listdir": "open", "os.scandir": "open", "os.mkdir": "open", "sqlite3.connect": "open"}


def note(event, arguments):
    if event in NOTED:
        seen["open"].append(str(arguments[0]))
    elif event.startswith(("socket.", "urllib.", "http.")):
        seen["socket"].append(event)
    elif event.startswith(("subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system")):
        seen["process"].append(event)
    elif event.startswith("_thread.start"):
        seen["thread"].append(event)


class Recorder(dict):
    def __getitem__(self, name):
        seen["environ"].append(os.fsdecode(name))
        return super().__getitem__(name)

    def get(self, name, default=None):
        seen["environ"].append(os.fsdecode(name))
        return super().get(name, default)

    def __contains__(self, name):
        seen["environ"].append(os.fsdecode(name))
        return super().__contains__(name)


data = os.environ._data
os.environ._data = Recorder(data)
sys.addaudithook(note)
import imgtag_pipeline
facts = {**seen, "threads": threading.active_count() - threads, "modules": sorted(set(sys.modules) - before)}
facts["is_registered"] = hasattr(pandas.DataFrame, "imgtag") and hasattr(pandas.Series, "imgtag")
facts["package"] = os.path.dirname(imgtag_pipeline.__file__)
facts["library"] = os.path.dirname(os.__file__)
print(json.dumps(facts))
"""
HEAVY = {
    *["aiohttp", "PIL", "fsspec", "redis", "polars", "duckdb", "ossfs", "oss2", "tqdm", "typer", "matplotlib"],
    *["alibabacloud_credentials", "requests", "urllib3", "pytest", "IPython", "ipykernel", "dask", "pyspark"],
    *["airflow", "prefect"],
}


@pytest.fixture(scope="module")
def facts():
    """What importing did, in a fresh interpreter in which the dependencies that are always there are imported."""
    run = subprocess.run([sys.executable, "-c", WATCH], capture_output=True, text=True, check=True)
    return {**json.loads(run.stdout), "stderr": run.stderr}


def test_the_accessors_are_there(facts):
    """After the import a frame and a Series have `imgtag`."""
    assert facts["is_registered"]
    assert facts["stderr"] == ""


def test_no_file_is_opened_but_the_modules_themselves(facts):
    """No configuration, no cache, no folder: only Python's own reading of modules."""
    homes = (facts["package"], facts["library"])
    others = [path for path in facts["open"] if not path.startswith(homes)]
    assert [path for path in others if not path.endswith((".py", ".pyc", ".so", "site-packages"))] == []
    assert all(path.endswith((".py", ".pyc")) or "." not in path.rpartition("/")[2] for path in facts["open"])


def test_no_thread_no_socket_no_process(facts):
    """Nothing runs behind the caller's back."""
    assert (facts["threads"], facts["thread"], facts["socket"], facts["process"]) == (0, [], [], [])


def test_the_environment_is_not_read(facts):
    """Not one variable: keys are looked up when a provider needs them."""
    assert facts["environ"] == []


def test_nothing_heavy_or_optional_is_imported(facts):
    """HTTP, pictures, file systems and other tables are imported when they are used."""
    assert HEAVY.isdisjoint(module.split(".")[0] for module in facts["modules"])
    own = {module for module in facts["modules"] if module.startswith("imgtag_pipeline.")}
    assert not {module for module in own if module.split(".")[1] in ("tagger", "emulator", "testing", "cli", "demo")}
