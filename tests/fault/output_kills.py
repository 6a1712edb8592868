"""A process that writes OUT again and again in children, each killed before a later step on the disk than the last.

Prints a JSON line per child: what was written, before which step it was killed, and what then stood at OUT.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import fsspec
import pyarrow as pa
from fsspec.implementations.dirfs import DirFileSystem

from imgtag_pipeline.sink.files import FileSink
from imgtag_pipeline.source.files import open_files

OLD, NEW = [f"old{n}" for n in range(6)], [f"new{n}" for n in range(9)]
STEPS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.scandir",
    "shutil.rmtree",
    "ctypes.dlopen",
}


class Store(DirFileSystem):
    """A remote store that keeps its objects in a folder of this machine."""

    protocol = "killstore"
    cachable = False

    def __init__(self, path="", **words):
        super().__init__(path=path, fs=fsspec.filesystem("file", auto_mkdir=True), **words)


fsspec.register_implementation("killstore", Store)


def save(out, urls, **words):
    table = pa.table({"url": urls})
    with FileSink(out, overwrite=True, group_rows=1, part_bytes=1, **words) as sink:
        for batch in table.to_batches(max_chunksize=3):
            sink.write(batch)
        sink.finish(table.schema, {"rows": len(urls)})


def found(out, **words):
    """What a reader sees at OUT: "nothing", "old", "new", or the odd rows themselves."""
    try:
        source = open_files(out, **words)
        rows = [row for batch in source.batches(["url"]) for row in batch.column("url").to_pylist()]
    except Exception as error:  # what is torn is told, not raised
        return "nothing" if "no file or folder" in str(error) else f"{type(error).__name__}: {error}"
    return "old" if rows == OLD else "new" if rows == NEW else f"rows {rows}"


def killed_child(out, step, words):
    """Write the new table in a child that is killed before its `step`-th step; whether it was."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event, _args):
            nonlocal left
            if event not in STEPS:
                return
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        save(out, NEW, **words)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status != 0


def main(name, has_old, is_remote):
    home = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    tempfile.tempdir = str(home / "tmp")
    words = {"storage_options": {"path": str(home / "store")}} if is_remote else {}
    step, is_killed = 0, True
    while is_killed:
        step += 1
        for folder in ("store", "tmp"):
            (home / folder).mkdir(exist_ok=True)
        out = f"killstore://{step}/{name}" if is_remote else f"{home}/{step}/{name}"
        if has_old:
            save(out, OLD, **words)
        is_killed = killed_child(out, step, words)
        seen = found(out, **words)
        left = [path for path in home.rglob("*") if "imgtag-" in path.name]
        for path in left:
            os.utime(path, (0, 0))
        save(out, NEW, **words)
        still = [path.name for path in home.rglob("*") if "imgtag-" in path.name]
        print(json.dumps([step, is_killed, seen, len(left), still, found(out, **words)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3] == "old", sys.argv[4] == "remote")
