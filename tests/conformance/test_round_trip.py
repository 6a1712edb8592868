"""What every recorded answer holds survives the store's rows and Parquet: one schema for all providers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.core import schema
from imgtag_pipeline.model import Box, Outcome, Tag

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())


def tag_of(told: dict) -> Tag:
    box = told.get("box")
    return Tag(**{**told, "box": Box(**box) if box else None})


@pytest.mark.parametrize("path", GOLDEN, ids=[path.stem for path in GOLDEN])
def test_a_round_trip_through_parquet_loses_nothing(path):
    """Names, numbers, boxes, and whatever else the vendor said."""
    answers = {name: row for name, row in json.loads(path.read_text()).items() if "tags" in row}
    tags = {name: tuple(tag_of(told) for told in row["tags"]) for name, row in answers.items()}
    outcomes = [Outcome(name, "url", "ok", tags[name], request_id=answers[name]["request_id"]) for name in answers]
    batch = outcomes_to_batch(outcomes)
    file = io.BytesIO()
    pq.write_table(pa.Table.from_batches([batch]), file)
    back = pq.read_table(io.BytesIO(file.getvalue()))
    assert back.schema.equals(schema.OUTCOME)
    for row in back.to_pylist():
        for stored, tag in zip(row["tags"], tags[row["key"]], strict=True):
            assert (stored["tag"], stored["kind"], stored["parent"]) == (tag.name, tag.kind, tag.parent)
            assert (stored["level"], stored["tag_id"], stored["language"]) == (tag.level, tag.tag_id, tag.language)
            assert stored["confidence"] == (None if tag.confidence is None else pytest.approx(tag.confidence))
            assert stored["confidence_raw"] == tag.confidence_raw
            assert stored["measure"] == (None if tag.measure is None else pytest.approx(tag.measure))
            assert json.loads(stored["extra"] or "{}") == dict(tag.extra)
            corners = stored["bbox"] and [stored["bbox"][side] for side in ("x", "y", "width", "height")]
            box = tag.box and [tag.box.x, tag.box.y, tag.box.width, tag.box.height]
            assert corners == (None if box is None else pytest.approx(box))
