"""The fixed Arrow schemas: one version, the same for every provider."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

VERSION: Final = 1


def _list(kind: pa.DataType) -> pa.ListType:
    """A list whose values are named as Parquet names them, so that a table is the same before and after a file."""
    return pa.list_(pa.field("element", kind))


BBOX: Final = pa.struct([(name, pa.float32()) for name in ("x", "y", "width", "height")])

TAG: Final = pa.struct(
    [
        ("tag", pa.string()),
        ("confidence", pa.float32()),
        ("confidence_raw", pa.float64()),
        ("kind", pa.string()),
        ("level", pa.int32()),
        ("parent", pa.string()),
        ("tag_id", pa.string()),
        ("language", pa.string()),
        ("bbox", BBOX),
        ("extra", pa.string()),
        ("measure", pa.float32()),
    ]
)

# One row per image and exchange: what the journal and the parts hold.
OUTCOME: Final = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("tags", _list(TAG)),
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("calls", pa.int32()),
        pa.field("billed", pa.string()),
        pa.field("cost_micro_yuan", pa.int64()),
        pa.field("attempts", pa.int32()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("run", pa.string()),
    ]
)

LONG: Final = pa.schema(
    [
        ("url", pa.string()),
        ("provider", pa.string()),
        ("rank", pa.int32()),
        ("tag", pa.string()),
        ("confidence", pa.float32()),
        ("confidence_raw", pa.float64()),
        ("kind", pa.string()),
        ("level", pa.int32()),
        ("parent", pa.string()),
        ("tag_id", pa.string()),
        ("language", pa.string()),
        ("bbox", BBOX),
        ("extra", pa.string()),
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error", pa.string()),
        ("request_id", pa.string()),
    ]
)

# A nested table's list holds the same fields as a long row's tag, with its rank first.
NESTED_TAG: Final = pa.struct([("rank", pa.int32()), *[TAG.field(i) for i in range(TAG.num_fields)]])
NESTED: Final = pa.schema(
    [
        ("tags", _list(NESTED_TAG)),
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error", pa.string()),
    ]
)

WIDE_TAIL: Final = pa.schema([("status", pa.string()), ("error_code", pa.string())])
