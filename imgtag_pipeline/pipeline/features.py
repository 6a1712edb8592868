"""The feature vector as a column: it is stored with an image's tags, and stands in a column of its own in the result.

In a nested table it stands in every answered row, in a long one in the first row of each image, so that it is not
repeated for every tag.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError

COLUMN: Final = "features"
KIND: Final = "features"  # of the tag that carries the vector in the store


def field_of(size: int) -> pa.Field:
    """The column for vectors of this size."""
    return pa.field(COLUMN, pa.list_(pa.field("element", pa.float32()), size))


def check(shape: str, names: Sequence[str]) -> None:
    """Refuse a shape without room for the column, and a table that has such a column; raises `ConfigError`."""
    if shape == "wide":
        raise ConfigError("features are a column of long and nested tables; give shape='nested', or leave features out")
    if COLUMN in names:
        raise ConfigError("the table already has 'features', a column of the result; rename it before labelling")


def split(outcomes: pa.RecordBatch, size: int) -> tuple[pa.RecordBatch, pa.Array]:
    """The outcomes without the tags that carry vectors, and the vector of each outcome, null where there is none."""
    lists = outcomes.column("tags")
    tags = lists.flatten()
    carries = np.asarray(pc.fill_null(pc.equal(pc.struct_field(tags, "kind"), KIND), False))
    counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
    owner = np.repeat(np.arange(len(counts)), counts)
    vectors = np.zeros((len(counts), size), np.float32)
    has_one = np.zeros(len(counts), bool)
    extras = pc.struct_field(tags, "extra").filter(pa.array(carries)).to_pylist()
    for at, extra in zip(owner[carries], extras, strict=True):
        vectors[at] = _decoded(extra)
        has_one[at] = True
    kept = np.bincount(owner[~carries], minlength=len(counts))
    offsets = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    rest = pa.ListArray.from_arrays(
        pa.array(offsets), tags.filter(pa.array(~carries)), type=schema.OUTCOME.field("tags").type, mask=lists.is_null()
    )
    place = outcomes.schema.get_field_index("tags")
    return outcomes.set_column(place, outcomes.schema.field(place), rest), _column(vectors, has_one)


def beside(batch: pa.RecordBatch, vectors: pa.Array, index: pa.Array, *, is_long: bool) -> pa.RecordBatch:
    """The shaped batch with the column at its end; `index` gives each input row's outcome."""
    column = vectors.take(index)
    if is_long:
        first = np.asarray(pc.fill_null(pc.equal(batch.column("rank"), 1), True))
        column = column.take(pa.array(np.cumsum(first) - 1, mask=~first))
    return batch.append_column(field_of(vectors.type.list_size), column)


def _decoded(extra: str) -> npt.NDArray[np.float32]:
    text = json.loads(extra)[KIND]
    return np.frombuffer(base64.b64decode(text + "=" * (-len(text) % 4)), "<f2").astype(np.float32)


def _column(vectors: npt.NDArray[np.float32], has_one: npt.NDArray[np.bool_]) -> pa.Array:
    kind = field_of(vectors.shape[1]).type
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=kind, mask=pa.array(~has_one))
