"""A journal cut at every byte, bits flipped, its tail zeroed or garbled: no wrong row, and the loss is told."""

import os
import random
import shutil
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

import pyarrow as pa

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.frames import OVERHEAD, Kind, scan
from imgtag_pipeline.checkpoint.hash import digest
from imgtag_pipeline.checkpoint.layout import Identity
from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.checkpoint.segment import OpenMarks, Segment, SegmentReader, marks, write_jobs
from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.core.clock import SystemClock
from imgtag_pipeline.model import Job, Outcome, Tag

SEED = 1234
IDENTITY = {"address": "viapi/TaggingImage"}


def outcome(number: int) -> Outcome:
    """An outcome whose every field follows from its number, so that any change shows."""
    tags = tuple(Tag(f"tag{number}-{i}", confidence=i / 8, extra={"n": number}) for i in range(number % 3))
    return Outcome(f"k{number}", f"https://h/{number}.jpg", "ok" if tags else "empty", tags, request_id=f"R{number}")


@cache
def written(numbers: tuple[int, ...]) -> pa.RecordBatch:
    """The stored rows of these outcomes."""
    return outcomes_to_batch([outcome(n) for n in numbers], run="r", at=[n + 1 for n in numbers])


ROWS = {f"k{number}": written((number,)).to_pylist()[0] for number in range(200)}


def journal(folder: Path, frames: int) -> Path:
    """A dead run's journal: marks, a job and claims, and after each some outcomes."""
    segment = Segment(folder / "t-000001.journal", seed=SEED, header={"run": "r"}, notes=OpenMarks(), files=Files())
    job = Job("j", SystemClock().now())
    segment.append([(Kind.JOB, write_jobs({"job": job})), (Kind.CLAIM, digest("x"))])
    number = 0
    for size in (1 + i % 3 for i in range(frames)):
        numbers = range(number, number + size)
        number += size
        keys = {f"k{n}": n + 1 for n in numbers}
        segment.append([(Kind.SENT, marks(keys)), (Kind.OUTCOME, bytes(written(tuple(numbers)).serialize()))])
    segment.close()
    return segment.path


def recovered(path: Path) -> tuple[SegmentReader, list[pa.RecordBatch]]:
    """What the next run makes of the file."""
    reader = SegmentReader(path, seed=SEED, files=Files())
    assert reader.adopt()
    found = reader.read()
    reader.close()
    return reader, found


def assert_true(found: list[pa.RecordBatch]) -> int:
    """Every row is one that was written, in every field, and none comes twice; how many there are."""
    keys = [key for batch in found for key in batch.column("key").to_pylist()]
    assert len(set(keys)) == len(keys)
    for batch in found:
        numbers = [int(key[1:]) for key in batch.column("key").to_pylist()]
        assert batch.equals(written(tuple(numbers)))
    return len(keys)


def test_cut_at_every_byte(tmp_path, figure):
    """Wherever a journal is cut, what comes back is exactly the frames before the cut; the rest is counted."""
    path = journal(tmp_path, frames=4)
    whole = path.stat().st_size
    reader, everything = recovered(path)
    seen = [(reader.frames, reader.dropped)]
    for cut in range(whole - 1, -1, -1):
        os.truncate(path, cut)
        reader, found = recovered(path)
        assert found == everything[: len(found)]
        assert reader.missing == 0
        seen.append((reader.frames, reader.dropped))
    assert seen[-1] == (0, 0)
    for (frames, dropped), (frames_below, dropped_below) in pairwise(seen):
        assert frames_below in (frames, frames - 1)
        assert dropped == (0 if frames_below < frames else dropped_below + 1)
    figure("journal cut at every byte", f"{whole + 1:,} cuts", "0 wrong rows, exactly the frames before the cut")


def test_flipped_bits(tmp_path, request, figure):
    """A flipped bit costs one frame at most, which is counted; no wrong row ever comes out."""
    path = journal(tmp_path, frames=6)
    whole = path.read_bytes()
    reader, everything = recovered(path)
    frames, rows = reader.frames, assert_true(everything)
    flips = request.config.getoption("--flips")
    rng = random.Random(5)
    lost = 0
    for _ in range(flips):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        reader, found = recovered(path)
        assert reader.frames == frames - 1
        assert reader.dropped > 0
        lost += rows - assert_true(found)
    figure("bits of a journal flipped", f"{flips:,} flips", f"0 wrong rows, {lost / flips:.1f} lost for each and told")


def blows(rng: random.Random, data: bytes) -> bytes:
    """One way in which a disk can spoil a file."""
    at = rng.randrange(len(data))
    length = rng.randrange(1, 600)
    kind = rng.randrange(6)
    if kind == 0:
        return data[:at] + bytes(len(data) - at)
    if kind == 1:
        return data[:at] + rng.randbytes(len(data) - at)
    if kind == 2:
        return data[:at] + bytes(length) + data[at + length :]
    if kind == 3:
        return data[:at] + rng.randbytes(length) + data[at + length :]
    if kind == 4:
        return data[:at] + data[at + length :]
    return data[:at] + data[max(0, at - length) : at] + data[at:]


def ends_of_frames(data: bytes, seed: int) -> list[int]:
    """Where a sound journal can be cut without leaving a trace: before the first frame, and behind each."""
    frames = scan(data, seed=seed, after=0, is_final=True).frames
    ends = [*accumulate((OVERHEAD + len(frame.payload) for frame in frames), initial=0)]
    assert ends[-1] == len(data)
    return ends


def test_zeroed_garbled_missing_and_doubled_regions(tmp_path, request, figure):
    """Whatever happens to a region or to the tail, rows are right or gone, and gone ones are told."""
    path = journal(tmp_path, frames=12)
    whole = path.read_bytes()
    untold = [whole[:end] for end in ends_of_frames(whole, SEED)]
    rows = assert_true(recovered(path)[1])
    rng = random.Random(6)
    blown = request.config.getoption("--flips") * 2 // 5
    for _ in range(blown):
        data = blows(rng, whole)
        path.write_bytes(data)
        reader, found = recovered(path)
        if assert_true(found) < rows:
            assert reader.dropped or reader.missing or data in untold
    figure("regions zeroed, garbled, missing, doubled", f"{blown:,} times", "0 wrong rows, the loss is told")


async def test_a_damaged_store_opens_and_tells(tmp_path):
    """A run opens a store whose journal is damaged: the sound answers are known, the damage is in the report."""
    first = open_store(str(tmp_path / "a"), identity=IDENTITY, run_id="r1", clock=SystemClock())
    for number in range(8):
        await first.mark_sent([f"k{number}"])
        await first.save([outcome(number)])
    shutil.copytree(tmp_path / "a", tmp_path / "dead")
    await first.close()
    rng = random.Random(7)
    for trial in range(25):
        here = tmp_path / f"t{trial}"
        shutil.copytree(tmp_path / "dead", here)
        (path,) = here.rglob("*.journal")
        whole = path.read_bytes()
        untold = [whole[:end] for end in ends_of_frames(whole, Identity.of(IDENTITY).seed)]
        data = blows(rng, whole)
        path.write_bytes(data)
        second = open_store(str(here), identity=IDENTITY, run_id="r2", clock=SystemClock())
        known = [key for key, status in zip(ROWS, second.lookup(list(ROWS)), strict=True) if status]
        for row_found in second.take(known).to_pylist():
            expected = ROWS[row_found["key"]]
            assert {**row_found, "at": None, "run": None} == {**expected, "at": None, "run": None}
        told = second.recovered["bytes_dropped"] or second.recovered["frames_missing"]
        assert len(known) == 8 or told or data in untold
        assert not set(second.possibly_billed) & set(known)
        await second.close()
        third = open_store(str(here), identity=IDENTITY, run_id="r3", clock=SystemClock())
        assert [key for key, status in zip(ROWS, third.lookup(list(ROWS)), strict=True) if status] == known
        await third.close()
