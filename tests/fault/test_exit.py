"""A process that ends right after an input was refused ends with its sentence and its exit code, not by a signal."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

BAD = {
    "latin.csv": b"url,name\n" + b"a.jpg,x\n" * 200_000 + b"b.jpg,caf\xe9\n" * 1000,
    "ragged.csv": b"url,name\n" + b"a.jpg,x\n" * 200_000 + b"b.jpg\n",
    "broken.parquet": b"PAR1" + b"x" * 100_000 + b"PAR1",
    "broken.jsonl": b'{"url": "a.jpg"}\n' * 100_000 + b'{"url": \n',
}


@pytest.mark.parametrize("name", BAD)
def test_a_refused_input_ends_with_exit_code_2(tmp_path, name):
    """Many fresh processes, two at a time."""
    (tmp_path / name).write_bytes(BAD[name])
    command = [sys.executable, "-m", "imgtag_pipeline", "plan", name]

    def run(_):
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return ended.returncode, ended.stderr.count("\n"), "imgtag: " in ended.stderr

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(run, range(6))) == {(2, 1, True)}
