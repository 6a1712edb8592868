"""A process that writes OUT again and again in children, each stopped at a later step on the disk than the last.

A step is where the child is killed, or where the disk is full. Prints a JSON line per child: the step, how it ended,
what then stood at OUT, how much was left, and what was left and stood there after the next run.
"""

import errno
import json
import os
import signal
import sys
import tempfile
from pathlib import Path

import fsspec
import pyarrow as pa
from fsspec.implementations.dirfs import DirFileSystem

from imgtag_pipeline.errors import ConfigError, OutputError
from imgtag_pipeline.sink.files import FileSink
from imgtag_pipeline.source.files import open_files

OLD, NEW = [f"old{n}" for n in range(6)], [f"new{n}" for n in range(9)]
ADDING = {"open", "os.mkdir", "os.rename", "os.link", "os.scandir", "ctypes.dlopen"}
STEPS = {"full": ADDING, "kill": ADDING | {"os.remove", "os.rmdir", "shutil.rmtree"}}  # a full disk can be cleared
REFUSED, IGNORED = 7, 8
ENDS = {-signal.SIGKILL: "killed", REFUSED: "refused", IGNORED: "in spite of it", 0: "done"}


TO_PARENT_OF_CHILDREN = FROM_PARENT_OF_CHILDREN = None


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
        return "nothing" if "no file" in str(error) else f"{type(error).__name__}: {error}"
    return "old" if rows == OLD else "new" if rows == NEW else f"rows {rows}"


def stopped_child(out, step, trouble, words):
    """Write the new table in a child that is stopped at its `step`-th step: "killed", "refused", or "done" before."""
    print(json.dumps([out, step, trouble, words]), file=TO_PARENT_OF_CHILDREN, flush=True)
    return ENDS[json.loads(FROM_PARENT_OF_CHILDREN.readline())]


def begin_parent_of_children():
    """A process that has done nothing yet, so that it has no threads: only such a one may be forked."""
    global TO_PARENT_OF_CHILDREN, FROM_PARENT_OF_CHILDREN
    assert len(os.listdir("/proc/self/task")) == 1
    (wanted, want), (ended, end) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(want)
        with os.fdopen(wanted) as orders:
            for line in orders:
                os.write(end, f"{run_child(*json.loads(line))}\n".encode())
        os._exit(0)
    os.close(wanted)
    TO_PARENT_OF_CHILDREN, FROM_PARENT_OF_CHILDREN = os.fdopen(want, "w"), os.fdopen(ended)


def run_child(out, step, trouble, words):
    """How the child ended, as `os.waitstatus_to_exitcode` has it."""
    child = os.fork()
    if child == 0:
        left = step

        def watch(event, _args):
            nonlocal left
            if event not in STEPS[trouble]:
                return
            left -= 1
            if left == 0 and trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if left == 0:
                raise OSError(errno.ENOSPC, "No space left on device")

        sys.addaudithook(watch)
        try:
            save(out, NEW, **words)
        except (OutputError, ConfigError):
            os._exit(REFUSED)
        os._exit(0 if left > 0 else IGNORED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(name, has_old, is_remote, trouble):
    home = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    tempfile.tempdir = str(home / "tmp")
    begin_parent_of_children()
    words = {"storage_options": {"path": str(home / "store")}} if is_remote else {}
    step, end = 0, ""
    while end != "done":
        step += 1
        for folder in ("store", "tmp"):
            (home / folder).mkdir(exist_ok=True)
        out = f"killstore://{step}/{name}" if is_remote else f"{home}/{step}/{name}"
        if has_old:
            save(out, OLD, **words)
        end = stopped_child(out, step, trouble, words)
        seen = found(out, **words)
        left = [path for path in home.rglob("*") if "imgtag-" in path.name]
        for path in left:
            os.utime(path, (0, 0))
        save(out, NEW, **words)
        still = [path.name for path in home.rglob("*") if "imgtag-" in path.name]
        print(json.dumps([step, end, seen, len(left), still, found(out, **words)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3] == "old", sys.argv[4] == "remote", sys.argv[5])
