"""Primitives of a local disk that several rooms need: names that outlive the machine, locks that no child inherits."""

from __future__ import annotations

import errno
import os
from functools import cache
from pathlib import Path
from typing import Final

# What file systems answer that keep names in order by themselves, and cannot sync a folder.
_NO_FOLDER_SYNC: Final = (errno.EINVAL, errno.ENOTSUP)

_locked: dict[int, os.stat_result] = {}  # handles by number; one that was closed since is told by its file


def sync_folder(path: Path) -> None:
    """Return when the names in this folder are on the disk; at once where the system cannot sync folders."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def keep_from_children(handle: int) -> None:
    """Close the handle in children that are forked from now on, so that its lock ends with this process."""
    if not hasattr(os, "register_at_fork"):
        return
    _watch_forks()
    _locked[handle] = os.fstat(handle)


@cache
def _watch_forks() -> None:
    os.register_at_fork(after_in_child=_let_go_of_parents_locks)


def _let_go_of_parents_locks() -> None:
    """A forked child shares its parent's open files, and with them their locks: it gets empty files instead."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle, file in _locked.items():
        try:
            if os.path.samestat(os.fstat(handle), file):
                os.dup2(nothing, handle, inheritable=False)
        except OSError:  # closed since
            continue
    _locked.clear()
    os.close(nothing)
