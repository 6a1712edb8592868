"""Answered windows become batches of the shape that the caller asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.pipeline import expand, features
from imgtag_pipeline.run import Answered


@dataclass(frozen=True, slots=True)
class Shaper:
    """One shape of one run. `kept` is the schema of the caller's columns; `drops_failed` leaves failed rows out.

    `features_size`: the outcomes carry vectors of this size, which become a column.
    """

    shape: Literal["long", "wide", "nested"]
    provider: str
    kept: pa.Schema
    view: expand.View
    vocabulary: Sequence[str] | None = None
    drops_failed: bool = False
    value: expand.Value = "confidence"
    features_size: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the columns depend on the tags that will be seen: wide, and no vocabulary."""
        return self.shape == "wide" and self.vocabulary is None

    @property
    def schema(self) -> pa.Schema:
        """The schema of the batches; while it is open, without tag columns."""
        if self.shape != "wide":
            shaped = expand.long_schema(self.kept) if self.shape == "long" else expand.nested_schema(self.kept)
            return shaped if self.features_size is None else shaped.append(features.field_of(self.features_size))
        return expand.wide_schema(self.kept, self.vocabulary or ())

    def batch(self, window: Answered, vocabulary: Sequence[str] | None = None) -> pa.RecordBatch:
        """The window in this shape; `vocabulary` closes an open wide one."""
        rows, urls, outcomes, index = window.rows, window.urls, window.outcomes, window.index
        if self.drops_failed:
            status = pc.fill_null(outcomes.column("status").take(index), "skipped")
            wanted = pc.not_equal(status, "failed")
            rows, urls, index = rows.filter(wanted), urls.filter(wanted), index.filter(wanted)
        if self.features_size is not None:
            outcomes, vectors = features.split(outcomes, self.features_size)
            plain = replace(self, features_size=None, drops_failed=False)
            shaped = plain.batch(Answered(rows, urls, outcomes, index))
            return features.beside(shaped, vectors, index, is_long=self.shape == "long")
        if self.shape == "long":
            return expand.long(rows, urls, outcomes, index, provider=self.provider, view=self.view)
        if self.shape == "nested":
            return expand.nested(rows, outcomes, index, view=self.view)
        tags = vocabulary or self.vocabulary or ()
        return expand.wide(rows, outcomes, index, vocabulary=tags, view=self.view, value=self.value)
