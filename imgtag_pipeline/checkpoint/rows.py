"""Outcomes as Arrow: column by column, clean (no signature, no infinity), and never refused whatever a vendor said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa

from imgtag_pipeline.core import schema
from imgtag_pipeline.model import Box, Outcome, Tag
from imgtag_pipeline.urls import redact, unsigned_url

_INT32: Final = (-(1 << 31), (1 << 31) - 1)
_INT64: Final = (-(1 << 63), (1 << 63) - 1)
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def microseconds(moment: datetime) -> int:
    """The moment as an Arrow timestamp: microseconds since 1970, UTC."""
    return round(moment.timestamp() * 1_000_000)


def outcomes_to_batch(
    outcomes: Sequence[Outcome],
    *,
    run: str | None = None,
    at: Sequence[int] | None = None,
    attempts: Sequence[int] | None = None,
) -> pa.RecordBatch:
    """One row of `schema.OUTCOME` for each outcome, in order.

    `at` is in microseconds; `attempts` replaces the outcomes' own. URLs lose their signature, errors are redacted,
    a confidence that is no finite number is null.
    """
    count = len(outcomes)
    columns = {
        "key": _text([o.key for o in outcomes]),
        "url": _text([unsigned_url(o.url) for o in outcomes]),
        "status": _text([o.status for o in outcomes]),
        "tags": _tags([o.tags for o in outcomes]),
        "error_code": _text([o.error_code for o in outcomes]),
        "error": _text([o.error if o.error is None else redact(o.error) for o in outcomes]),
        "request_id": _text([o.request_id for o in outcomes]),
        "calls": _whole([o.calls for o in outcomes], pa.int32(), _INT32),
        "billed": _text([o.billed for o in outcomes]),
        "cost_micro_yuan": _whole([o.cost_micro_yuan for o in outcomes], pa.int64(), _INT64),
        "attempts": pa.array([o.attempts for o in outcomes] if attempts is None else attempts, pa.int32()),
        "at": pa.nulls(count, pa.int64()) if at is None else pa.array(at, pa.int64()),
        "run": pa.array([run] * count, pa.string()),
    }
    columns["at"] = columns["at"].cast(schema.OUTCOME.field("at").type)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.OUTCOME.names], schema=schema.OUTCOME)


def concat(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of `schema.OUTCOME` with the rows of all, in order."""
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches, schema=schema.OUTCOME).combine_chunks()
    found = table.to_batches()
    return found[0] if found else empty()


def empty() -> pa.RecordBatch:
    """No rows."""
    return pa.RecordBatch.from_pylist([], schema=schema.OUTCOME)


def _tags(lists: Sequence[Sequence[Tag]]) -> pa.Array:
    tags = [tag for some in lists for tag in some]
    offsets = pa.array(np.fromiter(accumulate((len(some) for some in lists), initial=0), np.int32, len(lists) + 1))
    columns: dict[str, pa.Array] = {
        "tag": _text([t.name for t in tags]),
        "confidence": _number([t.confidence for t in tags], np.float32),
        "confidence_raw": _number([t.confidence_raw for t in tags], np.float64),
        "kind": _text([t.kind for t in tags]),
        "level": _whole([t.level for t in tags], pa.int32(), _INT32),
        "parent": _text([t.parent for t in tags]),
        "tag_id": _text([t.tag_id for t in tags]),
        "language": _text([t.language for t in tags]),
        "bbox": _boxes([t.box for t in tags]),
        "extra": _text([_extra(t.extra) if t.extra else None for t in tags]),
        "measure": _number([t.measure for t in tags], np.float32),
    }
    fields = [schema.TAG.field(i) for i in range(schema.TAG.num_fields)]
    values = pa.StructArray.from_arrays([columns[field.name] for field in fields], fields=fields)
    return pa.ListArray.from_arrays(offsets, values)


def _text(values: Sequence[str | None]) -> pa.Array:
    try:
        return pa.array(values, pa.string())
    except (UnicodeEncodeError, pa.ArrowException):  # half a surrogate pair in a vendor's JSON, or a number for a text
        return pa.array([None if v is None else _plain(v) for v in values], pa.string())


def _plain(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _number(values: list[float | None], kind: type[np.floating[Any]]) -> pa.Array:
    if all(v is None for v in values):
        return pa.nulls(len(values), pa.from_numpy_dtype(kind))
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.array([_float(v) for v in values], dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = numbers.astype(kind)
    return pa.array(narrow, mask=~np.isfinite(narrow))


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _whole(values: list[int | None] | list[int], kind: pa.DataType, limits: tuple[int, int]) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (OverflowError, TypeError, pa.ArrowException):
        low, high = limits
        return pa.array([v if isinstance(v, int) and low <= v <= high else None for v in values], kind)


def _boxes(boxes: list[Box | None]) -> pa.Array:
    if all(box is None for box in boxes):
        return pa.nulls(len(boxes), schema.BBOX)
    sides: Iterable[Callable[[Box], float]] = (
        lambda b: b.x,
        lambda b: b.y,
        lambda b: b.width,
        lambda b: b.height,
    )
    columns = [_number([None if b is None else side(b) for b in boxes], np.float32) for side in sides]
    return pa.StructArray.from_arrays(
        columns, fields=list(schema.BBOX), mask=pa.array([b is None for b in boxes], pa.bool_())
    )


def _extra(extra: Mapping[str, Any]) -> str:
    try:
        text = _encode(extra)
        if b"://" in text or b"=" in text:
            text = _encode(_clean(extra))
        return text.decode()
    except (TypeError, ValueError, RecursionError):  # whatever this is, it is not JSON: kept as readable text
        return _encode(_plain(redact(repr(extra)))).decode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {str(name): _clean(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(inner) for inner in value]
    return value
