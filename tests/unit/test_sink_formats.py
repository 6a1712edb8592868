"""What stands in the file: Parquet, CSV and JSON lines hold every row and every value."""

import json

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.pipeline import expand
from imgtag_pipeline.sink.files import FileSink
from imgtag_pipeline.sink.places import REPORT_FILE
from imgtag_pipeline.source.files import open_files

REPORT = {"rows": 4, "failed": {"HTTP404": 1}, "yuan": None}
URLS = ["two.jpg", None, "none.jpg", "gone.jpg", "two.jpg"]
TABLE = pa.table({"url": URLS, "n": [1, 2, 3, 4, 5]})
BOX = {"x": 1.0, "y": 2.0, "width": 3.5, "height": 4.0}
ANSWERS = {
    "two.jpg": [
        {"tag": "cat", "confidence": 0.9, "kind": "label", "bbox": BOX},
        {"tag": "猫", "extra": '{"a": "b,\\n"}'},
    ],
    "none.jpg": [],
}


def shaped(shape="long", table=TABLE):
    """A finished table: every shape of the same small job."""
    urls = table.column("url").combine_chunks()
    distinct = list(dict.fromkeys(url for url in urls.to_pylist() if url))
    index = pa.array([distinct.index(url) if url else None for url in urls.to_pylist()], pa.int64())
    found = pa.RecordBatch.from_pylist([outcome(url) for url in distinct], schema=schema.OUTCOME)
    if shape == "long":
        batch = expand.long(table.select([]), urls, found, index, provider="local")
    elif shape == "wide":
        batch = expand.wide(table, found, index, vocabulary=["cat", "猫"])
    else:
        batch = expand.nested(table, found, index)
    return pa.Table.from_batches([batch])


def outcome(url):
    tags = ANSWERS.get(url)
    status = "failed" if tags is None else "ok" if tags else "empty"
    code = "HTTP404" if tags is None else None
    return {"key": url, "url": url, "status": status, "tags": tags, "error_code": code, "error": code}


def save(out, shape="long", table=TABLE, **options):
    """Write that table to OUT, two rows at a time."""
    result = shaped(shape, table)
    with FileSink(str(out), **options) as sink:
        for batch in result.to_batches(max_chunksize=2):
            sink.write(batch)
        sink.finish(result.schema, REPORT)
    return result


@pytest.mark.parametrize("shape", expand.SHAPES)
@pytest.mark.parametrize("name", ["out.parquet", "out/", "out"])
def test_parquet_holds_the_table_and_the_report(tmp_path, name, shape):
    """Read again, it is equal to the table; the report is in the file's metadata, in a folder also beside the parts."""
    expected = save(f"{tmp_path}/{name}", shape)
    out = tmp_path / name
    assert parquet.read_table(out).equals(expected)
    part = out / "part-00000.parquet" if out.is_dir() else out
    metadata = parquet.read_metadata(part)
    assert json.loads(metadata.metadata[b"imgtag"]) == REPORT
    assert metadata.metadata[b"imgtag_schema"] == str(schema.VERSION).encode()
    assert metadata.row_group(0).column(0).compression == "ZSTD"
    if out.is_dir():
        assert json.loads((out / REPORT_FILE).read_text()) == REPORT


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.tsv", "out.csv.bz2"])
def test_csv_holds_boxes_and_lists_as_json(tmp_path, name):
    """pandas reads it; null is empty, text with quotes and line breaks survives, numbers are short."""
    save(tmp_path / name)
    read = pd.read_csv(tmp_path / name, sep="\t" if "tsv" in name else ",", keep_default_na=False, dtype=str)
    assert list(read.columns) == schema.LONG.names
    assert json.loads(read["bbox"][0]) == BOX
    assert read["confidence"][0] == "0.9"
    assert read["extra"][1] == ANSWERS["two.jpg"][1]["extra"]
    assert list(read["tag"]) == ["cat", "猫", "", "", "", "cat", "猫"]
    save(tmp_path / f"nested-{name}", "nested")
    nested = open_files(str(tmp_path / f"nested-{name}"))
    lists = [row["tags"] for batch in nested.batches(["tags"]) for row in batch.to_pylist()]
    assert [None if text is None else [tag["tag"] for tag in json.loads(text)] for text in lists] == [
        ["cat", "猫"],
        None,
        [],
        None,
        ["cat", "猫"],
    ]


@pytest.mark.parametrize("name", ["out.jsonl", "out.ndjson", "out.json", "out.jsonl.gz"])
@pytest.mark.parametrize("shape", expand.SHAPES)
def test_json_lines_hold_one_object_per_row(tmp_path, name, shape):
    """Every row is one line with every column; floats are as short as they were given."""
    expected = save(tmp_path / name, shape)
    with fsspec.open(str(tmp_path / name), "rt", compression="infer", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == expected.num_rows
    assert all(list(row) == expected.column_names for row in rows)
    if shape == "long":
        assert (rows[0]["confidence"], rows[0]["bbox"], rows[1]["tag"]) == (0.9, BOX, "猫")
    if shape == "nested":
        assert rows[0]["tags"][0]["confidence"] == 0.9


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out/"])
@pytest.mark.parametrize("shape", expand.SHAPES)
def test_a_table_without_rows_is_written_with_its_columns(tmp_path, name, shape):
    """Nothing to label gives a readable file with the fixed columns."""
    save(f"{tmp_path}/{name}", shape, table=TABLE.slice(0, 0))
    if name.endswith(".jsonl"):
        assert (tmp_path / name).read_bytes() == b""
    else:
        source = open_files(f"{tmp_path}/{name}")
        assert (source.rows, "status" in source.names) == (0, True)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([[1, 2]], pa.list_(pa.int8())),
        pa.array([[0.1, None]], pa.large_list(pa.float32())),
        pa.array([{"a": {"b": 0.1}}], pa.struct([("a", pa.struct([("b", pa.float32())]))])),
        pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
        pa.array(["x"], pa.dictionary(pa.int8(), pa.string())),
        pa.array([b"\xff"], pa.binary()),
        pa.array([0], pa.timestamp("ms", tz="UTC")),
        pa.array([1], pa.decimal128(5, 2)),
        pa.array([1], pa.duration("s")),
        pa.array([True]),
        pa.array([np.float16(0.5)]),
        pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
        pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", tz="Asia/Shanghai")),
        pa.array([253_402_300_800_000], pa.timestamp("ms")),
        pa.array([-99_999_999_999_999], pa.timestamp("ms")),
        pa.array([2_932_897], pa.date32()),
        pa.array([123_456_789], pa.duration("ns")),
        pa.array([1], pa.time64("ns")),
        pa.array([{"t": 1_700_000_000_123_456_789}], pa.struct([("t", pa.timestamp("ns"))])),
        pa.array([[253_402_300_800_000]], pa.list_(pa.timestamp("ms"))),
        pa.array([b"\xff"], pa.binary_view()),
        pa.array(["x"], pa.string_view()),
        pa.array([b"\xff\xfe"]).view(pa.string()),
        pa.ListArray.from_arrays([0, 1], pa.array([b"\xff"]).view(pa.string())),
        pa.nulls(1),
    ],
    ids=lambda values: str(values.type),
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_callers_columns_of_any_type_are_written(tmp_path, values, suffix):
    """A wide file holds the caller's columns, whatever they are; the next row of nothing is null."""
    own = pa.concat_arrays([values, pa.nulls(1, values.type)])
    table = pa.table({"url": ["two.jpg", None], "own": own})
    save(tmp_path / f"out.{suffix}", "wide", table=table)
    source = open_files(str(tmp_path / f"out.{suffix}"))
    nulls = [null for batch in source.batches(["own"]) for null in batch.column("own").is_null().to_pylist()]
    assert nulls == [values.null_count == 1, True]


def test_times_are_written_to_the_nanosecond(tmp_path):
    """pandas keeps nanoseconds, and so do the text formats; what lies beyond Python's calendar is written too."""
    own = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns"))
    far = pa.array([253_402_300_800_000, None], pa.timestamp("ms"))
    table = pa.table({"url": ["two.jpg", None], "own": own, "far": far})
    save(tmp_path / "out.jsonl", "wide", table=table)
    row = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert (row["own"], row["far"]) == ("2023-11-14T22:13:20.123456789", "10000-01-01T00:00:00.000")


@pytest.mark.parametrize(
    ("name", "kind"), [("out.parquet", pa.month_day_nano_interval()), ("out.parquet", pa.struct([])), ("out.csv", None)]
)
def test_columns_that_a_file_cannot_hold_are_refused_beforehand(tmp_path, name, kind):
    """The caller is told before anything is paid for, and nothing is written."""
    kind = pa.dense_union([pa.field("a", pa.int8())]) if kind is None else kind
    with FileSink(str(tmp_path / name)) as sink, pytest.raises(ConfigError, match="cannot hold a column"):
        sink.check(pa.schema([("url", pa.string()), ("own", kind)]))
    assert list(tmp_path.iterdir()) == []
