"""The table comes back in the kind, index, order and dtypes in which it was given; files are whole or not there."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest

from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.pipeline import expand
from imgtag_pipeline.sink.tables import attach_report, give_back
from imgtag_pipeline.source.tables import open_source, url_column

duckdb = pytest.importorskip("duckdb")
REPORT = {"rows": 4, "failed": {"HTTP404": 1}, "yuan": None}
URLS = ["two.jpg", None, "none.jpg", "gone.jpg", "two.jpg"]
TABLE = pa.table({"url": URLS, "n": [1, 2, 3, 4, 5]})
# How often each row of URLS appears in a long table.
REPEATS = [0, 0, 1, 2, 3, 4, 4]
BOX = {"x": 1.0, "y": 2.0, "width": 3.5, "height": 4.0}
ANSWERS = {
    "two.jpg": [
        {"tag": "cat", "confidence": 0.9, "kind": "label", "bbox": BOX},
        {"tag": "猫", "extra": '{"a": "b,\\n"}'},
    ],
    "none.jpg": [],
}


def outcomes(urls):
    rows = []
    for url in urls:
        tags = ANSWERS.get(url)
        status = "failed" if tags is None else "ok" if tags else "empty"
        code = "HTTP404" if tags is None else None
        rows.append({"key": url, "url": url, "status": status, "tags": tags, "error_code": code, "error": code})
    return pa.RecordBatch.from_pylist(rows, schema=schema.OUTCOME)


def batches_of(source, shape, keep=(), size=2):
    """What the pipeline hands to the sink: schema and shaped batches, a few rows each."""
    kept = source.kept(shape, keep)
    schemas = {
        "long": lambda: expand.long_schema(kept),
        "wide": lambda: expand.wide_schema(kept, ["cat", "猫"]),
        "nested": lambda: expand.nested_schema(kept),
    }

    def shaped():
        for batch in source.batches([*kept.names, source.resolve()], max_rows=size):
            urls, rows = url_column(batch, source.resolve()), batch.select(kept.names)
            distinct = list(dict.fromkeys(url for url in urls.to_pylist() if url))
            index = pa.array([distinct.index(url) if url else None for url in urls.to_pylist()], pa.int64())
            found = outcomes(distinct)
            if shape == "long":
                yield expand.long(rows, urls, found, index, provider="local")
            elif shape == "wide":
                yield expand.wide(rows, found, index, vocabulary=["cat", "猫"])
            else:
                yield expand.nested(rows, found, index)

    return schemas[shape](), shaped()


def labelled(table, shape, keep=()):
    source = open_source(table)
    return give_back(source, *batches_of(source, shape, keep), shape=shape, keep=keep)


INDEXES = [
    pd.RangeIndex(5),
    pd.RangeIndex(10, 0, -2, name="step"),
    pd.Index([7, 7, 7, 1, 1], name="sku"),
    pd.Index(["a", None, "b", "b", "c"]),
    pd.date_range("2024-01-01", periods=5, tz="Asia/Shanghai", name="day"),
    pd.CategoricalIndex(list("xyxyx")),
    pd.MultiIndex.from_tuples([(1, "a"), (1, "a"), (2, "b"), (3, None), (1, "a")], names=["i", None]),
    pd.Index([1.5, np.nan, 2, 2, 0]),
    pd.Index([1, 2, None, 4, 5], dtype="Int64", name="nullable"),
]


@pytest.mark.parametrize("index", INDEXES, ids=lambda index: f"{type(index).__name__}-{index.dtype}")
@pytest.mark.parametrize("shape", expand.SHAPES)
def test_pandas_index_is_the_callers(index, shape):
    """Long repeats each index entry per tag, wide and nested keep it; names and dtypes are kept."""
    frame = pd.DataFrame({"url": URLS}, index=index)
    result = labelled(frame, shape)
    pd.testing.assert_index_equal(result.index, index.take(REPEATS) if shape == "long" else index, exact="equiv")
    assert result.index.names == index.names


@pytest.mark.parametrize("shape", ["wide", "nested"])
def test_pandas_columns_are_the_callers(shape):
    """Every column keeps dtype and values, also those that Arrow cannot hold, and a name may stand there twice."""
    frame = pd.DataFrame(
        {
            "url": URLS,
            "odd": [object(), {1}, None, "x", 3],
            "cat": pd.Categorical(list("aabba"), ordered=True),
            "int8": np.arange(5, dtype="int8"),
            "text": pd.array(["x", None, "", "y", "z"], dtype="string"),
            5: pd.period_range("2024-01", periods=5, freq="M"),
        }
    )
    frame.insert(6, "int8", 0.5, allow_duplicates=True)
    result = labelled(frame, shape)
    pd.testing.assert_frame_equal(result.iloc[:, :7], frame)
    assert list(result.columns[7:9]) == (["tag_cat", "tag_猫"] if shape == "wide" else ["tags", "status"])


def test_pandas_dtypes_depend_on_options_not_on_data():
    """An empty table and one without failures have the dtypes of any other."""
    full = labelled(pd.DataFrame({"url": URLS}), "long")
    clean = labelled(pd.DataFrame({"url": ["two.jpg"]}), "long")
    empty = labelled(pd.DataFrame({"url": URLS}).iloc[:0], "long")
    assert list(full.dtypes) == list(clean.dtypes) == list(empty.dtypes)
    assert (full["rank"].dtype, full["confidence"].dtype) == (pd.Int32Dtype(), np.float32)
    assert list(full.columns) == schema.LONG.names
    wide = [labelled(pd.DataFrame({"url": urls}), "wide")["tag_cat"].dtype for urls in (URLS, ["two.jpg"])]
    assert wide == [np.float32, np.float32]


def test_pandas_long_keeps_the_named_columns_first():
    """Kept columns stand first, in the order asked for, with their dtypes, repeated per tag."""
    frame = pd.DataFrame({"url": URLS, "sku": pd.Categorical(list("abcde")), "odd": [object()] * 5})
    result = labelled(frame, "long", keep=["odd", "sku"])
    assert list(result.columns[:3]) == ["odd", "sku", "url"]
    assert list(result["sku"]) == ["a", "a", "b", "c", "d", "e", "e"]
    assert result["sku"].dtype == frame["sku"].dtype
    assert result["odd"].iloc[1] is frame["odd"].iloc[0]


def test_pandas_lists_and_boxes_are_python_values():
    """Nested tags are a list of dicts, empty where nothing was found and None where there is no answer."""
    nested = labelled(pd.DataFrame({"url": URLS}), "nested")["tags"]
    assert [None if tags is None else [tag["tag"] for tag in tags] for tags in nested] == [
        ["cat", "猫"],
        None,
        [],
        None,
        ["cat", "猫"],
    ]
    assert nested[0][0]["bbox"] == BOX
    assert labelled(pd.DataFrame({"url": URLS}), "long")["bbox"].iloc[0] == BOX


def test_a_series_becomes_a_frame_with_its_index():
    """A Series of URLs gives a frame; wide has the URLs as its first column, under the Series' name."""
    series = pd.Series(URLS, index=list("abcde"), name="image")
    assert list(labelled(series, "wide").columns[:2]) == ["image", "tag_cat"]
    assert list(labelled(series, "long").index) == list("aabcdee")


def test_columns_of_several_levels_stay_levels():
    """A frame with column levels gets ours as its first level."""
    frame = pd.DataFrame([["two.jpg"]], columns=pd.MultiIndex.from_tuples([("img", "url")], names=["group", "field"]))
    result = labelled(frame, "wide")
    assert result.columns.nlevels == 2
    assert result[("tag_cat", "")].iloc[0] == np.float32(0.9)
    assert result.columns.names == ["group", "field"]


def test_the_callers_frame_is_never_touched():
    """Writing into the result leaves the caller's data alone, and its attrs come along."""
    frame = pd.DataFrame({"url": URLS, "n": range(5)})
    frame.attrs["mine"] = 1
    before = frame.copy()
    result = labelled(frame, "wide")
    result.loc[:, "n"] = 9
    pd.testing.assert_frame_equal(frame, before)
    assert result.attrs == {"mine": 1}


@pytest.mark.parametrize("shape", expand.SHAPES)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (lambda: TABLE, pa.Table),
        (lambda: TABLE.to_batches()[0], pa.Table),
        (lambda: TABLE.to_reader(), pa.RecordBatchReader),
        (lambda: pyarrow.dataset.dataset(TABLE), pa.RecordBatchReader),
        (lambda: pyarrow.dataset.dataset(TABLE).scanner(), pa.RecordBatchReader),
        (lambda: pl.from_arrow(TABLE), pl.DataFrame),
        (lambda: pl.from_arrow(TABLE).lazy(), pl.DataFrame),
    ],
)
def test_each_kind_of_table_comes_back_as_its_kind(kind, expected, shape):
    """Arrow gives Arrow, readers give readers, Polars gives Polars; all say the same."""
    result = labelled(kind(), shape)
    assert isinstance(result, expected)
    table = pa.table(result) if not isinstance(result, pa.RecordBatchReader) else result.read_all()
    assert table.column("status").to_pylist() == [
        status
        for status, count in zip(["ok", "skipped", "empty", "failed", "ok"], [2, 1, 1, 1, 2], strict=True)
        for _ in range(count if shape == "long" else 1)
    ]
    assert table.column_names[0] == "url"


def test_polars_keeps_its_own_dtypes():
    """Categorical, Enum and Object columns go back as they were."""
    frame = pl.DataFrame(
        {
            "url": URLS,
            "enum": pl.Series(list("abaab"), dtype=pl.Enum(["a", "b"])),
            "thing": pl.Series([object()] * 5, dtype=pl.Object),
        }
    )
    wide = labelled(frame, "wide")
    assert wide.schema["enum"] == frame.schema["enum"]
    assert wide.schema["thing"] == pl.Object
    long = labelled(frame.drop("thing"), "long", keep=["enum"])
    assert (long.columns[0], long.height) == ("enum", 7)


def test_duckdb_gives_a_relation_on_the_callers_connection():
    """The result can be joined with the caller's own tables, and outlives the call."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE pictures AS SELECT 'two.jpg' AS url, 7 AS n")
        result = labelled(connection.table("pictures"), "long")
        assert result.columns[:3] == ["url", "provider", "rank"]
        joined = connection.sql("SELECT n, tag FROM result JOIN pictures USING (url) ORDER BY rank").fetchall()
    assert joined == [(7, "cat"), (7, "猫")]


def test_a_reader_is_pulled_only_as_it_is_read():
    """Nothing is labelled before the caller asks for a batch, and no more than asked for."""
    pulled = []

    def stream():
        for batch in TABLE.to_batches(max_chunksize=1):
            pulled.append(batch)
            yield batch

    reader = labelled(pa.RecordBatchReader.from_batches(TABLE.schema, stream()), "long")
    assert pulled == []
    assert reader.read_next_batch().num_rows == 2
    assert len(pulled) == 1


def test_what_stops_a_stream_reaches_its_reader():
    """An error in the middle of a lazy result is raised as itself."""

    def stream():
        yield TABLE.to_batches()[0]
        raise ConfigError("the stream broke")

    reader = labelled(pa.RecordBatchReader.from_batches(TABLE.schema, stream()), "nested")
    with pytest.raises(ConfigError, match="the stream broke"):
        reader.read_all()


def test_report_is_attached_where_a_table_can_carry_it():
    """pandas has it in attrs, Arrow in its metadata beside what was there; Polars is left alone."""
    assert attach_report(labelled(pd.DataFrame({"url": URLS}), "long"), REPORT).attrs["imgtag"] == REPORT
    table = attach_report(TABLE.replace_schema_metadata({"mine": "1"}), REPORT)
    assert json.loads(table.schema.metadata[b"imgtag"]) == REPORT
    assert table.schema.metadata[b"mine"] == b"1"
    frame = pl.from_arrow(TABLE)
    assert attach_report(frame, REPORT) is frame


def test_wide_arrow_keeps_the_index_that_pandas_noted():
    """A table made from pandas still knows its index after labelling."""
    frame = pd.DataFrame({"url": URLS}, index=pd.Index(list("abcde"), name="sku"))
    assert list(labelled(pa.Table.from_pandas(frame), "wide").to_pandas().index) == list("abcde")
