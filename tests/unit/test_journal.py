"""The journal: what was appended is read back, whatever else the file holds."""

import os
import struct
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.frames import FORMAT, MAGIC, OVERHEAD, Kind, encode, foreign_format, scan
from imgtag_pipeline.checkpoint.hash import digest
from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.checkpoint.segment import OpenMarks, Segment, SegmentReader, marks, write_jobs
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Box, Job, Outcome, Tag

SEED = 7
WHEN = datetime(2026, 1, 2, tzinfo=UTC)


def rows(*keys: str) -> bytes:
    """The payload of an outcome frame."""
    outcomes = [Outcome(key, f"https://h/{key}", "ok", (Tag("cat", confidence=0.5),)) for key in keys]
    return bytes(outcomes_to_batch(outcomes, run="r", at=[1] * len(keys)).serialize())


def segment(folder: Path, *frames: tuple[Kind, bytes], name: str = "t-000001.journal", notes: OpenMarks | None = None):
    """A segment that holds these frames and is still open."""
    made = Segment(folder / name, seed=SEED, header={"run": "r"}, notes=notes or OpenMarks(), files=Files())
    if frames:
        made.append(frames)
    return made


def reader(path: Path, seed: int = SEED) -> SegmentReader:
    return SegmentReader(path, seed=seed, files=Files())


def keys(batches) -> list[str]:
    return [key for batch in batches for key in batch.column("key").to_pylist()]


def test_what_is_appended_is_read_back_in_order(tmp_path):
    """Outcomes come back in the order they were journaled, with the header that says whose they are."""
    with_rows = segment(tmp_path, (Kind.OUTCOME, rows("a", "b")), (Kind.OUTCOME, rows("c")))
    found = reader(with_rows.path)
    assert keys(found.read()) == ["a", "b", "c"]
    assert found.header == {"format": FORMAT, "run": "r"}
    assert (found.frames, found.dropped, found.missing) == (3, 0, 0)


def test_a_living_segment_is_read_piece_by_piece(tmp_path):
    """A second look at a growing segment returns only what was appended since."""
    growing = segment(tmp_path, (Kind.OUTCOME, rows("a")))
    found = reader(growing.path)
    assert keys(found.read()) == ["a"]
    assert found.read() == []
    growing.append([(Kind.OUTCOME, rows("b"))])
    assert keys(found.read()) == ["b"]


def test_only_a_dead_segment_is_adopted(tmp_path):
    """Nobody can adopt a segment while its writer lives; one reader can when it is gone."""
    living = segment(tmp_path)
    first, second = reader(living.path), reader(living.path)
    assert not first.adopt()
    living.close()
    assert first.adopt()
    assert not second.adopt()


def test_a_removed_segment_is_not_adopted(tmp_path):
    """A segment that its writer sealed and removed is nobody's estate."""
    sealed = segment(tmp_path)
    found = reader(sealed.path)
    sealed.remove()
    assert not found.adopt()
    assert not found.is_in_place()


def test_a_frame_in_the_making_waits_while_its_writer_lives(tmp_path):
    """Half a frame at the end of a living segment is no damage: it is read when it is whole."""
    growing = segment(tmp_path)
    frame = encode(Kind.OUTCOME, 2, rows("a"), seed=SEED)
    with growing.path.open("ab") as file:
        file.write(frame[:50])
    found = reader(growing.path)
    assert found.read() == []
    with growing.path.open("ab") as file:
        file.write(frame[50:])
    assert keys(found.read()) == ["a"]
    assert found.dropped == 0


def test_a_torn_tail_is_dropped_and_counted(tmp_path):
    """Half a frame at the end of a dead segment is dropped; the bytes are reported."""
    dead = segment(tmp_path, (Kind.OUTCOME, rows("a")))
    dead.close()
    with dead.path.open("ab") as file:
        file.write(encode(Kind.OUTCOME, 3, rows("b"), seed=SEED)[:200] + bytes(512))
    found = reader(dead.path)
    assert found.adopt()
    assert keys(found.read()) == ["a"]
    assert found.dropped == 200 + 512


def test_reading_goes_on_behind_a_damaged_frame(tmp_path):
    """One damaged frame costs itself; those behind it are found, and the gap is reported."""
    dead = segment(tmp_path, *((Kind.OUTCOME, rows(key)) for key in "abc"))
    dead.close()
    data = bytearray(dead.path.read_bytes())
    data[data.find(MAGIC, data.find(MAGIC, 1) + 1) + 100] ^= 1  # in the frame of "b"
    dead.path.write_bytes(data)
    found = reader(dead.path)
    assert found.adopt()
    assert keys(found.read()) == ["a", "c"]
    assert (found.missing, found.dropped) == (1, OVERHEAD + len(rows("b")))


def test_a_region_that_comes_twice_counts_once():
    """Frames whose sequence does not rise are a copy of something old, not news."""
    frames = encode(Kind.OUTCOME, 1, rows("a"), seed=SEED) + encode(Kind.OUTCOME, 2, rows("b"), seed=SEED)
    found = scan(frames + frames, seed=SEED, after=0, is_final=True)
    assert [frame.sequence for frame in found.frames] == [1, 2]
    assert found.dropped == len(frames)


def test_frames_of_another_identity_are_no_frames(tmp_path):
    """A segment that was copied from another identity's folder yields nothing."""
    dead = segment(tmp_path, (Kind.OUTCOME, rows("a")))
    dead.close()
    found = reader(dead.path, seed=SEED + 1)
    assert found.adopt()
    assert found.read() == []
    assert found.dropped == dead.path.stat().st_size


def later_version(data: bytes) -> bytes:
    """The first frame as a version 9 of this package would write it."""
    head = bytearray(data[:20])
    head[3] = 9
    return bytes(head) + struct.pack("<I", zlib.crc32(data[24:], zlib.crc32(bytes(head), SEED))) + data[24:]


def test_another_format_version_is_refused_by_name(tmp_path):
    """A segment of a later version is refused with both versions named; a damaged version byte is only damage."""
    frame = encode(Kind.HEADER, 1, b"{}", seed=SEED)
    assert foreign_format(later_version(frame), seed=SEED) == 9
    assert foreign_format(frame[:3] + b"\x09" + frame[4:], seed=SEED) is None
    path = tmp_path / "t-000001.journal"
    path.write_bytes(later_version(frame))
    with pytest.raises(ConfigError, match="format version 9; this version reads 1"):
        reader(path).read()


def test_an_unknown_kind_of_frame_is_left_out(tmp_path):
    """A frame kind that this version does not know neither stops the reading nor yields anything."""
    unknown = encode(Kind.OUTCOME, 1, b"", seed=SEED)
    head = unknown[:4] + bytes([99]) + unknown[5:20]
    data = head + struct.pack("<I", zlib.crc32(b"", zlib.crc32(head, SEED)))
    data += encode(Kind.OUTCOME, 2, rows("a"), seed=SEED)
    assert [frame.sequence for frame in scan(data, seed=SEED, after=0, is_final=True).frames] == [2]


def noted(*frames: tuple[Kind, bytes]) -> OpenMarks:
    notes = OpenMarks()
    for sequence, (kind, payload) in enumerate(frames, 1):
        (frame,) = scan(encode(kind, sequence, payload, seed=SEED), seed=SEED, after=0, is_final=True).frames
        notes.apply(frame)
    return notes


def test_marks_jobs_and_claims_last_until_the_outcome():
    """A sent mark, a job and a claim are forgotten when the image's outcome is journaled, and not before."""
    job = write_jobs({"b": Job("j1", WHEN)})
    claim = digest("a") + digest("b") + digest("z")
    notes = noted((Kind.SENT, marks({"a": 1, "b": 2})), (Kind.JOB, job), (Kind.CLAIM, claim))
    assert (notes.sent, list(notes.jobs), len(notes.claims)) == ({"a": 1, "b": 2}, ["b"], 3)
    notes = noted((Kind.SENT, marks({"a": 1, "b": 2})), (Kind.JOB, job), (Kind.CLAIM, claim), (Kind.OUTCOME, rows("b")))
    assert (notes.sent, notes.jobs, notes.claims) == ({"a": 1}, {}, {digest("a"), digest("z")})


def test_marks_and_claims_can_be_taken_back():
    """A call that is known to have cost nothing leaves no mark; a released image may be claimed by others."""
    notes = noted(
        (Kind.SENT, marks({"a": 1, "b": 2})),
        (Kind.CLEARED, b'["a"]'),
        (Kind.CLAIM, digest("a") + digest("b")),
        (Kind.RELEASE, digest("b")),
    )
    assert (notes.sent, notes.claims) == ({"b": 2}, {digest("a")})


def test_a_new_segment_opens_with_what_still_waits(tmp_path):
    """The last segment of a writer tells everything that is unanswered, so that the earlier ones can go."""
    waiting = OpenMarks(sent={"a": 1}, lost={"b": 2}, jobs={"c": Job("j", WHEN)}, claims={digest("d")})
    found = reader(segment(tmp_path, notes=waiting).path)
    found.read()
    assert found.notes == waiting


def test_a_segment_is_never_seen_without_its_lock(tmp_path):
    """Whoever lists the folder sees no segment before it is locked and has its header."""
    seen = []

    class Watching(Files):
        def rename(self, source, target):
            seen.append((sorted(p.name for p in tmp_path.glob("[!.]*")), source.stat().st_size > OVERHEAD))
            super().rename(source, target)

    Segment(tmp_path / "t-000001.journal", seed=SEED, header={}, notes=OpenMarks(), files=Watching())
    assert [names for names, _ in seen] == [[]]
    assert seen[0][1]


def test_a_disk_that_takes_a_few_bytes_at_a_time_is_written_in_full(tmp_path):
    """Short writes are continued until the frame is whole."""

    class Slow(Files):
        def write(self, handle, data):
            return os.write(handle, data[:7])

    path = tmp_path / "t-000001.journal"
    Segment(path, seed=SEED, header={}, notes=OpenMarks(), files=Slow()).append([(Kind.OUTCOME, rows("a"))])
    assert keys(reader(path).read()) == ["a"]


def test_whatever_a_vendor_says_can_be_journaled():
    """Infinities, half surrogates, huge numbers, foreign types: each becomes null or readable text, none an error."""
    tag = Tag(
        "\ud800x",
        confidence=float("inf"),
        confidence_raw=float("nan"),
        level=10**20,
        tag_id=5,  # type: ignore[arg-type]
        box=Box(1, 2, 3, float("nan")),
        measure=1e300,
        extra={"a": object(), "b": [1, {"c": "\udc00"}]},
    )
    batch = outcomes_to_batch([Outcome("k", "u", "ok", (tag, Tag("y", confidence=0.25)), cost_micro_yuan=10**30)])
    batch.validate(full=True)
    first, second = batch.to_pylist()[0]["tags"]
    assert (first["tag"], first["confidence"], first["confidence_raw"], first["level"]) == ("?x", None, None, None)
    assert (first["tag_id"], first["measure"], first["bbox"]["height"]) == ("5", None, None)
    assert (second["confidence"], second["extra"], second["bbox"]) == (0.25, None, None)
    assert batch.to_pylist()[0]["cost_micro_yuan"] is None


def test_nothing_signed_is_journaled():
    """URLs lose their signature wherever they stand: in the URL, the error, the extras."""
    signed = (
        "https://b.oss.com/a.jpg?OSSAccessKeyId=CANARY1&Expires=1800000000&Signature=CANARY2CANARY2CANARY2CANARY&w=1"
    )
    outcome = Outcome(
        "k",
        signed,
        "failed",
        (Tag("x", extra={"link": signed, "deep": [{"u": signed}], "t": "Signature=CANARY3"}),),
        error=f"could not fetch {signed}",
    )
    text = bytes(outcomes_to_batch([outcome]).serialize())
    assert b"CANARY" not in text
    assert b"https://b.oss.com/a.jpg?w=1" in text
