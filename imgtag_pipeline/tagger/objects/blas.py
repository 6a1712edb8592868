"""One BLAS thread while the network runs: its matrices are small, and OpenBLAS's own threads make it four times slower.

The limit holds for the whole process while at least one picture is being looked at, and is taken back afterwards. It is
set in the OpenBLAS that NumPy's wheels bring along; any other BLAS keeps its own setting.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

_NAMES: Final = (  # of the functions, by how OpenBLAS was built
    ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_"),
    ("scipy_openblas_get_num_threads", "scipy_openblas_set_num_threads"),
    ("openblas_get_num_threads64_", "openblas_set_num_threads64_"),
    ("openblas_get_num_threads", "openblas_set_num_threads"),
)
_lock = threading.Lock()
_users = 0
_before = 0


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """BLAS of this process uses one thread until the last block of this kind has ended."""
    global _users, _before
    found = _openblas()
    if found is None:
        yield
        return
    threads, set_threads = found
    with _lock:
        _users += 1
        if _users == 1:
            _before = threads()
            set_threads(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                set_threads(_before)


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """The functions that get and set the number of threads of NumPy's own OpenBLAS."""
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            for get, set_ in _NAMES:
                if hasattr(library, get) and hasattr(library, set_):
                    return getattr(library, get), getattr(library, set_)
    return None
