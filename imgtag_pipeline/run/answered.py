"""A window of rows with its outcomes, and the rows that stand in for images that have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.model import Outcome
from imgtag_pipeline.run.batches import Window

NOT_ASKED: Final = "the run stopped before this image was asked; a re-run continues"
STOPPED_BEFORE: Final = ("NotAsked", NOT_ASKED)
NOT_ASKED_YET: Final = ("NotAskedYet", "this image was not asked about yet; a run that may ask about it continues")


@dataclass(frozen=True, slots=True, repr=False)
class Answered:
    """A window's rows with the outcomes of its images; `index` maps a row to its outcome, null where there is none."""

    rows: pa.RecordBatch
    urls: pa.Array
    outcomes: pa.RecordBatch
    index: pa.Array


def with_unanswered(
    window: Window, outcomes: pa.RecordBatch, passing: Mapping[str, Outcome], not_asked: tuple[str, str]
) -> Answered:
    """The window with a row, behind its stored outcomes, for each image that failed in passing or was not asked.

    `not_asked` is the code and sentence of the latter.
    """
    if not window.unanswered:
        return Answered(window.rows, window.urls, outcomes, window.index)
    missing = [image for image in window.images if image.key in window.unanswered]
    failures = [passing.get(image.key) for image in missing]
    facts: dict[str, Any] = {
        "key": [image.key for image in missing],
        "url": [image.key for image in missing],
        "status": ["skipped" if failure is None else failure.status for failure in failures],
        "error_code": [not_asked[0] if failure is None else failure.error_code for failure in failures],
        "error": [not_asked[1] if failure is None else failure.error for failure in failures],
    }
    columns = [
        pa.array(facts[name], kind) if name in facts else pa.nulls(len(missing), kind)
        for name, kind in zip(outcomes.schema.names, outcomes.schema.types, strict=True)
    ]
    filler = pa.RecordBatch.from_arrays(columns, schema=outcomes.schema)
    joined = pa.Table.from_batches([outcomes, filler]).combine_chunks()
    place: dict[str, int] = {}
    for image in window.images:
        if image.key not in window.unanswered:
            place[image.key] = len(place)
    for image in missing:
        place[image.key] = len(place)
    moved = pa.array([place[image.key] for image in window.images], pa.int64())
    batch = joined.to_batches()[0] if joined.num_rows else filler
    return Answered(window.rows, window.urls, batch, moved.take(window.index))
