"""The power is cut after any file operation: what was not synced is gone or garbled, and nothing that counted is lost.

Records what a store does to the disk, and builds every state that a cut could have left: names and bytes count from
their sync on; before that each of them may be there or not.
"""

import os
import random
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.store import Tuning, compact, open_store
from imgtag_pipeline.checkpoint.writer import FlushPolicy
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.model import Job, Outcome, Tag

IDENTITY = {"address": "viapi/TaggingImage"}
KEYS = [f"k{number}" for number in range(20)]
OPERATIONS = {"create", "write", "sync", "folder", "rename", "unlink", "sync folder"}
WAYS = ["nothing", "all", "some, cut", "some, zeroed", "some, garbled"]


class Unsynced(Files):
    """Where the power stays on, syncing is waiting."""

    def sync(self, handle):
        return

    def sync_folder(self, path):
        return


class Recorder(Files):
    """Does everything but sync, and writes down what was done, together with what the store had promised by then."""

    def __init__(self) -> None:
        self.log: list[tuple] = []
        self._files: dict[int, int] = {}

    def _of(self, handle: int) -> int:
        return self._files[os.fstat(handle).st_ino]

    def know(self, path: Path, number: int) -> None:
        """A file that was there before."""
        self._files[path.stat().st_ino] = number

    def create(self, path):
        handle = super().create(path)
        number = -len(self.log) - 1
        self._files[os.fstat(handle).st_ino] = number
        self.log.append(("create", path, number))
        return handle

    def write(self, handle, data):
        taken = super().write(handle, data)
        self.log.append(("write", self._of(handle), bytes(data[:taken])))
        return taken

    def sync(self, handle):
        self.log.append(("sync", self._of(handle)))

    def make_folder(self, path):
        super().make_folder(path)
        self.log.append(("folder", path))

    def rename(self, source, target):
        super().rename(source, target)
        self.log.append(("rename", target, source))

    def unlink(self, path):
        super().unlink(path)
        self.log.append(("unlink", path))

    def sync_folder(self, path):
        self.log.append(("sync folder", path))


class Disk:
    """What is on the disk for sure, and what is on its way there. Files have numbers, names lead to them."""

    def __init__(self, root: Path) -> None:
        self.names: dict[Path, int | None] = {root: None}  # None: a folder
        self.waiting: dict[Path, list[tuple]] = {}
        self.bytes: dict[int, bytes] = {}
        self.synced: dict[int, int] = {}

    def put(self, path: Path, data: bytes) -> int:
        """A file that has been there for long."""
        number = len(self.bytes) + 1
        self.names[path], self.bytes[number], self.synced[number] = number, data, len(data)
        return number

    def do(self, entry: tuple) -> None:
        """One operation."""
        what, subject, *rest = entry
        if what == "write":
            self.bytes[subject] += rest[0]
        elif what == "sync":
            self.synced[subject] = len(self.bytes[subject])
        elif what == "sync folder":
            for change in self.waiting.pop(subject, ()):
                _change(self.names, change)
        elif isinstance(subject, Path):
            self.waiting.setdefault(subject.parent, []).append(entry)
            if what == "create":
                self.bytes[rest[0]] = b""

    def after_a_cut(self, way: str, chance: random.Random) -> dict[Path, bytes | None]:
        """Files and folders as they may be found."""
        names = dict(self.names)
        for changes in self.waiting.values():
            for change in changes:
                if way == "all" or (way != "nothing" and chance.random() < 0.5):
                    _change(names, change)
        found = {path: None if number is None else self._found(number, way, chance) for path, number in names.items()}
        return {path: data for path, data in found.items() if all(above in names for above in _folders(path, names))}

    def _found(self, number: int, way: str, chance: random.Random) -> bytes:
        data, safe = self.bytes[number], self.synced.get(number, 0)
        cut = chance.randint(safe, len(data))
        if way == "some, cut":
            return data[:cut]
        if way == "some, zeroed":
            return data[:cut] + bytes(len(data) - cut)
        if way == "some, garbled":
            return data[:cut] + chance.randbytes(len(data) - cut)
        return data[:safe]


def _change(names: dict[Path, int | None], change: tuple) -> None:
    what, path, *rest = change
    if what == "create":
        names[path] = rest[0]
    elif what == "folder":
        names[path] = None
    elif what == "unlink":
        names.pop(path, None)
    elif rest[0] in names:
        names[path] = names.pop(rest[0])


def _folders(path: Path, names: dict[Path, int | None]) -> list[Path]:
    root = min(names, key=lambda each: len(each.parts))
    return [above for above in path.parents if len(above.parts) >= len(root.parts)]


def laid_out(state: dict[Path, bytes | None], root: Path, folder: Path) -> Path:
    """The state as real files."""
    for path, data in sorted(state.items()):
        here = folder / path.relative_to(root)
        if data is None:
            here.mkdir(parents=True)
        else:
            here.write_bytes(data)
    return folder


def outcome(key: str) -> Outcome:
    return Outcome(key, f"https://h/{key}", "ok", (Tag(f"tag-{key}", confidence=0.5),))


def opened(url: Path, files: Files, sync_every: float = 0.0):
    tuning = Tuning(pace=FlushPolicy(sync_every=sync_every, seal_rows=3), files=files)
    return open_store(str(url), identity=IDENTITY, run_id="run", clock=SystemClock(), tuning=tuning)


async def use(store, log: list[tuple], keys: list[str], flush_every: int) -> None:
    """Marks, jobs, answers, and images that get none; what has returned is written down behind what was done."""
    for number, key in enumerate(keys):
        await store.mark_sent([key])
        log.append(("marked", key))
        if number % 5 == 4:
            await store.save_job(key, Job("job", SystemClock().now()))
            log.append(("job", key))
            continue
        log.append(("saving", key))
        await store.save([outcome(key)])
        log.append(("saved", key))
        if flush_every and number % flush_every == flush_every - 1:
            await store.flush()
            log.append(("flushed", None))
    await store.close()
    log.append(("flushed", None))


async def recorded(url: Path, sync_every: float, flush_every: int) -> list[tuple]:
    """Two runs, the second of which answers what the first left, and a compaction."""
    files = Recorder()
    await use(opened(url, files, sync_every), files.log, KEYS[:9], flush_every)
    await use(opened(url, files, sync_every), files.log, KEYS[7:13], flush_every)
    compact(str(url), tuning=Tuning(files=files))
    return files.log


class Promises:
    """What must be found after a cut: all that had returned (`at_once`), or had when the store was last flushed."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once
        self._returned: dict[str, set[str]] = {"marked": set(), "job": set(), "saved": set()}
        self.marked: set[str] = set()
        self.jobs: set[str] = set()
        self.saved: set[str] = set()
        self.tried: set[str] = set()

    def note(self, entry: tuple) -> None:
        what, key = entry[:2]
        if what == "saving":
            self.tried.add(key)
        elif what in self._returned:
            self._returned[what].add(key)
        if self._at_once or what == "flushed":
            self.marked, self.jobs, self.saved = map(set, self._returned.values())

    async def hold(self, url: Path, *files: Files) -> None:
        """Runs find everything, one after the other; a cut may add to what is known, never a wrong row."""
        for run_files in files:
            store = opened(url, run_files)
            known = {key for key, status in zip(KEYS, store.lookup(KEYS), strict=True) if status}
            assert self.saved <= known <= self.tried
            rows = store.take(sorted(known)).to_pylist()
            assert all(row["tags"][0]["tag"] == f"tag-{row['key']}" for row in rows)
            assert self.marked - known <= set(store.possibly_billed)
            assert self.jobs - known <= set(store.jobs(KEYS))
            await store.close()
        for part in url.rglob("[!.]*.parquet"):
            pq.read_table(part, page_checksum_verification=True)


def operations(log: list[tuple]) -> list[list[tuple]]:
    """Each operation, with what the store promised before the next one."""
    steps: list[list[tuple]] = []
    for entry in log:
        if entry[0] in OPERATIONS or not steps:
            steps.append([])
        steps[-1].append(entry)
    return steps


class Cuts:
    """Lets the power go after each operation, and looks what is left."""

    def __init__(self, folder: Path, chance: random.Random, *, every_way: bool) -> None:
        self.count = 0
        self._folder, self._chance, self._every_way = folder, chance, every_way

    async def after(self, log: list[tuple], disk: Disk, root: Path, promises: Promises) -> None:
        """Whatever of the unsynced has reached the disk, what was promised by then is found."""
        for step in operations(log):
            for entry in step:
                disk.do(entry)
                promises.note(entry)
            for way in WAYS if self._every_way else ["nothing", self._chance.choice(WAYS[1:])]:
                self.count += 1
                found = laid_out(disk.after_a_cut(way, self._chance), root, self._folder / "found")
                await promises.hold(found / "store", *[Unsynced(), Unsynced()][: 1 + self.count % 2])
                shutil.rmtree(found)


@pytest.mark.parametrize("every_way", [False, pytest.param(True, marks=pytest.mark.heavy)], ids=["", "every way"])
@pytest.mark.parametrize(
    ("sync_every", "flush_every"), [(0.0, 0), (3600.0, 3)], ids=["every write synced", "synced by flushes"]
)
async def test_the_power_is_cut_after_any_operation(tmp_path, figure, sync_every, flush_every, every_way):
    """After each operation of two runs and a compaction, nothing is lost that had been synced."""
    root = tmp_path / "run"
    root.mkdir()
    log = await recorded(root / "store", sync_every, flush_every)
    cuts = Cuts(tmp_path, random.Random(1), every_way=every_way)
    await cuts.after(log, Disk(root), root, Promises(at_once=not flush_every))
    figure("power cut after every file operation", f"{cuts.count:,} cuts", "0 synced answers or marks lost")


@pytest.mark.parametrize("trials", [2, pytest.param(20, marks=pytest.mark.heavy)])
async def test_the_power_is_cut_again_during_recovery(tmp_path, figure, trials):
    """What the next run does to recover may be cut off at any operation as well."""
    chance = random.Random(trials)
    root = tmp_path / "run"
    root.mkdir()
    steps = operations(await recorded(root / "store", 0.0, 0))
    cuts = Cuts(tmp_path, chance, every_way=False)
    for at in chance.sample(range(len(steps)), trials):
        first, promises = Disk(root), Promises(at_once=True)
        for entry in (entry for step in steps[: at + 1] for entry in step):
            first.do(entry)
            promises.note(entry)
        here = laid_out(first.after_a_cut(chance.choice(WAYS), chance), root, tmp_path / "here")
        recorder, second = Recorder(), Disk(here)
        for path in sorted(here.rglob("*")):
            if path.is_dir():
                second.names[path] = None
            else:
                recorder.know(path, second.put(path, path.read_bytes()))
        await promises.hold(here / "store", recorder)
        await cuts.after(recorder.log, second, here, promises)
        shutil.rmtree(here)
    figure("power cut again after every operation of the recovery", f"{cuts.count:,} cuts", "0 lost")
