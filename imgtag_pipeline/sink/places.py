"""Where OUT stands: building it aside and publishing it in one step, on a local disk or through fsspec."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final, Protocol

from imgtag_pipeline.core.filesystems import is_there
from imgtag_pipeline.errors import ConfigError, OutputError
from imgtag_pipeline.sink.disk import lock, remove, replace_folder, restore, show, sweep, sync, sync_folder

REPORT_FILE: Final = "_imgtag.json"
_WORK_PREFIX: Final = "imgtag-out-"
# Stores in which a put of a whole object is atomic and a rename is a copy; elsewhere a rename is the atomic step.
_WHOLE_PUTS: Final = frozenset(
    ("s3", "s3a", "gs", "gcs", "oss", "obs", "cos", "abfs", "abfss", "az", "adl", "r2", "tos", "bos", "memory")
)
# Up to here one PUT request; above, the filesystem's own multipart upload, which shows nothing before it is complete.
_ONE_PUT_BYTES: Final = 8 << 20
_PROBE: Final = ".imgtag-probe"  # hidden from readers; the next run puts and removes the same one
_REMEDY: Final = "remove it, choose another name, or allow it to be replaced (overwrite=True, --overwrite)"


class Place(Protocol):
    """One OUT, not yet there."""

    def stage(self) -> Path:
        """Make and return the local path to build in: an empty folder, or the name of a file that does not exist."""

    def probe(self) -> None:
        """Try whether OUT will be taken, leaving nothing there; raises what the file system says."""

    def keep(self) -> Path | None:
        """Where a finished table stays that could not be published; None where it goes."""

    def publish(self) -> None:
        """Make what was built visible under OUT's name, in one step."""

    def discard(self) -> None:
        """Take away everything that was begun; harmless after `publish`."""


class LocalPlace:
    """A file or folder on a local disk: built beside its name, synced, renamed."""

    def __init__(self, _filesystem: Any, target: str, *, is_folder: bool, overwrite: bool) -> None:
        self._target = Path(os.path.abspath(target))
        self._is_folder = is_folder
        self._overwrite = overwrite
        self._staging: Path | None = None
        self._made: list[Path] = []
        self._lock: int | None = None
        restore(self._target, _staging_prefix(self._target))
        self._check()
        parent = next(path for path in self._target.parents if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise ConfigError(f"{str(parent)!r} is not a folder that can be written to; choose another output")

    def stage(self) -> Path:
        parent = self._target.parent
        missing = [path for path in (parent, *parent.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            self._made.append(path)
        sweep(parent, _staging_prefix(self._target))
        staging = parent / f"{_staging_prefix(self._target)}{secrets.token_hex(6)}"
        self._staging = staging
        if self._is_folder:
            staging.mkdir()
        else:
            staging.touch()
        self._lock = lock(staging)
        return staging

    def probe(self) -> None:
        """Staging has shown it."""

    def keep(self) -> Path | None:
        return None

    def publish(self) -> None:
        if self._staging is None:
            raise ConfigError("nothing has been written yet")
        self._check()
        sync(self._staging)
        if self._is_folder and self._target.is_dir():
            replace_folder(self._staging, self._target)
        elif self._is_folder:
            os.rename(self._staging, self._target)
        else:
            self._show(self._staging)
        self._staging = None
        self._made.clear()
        sync_folder(self._target.parent)
        self.discard()

    def _show(self, file: Path) -> None:
        try:
            show(file, self._target, overwrite=self._overwrite)
        except FileExistsError:
            raise ConfigError(f"{str(self._target)!r} exists by now; {_REMEDY}") from None

    def discard(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        if self._staging is not None:
            remove(self._staging)
            self._staging = None
        for path in reversed(self._made):
            with contextlib.suppress(OSError):
                path.rmdir()
        self._made.clear()

    def _check(self) -> None:
        """Nothing stands at OUT, or it may be replaced and is ours to replace."""
        target = self._target
        if not os.path.lexists(target):
            return
        if target.is_dir() != self._is_folder:
            found, wanted = ("a folder", "a file") if target.is_dir() else ("a file", "a folder")
            raise ConfigError(f"{str(target)!r} is {found} and {wanted} should be written there; choose another name")
        names = [path.name for path in target.iterdir()] if self._is_folder else [target.name]
        if names and not self._overwrite:
            raise ConfigError(f"{str(target)!r} exists already; {_REMEDY}")
        check_only_ours(str(target), names if self._is_folder else [])


class RemotePlace:
    """A file or folder on any other fsspec filesystem: built in a local folder, put in one piece at the end.

    Several parts cannot become visible at one moment there: they are put one after the other, the report last, and
    are taken away again when one fails. Parts that replace others have names of their own, so that until all are
    there the old ones stay as they are. An upload in several requests that fails shows nothing; what the store holds
    of it goes by the bucket's own rule for incomplete uploads.
    """

    def __init__(self, filesystem: Any, target: str, *, is_folder: bool, overwrite: bool) -> None:
        self._filesystem = filesystem
        self._target = target.rstrip("/")
        self._is_folder = is_folder
        self._overwrite = overwrite
        self._work: Path | None = None
        self._staging: Path | None = None
        self._lock: int | None = None
        self._check()

    def stage(self) -> Path:
        sweep(Path(tempfile.gettempdir()), _WORK_PREFIX)
        self._work = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX))
        self._lock = lock(self._work)
        self._staging = self._work / "out"
        if self._is_folder:
            self._staging.mkdir()
        return self._staging

    def probe(self) -> None:
        folder = self._target if self._is_folder else self._target.rpartition("/")[0]
        name = f"{folder}/{_PROBE}" if folder else _PROBE
        if not self._puts_whole and folder:
            return  # folders would have to be made; the rename at the end tells
        self._filesystem.pipe_file(name, b"imgtag")
        with contextlib.suppress(FileNotFoundError):  # another run's, with the same name
            self._filesystem.rm_file(name)

    def keep(self) -> Path | None:
        if self._staging is None or not self._staging.exists():
            return None
        name = self._target.rpartition("/")[2]
        kept = Path(tempfile.mkdtemp(prefix=f"{name}-kept-")) / name
        os.replace(self._staging, kept)
        self._staging = None
        return kept

    @property
    def _puts_whole(self) -> bool:
        protocol = self._filesystem.protocol
        return bool(({protocol} if isinstance(protocol, str) else set(protocol)) & _WHOLE_PUTS)

    def publish(self) -> None:
        if self._staging is None:
            raise ConfigError("nothing has been written yet")
        old = self._check()
        if self._is_folder:
            # "_" sorts before letters in ASCII, so the report is moved behind the parts by hand.
            names = sorted(
                (path.name for path in self._staging.iterdir()), key=lambda name: (name == REPORT_FILE, name)
            )
            mark = f"-{secrets.token_hex(4)}.parquet" if old else ".parquet"
            pairs = [(self._staging / name, f"{self._target}/{name.replace('.parquet', mark)}") for name in names]
        else:
            pairs = [(self._staging, self._target)]
        done: list[str] = []
        stale: list[str] = []
        try:
            for local, remote in pairs:
                done.append(remote)
                self._put(local, remote)
            stale = sorted(old.difference(done))
            if stale:
                self._filesystem.rm_file(stale[0])
        except BaseException:
            for remote in done:
                if remote not in old:
                    with contextlib.suppress(Exception):
                        self._filesystem.rm_file(remote)
            raise
        self._remove_stale(stale[1:])
        self.discard()

    def discard(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        if self._work is not None:
            shutil.rmtree(self._work, ignore_errors=True)
        self._work = self._staging = self._lock = None

    def _remove_stale(self, names: list[str]) -> None:
        """The rest of the old parts: as one is gone already, there is no way back, and what stays has to be named."""
        left: list[str] = []
        for name in names:
            try:
                self._filesystem.rm_file(name)
            except FileNotFoundError:
                continue
            except Exception:  # any storage library's own
                left.append(name)
        if left:
            raise OutputError(f"the new parts are there, but old ones could not be removed; remove {', '.join(left)}")

    def _put(self, local: Path, remote: str) -> None:
        parent = remote.rpartition("/")[0]
        if self._puts_whole:
            if local.stat().st_size <= _ONE_PUT_BYTES:
                self._filesystem.pipe_file(remote, local.read_bytes())
            else:
                self._filesystem.put_file(str(local), remote)
            return
        if parent:
            self._filesystem.makedirs(parent, exist_ok=True)
        aside = f"{parent}/.{remote.rpartition('/')[2]}.{secrets.token_hex(6)}" if parent else f".{remote}.tmp"
        try:
            self._filesystem.put_file(str(local), aside)
            self._filesystem.mv(aside, remote)
        except BaseException:
            with contextlib.suppress(Exception):
                self._filesystem.rm_file(aside)
            raise

    def _check(self) -> set[str]:
        """The files that stand at OUT and will be replaced."""
        filesystem, target = self._filesystem, self._target
        if not is_there(filesystem, target):
            return set()
        if not self._is_folder:
            if not self._overwrite:
                raise ConfigError(f"{target!r} exists already; {_REMEDY}")
            return {target}
        found = set(filesystem.find(target))
        if found and not self._overwrite:
            raise ConfigError(f"{target!r} exists already; {_REMEDY}")
        check_only_ours(target, [path.rpartition("/")[2] for path in found])
        return found


def check_only_ours(folder: str, names: list[str]) -> None:
    """A folder is replaced only when everything in it was written by this package."""
    foreign = [name for name in names if not (name in (REPORT_FILE, _PROBE) or _is_part(name))]
    if foreign:
        raise ConfigError(f"the folder {folder!r} also holds {foreign[0]!r}, which is not ours; choose another folder")


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def _staging_prefix(target: Path) -> str:
    return f".{target.name}.imgtag-"
