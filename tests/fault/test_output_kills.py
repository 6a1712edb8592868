"""OUT while its writer is killed: whole or not at all at every step, and the leftovers go with the next run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "output_kills.py"


def outcomes(folder, *words):
    """One entry per child: step, how it ended, what stood at OUT, leftovers, leftovers after the next run, OUT then."""
    command = [sys.executable, str(SCRIPT), str(folder), *words]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("before", ["nothing", "old"])
@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out/"])
def test_a_killed_writer_leaves_the_old_output_or_the_new(tmp_path, figure, name, before):
    """Killed before each step on the disk: a reader sees what was there before or all of the new, never a part."""
    children = outcomes(tmp_path, name, before, "local", "kill")
    assert len(children) > 5
    assert {seen for _, _, seen, *_ in children} <= {before, "new"}
    assert children[-1][1:] == ["done", "new", 0, [], "new"]
    assert [still for *_, still, _ in children if still] == []
    assert {then for *_, then in children} == {"new"}
    figure(
        "OUT: kill -9 before each step on the disk",
        "{count} kinds of OUT",
        "old or new, {worst} kills at most",
        len(children) - 1,
    )


@pytest.mark.parametrize("name", ["out.parquet", "out.csv"])
def test_a_killed_upload_leaves_the_old_object_or_the_new(tmp_path, figure, name):
    """The same with OUT on a remote store; the folder it was built in on this machine goes with the next run."""
    children = outcomes(tmp_path, name, "old", "remote", "kill")
    assert {seen for _, _, seen, *_ in children} <= {"old", "new"}
    assert [still for *_, still, _ in children if still] == []
    figure(
        "OUT: kill -9 before each step on the disk",
        "{count} kinds of OUT",
        "old or new, {worst} kills at most",
        len(children) - 1,
    )


@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("before", ["nothing", "old"])
@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out/"])
def test_a_disk_that_is_full_at_any_step_leaves_what_was_there(tmp_path, figure, name, before, where):
    """The job says that OUT cannot be written, what stood there still does, and nothing is left beside it."""
    children = outcomes(tmp_path, name, before, where, "full")
    assert {end for _, end, *_ in children} <= {"refused", "in spite of it", "done"}
    for _, end, seen, left, still, then in children:
        assert seen == (before if end == "refused" else "new")
        assert left == 0 or end != "refused"
        assert (still, then) == ([], "new")
    figure(
        "OUT: disk full at each step", "{count} kinds of OUT", "nothing left, {worst} steps at most", len(children) - 1
    )
