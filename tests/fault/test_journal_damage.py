"""A journal cut at every byte, bits flipped, its tail zeroed or garbled: no wrong row, and the loss is told."""

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.frames import Kind
from imgtag_pipeline.checkpoint.hash import digest
from imgtag_pipeline.checkpoint.journal import Notes, Segment, SegmentReader, marks, write_jobs
from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.checkpoint.store import open_store
from imgtag_pipeline.clock import SystemClock
from imgtag_pipeline.model import Job, Outcome, Tag

SEED = 1234
IDENTITY = {"address": "viapi/TaggingImage"}
FLIPS = [5_000, pytest.param(20_000, marks=pytest.mark.heavy)]


def outcome(number: int) -> Outcome:
    """An outcome whose every field follows from its number, so that any change shows."""
    tags = tuple(Tag(f"tag{number}-{i}", confidence=i / 8, extra={"n": number}) for i in range(number % 3))
    return Outcome(f"k{number}", f"https://h/{number}.jpg", "ok" if tags else "empty", tags, request_id=f"R{number}")


def row(number: int) -> dict:
    """The stored row of `outcome(number)`."""
    return outcomes_to_batch([outcome(number)], run="r", at=[number + 1]).to_pylist()[0]


ROWS = {f"k{number}": row(number) for number in range(200)}


def journal(folder: Path, frames: int) -> Path:
    """A dead run's journal: marks, a job and claims, and after each some outcomes."""
    segment = Segment(folder / "t-000001.journal", seed=SEED, header={"run": "r"}, notes=Notes(), files=Files())
    job = Job("j", SystemClock().now())
    segment.append([(Kind.JOB, write_jobs({"job": job})), (Kind.CLAIM, digest("x"))])
    number = 0
    for size in (1 + i % 3 for i in range(frames)):
        numbers = range(number, number + size)
        number += size
        batch = outcomes_to_batch([outcome(n) for n in numbers], run="r", at=[n + 1 for n in numbers])
        keys = {f"k{n}": n + 1 for n in numbers}
        segment.append([(Kind.SENT, marks(keys)), (Kind.OUTCOME, bytes(batch.serialize()))])
    segment.close()
    return segment.path


def recovered(path: Path) -> tuple[SegmentReader, list[dict]]:
    """What the next run makes of the file."""
    reader = SegmentReader(path, seed=SEED, files=Files())
    assert reader.adopt()
    found = [row for batch in reader.read() for row in batch.to_pylist()]
    reader.close()
    return reader, found


def assert_true(found: list[dict]) -> None:
    """Every row is one that was written, in every field, and none comes twice."""
    assert all(row == ROWS[row["key"]] for row in found)
    assert len({row["key"] for row in found}) == len(found)


def test_cut_at_every_byte(tmp_path):
    """Wherever a journal is cut, what comes back is exactly the frames before the cut; the rest is counted."""
    path = journal(tmp_path, frames=4)
    whole = path.read_bytes()
    ends = Counter()
    reader, all_rows = recovered(path)
    total = reader.frames
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        reader, found = recovered(path)
        assert found == all_rows[: len(found)]
        assert reader.missing == 0
        ends[reader.frames] += 1
        assert (reader.dropped == 0) == (cut == 0 or (reader.frames > 0 and ends[reader.frames] == 1))
    assert sorted(ends) == list(range(total + 1))
    assert len(found) == len(all_rows)
    print(f"\ncut at {len(whole) + 1} places: 0 wrong rows")


@pytest.mark.parametrize("flips", FLIPS)
def test_flipped_bits(tmp_path, flips):
    """A flipped bit costs one frame at most, which is counted; no wrong row ever comes out."""
    path = journal(tmp_path, frames=12)
    whole = path.read_bytes()
    reader, all_rows = recovered(path)
    frames = reader.frames
    rng = random.Random(5)
    lost = 0
    for _ in range(flips):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        reader, found = recovered(path)
        assert_true(found)
        assert reader.frames == frames - 1
        assert reader.dropped > 0
        lost += len(all_rows) - len(found)
    print(f"\n{flips} flipped bits: 0 wrong rows, {lost / flips:.2f} rows lost and told for each")


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


def test_zeroed_garbled_missing_and_doubled_regions(tmp_path):
    """Whatever happens to a region or to the tail, rows are right or gone, and gone ones are told."""
    path = journal(tmp_path, frames=12)
    whole = path.read_bytes()
    _, all_rows = recovered(path)
    rng = random.Random(6)
    for _ in range(2_000):
        data = blows(rng, whole)
        path.write_bytes(data)
        reader, found = recovered(path)
        assert_true(found)
        if len(found) < len(all_rows):
            assert reader.dropped or reader.missing or len(data) < len(whole)


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
        data = blows(rng, whole)
        path.write_bytes(data)
        second = open_store(str(here), identity=IDENTITY, run_id="r2", clock=SystemClock())
        known = [key for key, status in zip(ROWS, second.lookup(list(ROWS)), strict=True) if status]
        for row_found in second.take(known).to_pylist():
            expected = ROWS[row_found["key"]]
            assert {**row_found, "at": None, "run": None} == {**expected, "at": None, "run": None}
        told = second.recovered["bytes_dropped"] or second.recovered["frames_missing"]
        assert len(known) == 8 or told or len(data) < len(whole)
        assert not set(second.possibly_billed) & set(known)
        await second.close()
        third = open_store(str(here), identity=IDENTITY, run_id="r3", clock=SystemClock())
        assert [key for key, status in zip(ROWS, third.lookup(list(ROWS)), strict=True) if status] == known
        await third.close()
