"""Stored outcomes beside the caller's rows, in the three shapes: long is canonical, wide and nested are views of it.

Pure Arrow and NumPy on whole columns; no Python object per row. A row without an answer is a row in every shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.core import schema
from imgtag_pipeline.core.arrow_take import Ints, Mask, flat, is_identity, numbers_at, picker, positions_of
from imgtag_pipeline.errors import ConfigError

SHAPES: Final = ("long", "wide", "nested")
Value = Literal["confidence", "measure"]
PREFIX: Final = "tag_"
SKIPPED_CODE: Final = "NullUrl"
SKIPPED_ERROR: Final = "the URL is null or blank, so nothing was asked"

_TAG_COLUMNS: Final = tuple(name for name in schema.LONG.names if schema.TAG.get_field_index(name) >= 0)
_OUTCOME_COLUMNS: Final = ("error_code", "error", "request_id")


@dataclass(frozen=True, slots=True)
class View:
    """Which tags are shown. What is stored is never touched.

    A tag without a confidence passes `min_confidence` (unknown is not low); `top_k` counts what is left, best first.
    """

    min_confidence: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence is {self.min_confidence!r}; give a number from 0 to 1")
        if self.top_k is not None and (self.top_k != int(self.top_k) or self.top_k < 1):
            raise ConfigError(
                f"top_k is {self.top_k!r}; give a whole number from 1 up, or leave it out to see all tags"
            )


ALL: Final = View()


def check_columns(names: Iterable[str], *, shape: str, vocabulary: Sequence[str] | None = None) -> None:
    """Refuse, before any call is made, a shape that does not exist and names that the result's own columns need.

    `names` are the caller's columns that will stand in the result. A wide table without a vocabulary needs every
    name that begins with `tag_`, because nobody knows yet which tags will be seen.
    """
    if shape not in SHAPES:
        raise ConfigError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")
    names = list(names)
    if shape == "long":
        ours = set(schema.LONG.names)
    elif shape == "nested":
        ours = set(schema.NESTED.names)
    else:
        ours = set(schema.WIDE_TAIL.names) | set(_tag_names(vocabulary or ()))
        if vocabulary is None:
            ours |= {name for name in names if name.startswith(PREFIX)}
    taken = [name for name in names if name in ours]
    if taken:
        listed = ", ".join(repr(name) for name in taken)
        raise ConfigError(f"the table already has {listed}, a column of the {shape} result; rename it before labelling")


def long_schema(kept: pa.Schema) -> pa.Schema:
    """The caller's kept columns, then the fixed long columns."""
    check_columns(kept.names, shape="long")
    return pa.schema([*kept, *schema.LONG])


def wide_schema(kept: pa.Schema, vocabulary: Sequence[str]) -> pa.Schema:
    """The caller's columns, one float32 column per tag of the vocabulary, status and error code."""
    check_columns(kept.names, shape="wide", vocabulary=vocabulary)
    tags = [(name, pa.float32()) for name in _tag_names(vocabulary)]
    return pa.schema([*kept, *tags, *schema.WIDE_TAIL], metadata=_index_metadata(kept))


def nested_schema(kept: pa.Schema) -> pa.Schema:
    """The caller's columns, then the list of tags, status, error code and error."""
    check_columns(kept.names, shape="nested")
    return pa.schema([*kept, *schema.NESTED], metadata=_index_metadata(kept))


def long(
    rows: pa.RecordBatch | pa.Table,
    urls: pa.Array,
    outcomes: pa.RecordBatch,
    index: pa.Array,
    *,
    provider: str,
    view: View = ALL,
) -> pa.RecordBatch:
    """One row per input row and tag shown; a row that shows no tag is one row with a null tag.

    `index` says for each row which outcome answers it; null means that the row was skipped.
    """
    shown = _Shown.of(outcomes, view)
    at, skipped = positions_of(index)
    counts = numbers_at(shown.counts, at, skipped)
    repeats = np.maximum(counts, 1)
    total = int(repeats.sum())
    parent = np.repeat(np.arange(len(at), dtype=np.int64), repeats)
    rank = np.arange(total, dtype=np.int64) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    no_tag = np.repeat(counts == 0, repeats)
    pick = picker(np.repeat(numbers_at(shown.starts, at, skipped), repeats) + rank, no_tag, len(shown.tags))
    outcome_pick = picker(at[parent], skipped[parent], len(outcomes))
    row_pick = picker(parent, None, len(at))

    columns = [row_pick(flat(rows.column(i))) for i in range(rows.num_columns)]
    ours: dict[str, pa.Array] = {
        "url": row_pick(flat(urls)),
        "provider": pa.repeat(pa.scalar(provider, pa.string()), total),
        "rank": pa.array(rank.astype(np.int32) + 1, mask=no_tag),
        "status": pc.fill_null(outcome_pick(outcomes.column("status")), "skipped"),
    }
    for name, array in zip(_TAG_COLUMNS, _children(shown.tags, _TAG_COLUMNS), strict=True):
        ours[name] = pick(array)
    reasons = [outcome_pick(outcomes.column(name)) for name in _OUTCOME_COLUMNS]
    ours |= dict(zip(_OUTCOME_COLUMNS, _skip_reasons(reasons, skipped[parent]), strict=True))
    columns += [ours[field.name] for field in schema.LONG]
    return pa.RecordBatch.from_arrays(columns, schema=long_schema(rows.schema))


def wide(
    rows: pa.RecordBatch | pa.Table,
    outcomes: pa.RecordBatch,
    index: pa.Array,
    *,
    vocabulary: Sequence[str],
    view: View = ALL,
    value: Value = "confidence",
) -> pa.RecordBatch:
    """One row per input row: a number per tag of the vocabulary, 0 for not seen (or not shown), null for no answer.

    The number is the tag's confidence where it has one, else its own measure (the share of a colour), else 1 for
    present. With `value="measure"` the measure comes first.
    """
    at, skipped = positions_of(index)
    pick = picker(at, skipped, len(outcomes))
    seen = _pivot(_Shown.of(outcomes, view), len(outcomes), vocabulary, value)
    if not is_identity(at, skipped, len(outcomes)):
        seen = np.take(seen, at, axis=1) if len(outcomes) else np.zeros((len(seen), len(at)), dtype=np.float32)
    status = pc.fill_null(pick(outcomes.column("status")), "skipped")
    answered = pc.is_in(status, value_set=pa.array(["ok", "empty"]))
    validity = None if pc.all(answered).as_py() is not False else answered.buffers()[1]
    columns = [flat(rows.column(i)) for i in range(rows.num_columns)]
    columns += [pa.Array.from_buffers(pa.float32(), len(at), [validity, pa.py_buffer(line)]) for line in seen]
    columns.append(status)
    columns += _skip_reasons([pick(outcomes.column("error_code"))], skipped)
    return pa.RecordBatch.from_arrays(columns, schema=wide_schema(rows.schema, vocabulary))


def nested(
    rows: pa.RecordBatch | pa.Table, outcomes: pa.RecordBatch, index: pa.Array, *, view: View = ALL
) -> pa.RecordBatch:
    """One row per input row with the list of its tags: empty where nothing was found, null where there is no answer."""
    at, skipped = positions_of(index)
    pick = picker(at, skipped, len(outcomes))
    shown = _Shown.of(outcomes, view)
    rank = np.arange(len(shown.tags), dtype=np.int64) - np.repeat(shown.starts, shown.counts) + 1
    tags = pa.StructArray.from_arrays(
        [pa.array(rank.astype(np.int32)), *shown.tags.flatten()], fields=list(schema.NESTED_TAG)
    )
    answered = pc.is_in(outcomes.column("status"), value_set=pa.array(["ok", "empty"]))
    offsets = pa.array(np.append(shown.starts, len(shown.tags)).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, tags, type=schema.NESTED.field("tags").type, mask=pc.invert(answered))
    columns = [flat(rows.column(i)) for i in range(rows.num_columns)]
    columns += [pick(lists), pc.fill_null(pick(outcomes.column("status")), "skipped")]
    columns += _skip_reasons([pick(outcomes.column(name)) for name in ("error_code", "error")], skipped)
    return pa.RecordBatch.from_arrays(columns, schema=nested_schema(rows.schema))


def tag_counts(outcomes: pa.RecordBatch, view: View = ALL) -> Counter[str]:
    """How often each tag is shown; counts of several batches can be added up."""
    names = _children(_Shown.of(outcomes, view).tags, ["tag"])[0]
    counted = pc.value_counts(names.drop_null())
    return Counter(dict(zip(counted.field(0).to_pylist(), counted.field(1).to_pylist(), strict=True)))


def in_order(counts: Counter[str]) -> tuple[str, ...]:
    """A vocabulary from counts: the most frequent first, equals by name, so that it is the same on every run."""
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def vocabulary_of(outcomes: pa.RecordBatch | pa.Table | Iterable[pa.RecordBatch], view: View = ALL) -> tuple[str, ...]:
    """The tags that are shown, the most frequent first, equals by name."""
    if isinstance(outcomes, pa.RecordBatch):
        outcomes = [outcomes]
    elif isinstance(outcomes, pa.Table):
        outcomes = outcomes.to_batches()
    total: Counter[str] = Counter()
    for batch in outcomes:
        total += tag_counts(batch, view)
    return in_order(total)


def _index_metadata(kept: pa.Schema) -> dict[bytes, bytes] | None:
    """What pandas noted about its index; notes of other tools describe a table that this is no longer."""
    noted = (kept.metadata or {}).get(b"pandas")
    return None if noted is None else {b"pandas": noted}


def _tag_names(vocabulary: Sequence[str]) -> list[str]:
    if isinstance(vocabulary, str):
        raise ConfigError(f"vocabulary is the text {vocabulary!r}; give a list of tags")
    twice = sorted(name for name, count in Counter(vocabulary).items() if count > 1)
    if twice:
        raise ConfigError(f"vocabulary names {', '.join(map(repr, twice))} more than once; each tag is one column")
    return [PREFIX + name for name in vocabulary]


@dataclass(frozen=True, slots=True)
class _Shown:
    """The tags that a view shows, flat, with where each outcome's begin and how many they are."""

    tags: pa.StructArray
    starts: Ints
    counts: Ints

    @classmethod
    def of(cls, outcomes: pa.RecordBatch, view: View) -> _Shown:
        lists = outcomes.column("tags")
        tags = lists.flatten()
        counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0)).astype(np.int64)
        if view.min_confidence is not None:
            low = np.float32(view.min_confidence)
            confidence = np.asarray(pc.fill_null(pc.struct_field(tags, "confidence"), low))
            tags, counts = _keep(tags, counts, confidence >= low)
        if view.top_k is not None:
            rank = np.arange(len(tags)) - np.repeat(np.cumsum(counts) - counts, counts)
            tags, counts = _keep(tags, counts, rank < view.top_k)
        return cls(tags, np.cumsum(counts) - counts, counts)


def _keep(tags: pa.StructArray, counts: Ints, keep: Mask) -> tuple[pa.StructArray, Ints]:
    if keep.all():
        return tags, counts
    owner = np.repeat(np.arange(len(counts)), counts)
    return tags.filter(pa.array(keep)), np.bincount(owner[keep], minlength=len(counts)).astype(np.int64)


def _pivot(shown: _Shown, images: int, vocabulary: Sequence[str], value: Value) -> npt.NDArray[np.float32]:
    """One line per tag of the vocabulary, one cell per image; a tag that an image has twice counts with its largest."""
    lines = np.zeros((len(vocabulary), images), dtype=np.float32)
    names, confidence, measure = _children(shown.tags, ["tag", "confidence", "measure"])
    code = np.asarray(pc.fill_null(pc.index_in(names, value_set=pa.array(vocabulary, pa.string())), -1))
    ranked = (measure, confidence) if value == "measure" else (confidence, measure)
    number = np.asarray(pc.fill_null(pc.coalesce(*ranked), np.float32(1)))
    known = code >= 0
    cell = code.astype(np.int64) * images + np.repeat(np.arange(images), shown.counts)
    if not known.all():
        cell, number = cell[known], number[known]
    cells = lines.reshape(-1)
    larger = number > 0
    while larger.any():
        cell, number = (cell, number) if larger.all() else (cell[larger], number[larger])
        cells[cell] = number
        larger = number > cells[cell]
    return lines


def _skip_reasons(columns: list[pa.Array], skipped: Mask) -> list[pa.Array]:
    """The columns error_code, error and so on, with why a row was skipped written into the first two."""
    if not skipped.any():
        return columns
    mask = pa.array(skipped)
    reasons = (SKIPPED_CODE, SKIPPED_ERROR)
    filled = [pc.if_else(mask, reason, column) for column, reason in zip(columns, reasons, strict=False)]
    return filled + columns[len(filled) :]


def _children(tags: pa.StructArray, names: Sequence[str]) -> list[pa.Array]:
    children = tags.flatten()
    return [children[schema.TAG.get_field_index(name)] for name in names]
