"""Any table, and any files, become record batches; what a caller keeps in a column never makes it fail."""

import datetime as dt
import decimal
import pathlib

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtag_pipeline.core.table import ROW
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.source.tables import open_source, url_column

duckdb = pytest.importorskip("duckdb")
URLS = ["a.jpg", None, "b.jpg"]
TABLE = pa.table({"url": URLS, "n": [1, 2, 3]})


def rows_of(source, columns=None):
    batches = list(source.batches(columns or source.names))
    return pa.Table.from_batches(batches).to_pylist() if batches else []


def urls_of(source, name="url"):
    return [url for batch in source.batches([name]) for url in url_column(batch, name).to_pylist()]


class OnlyStream:
    """A foreign table that offers nothing but the Arrow C stream."""

    def __arrow_c_stream__(self, requested_schema=None):
        return TABLE.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    ("table", "rows", "is_lazy"),
    [
        (TABLE, 3, False),
        (TABLE.to_batches()[0], 3, False),
        (TABLE.to_pandas(), 3, False),
        (TABLE.to_pandas()["url"], 3, False),
        (pl.from_arrow(TABLE), 3, False),
        (pl.from_arrow(TABLE).lazy(), 3, False),
        (pl.from_arrow(TABLE)["url"], 3, False),
        (OnlyStream(), 3, False),
        (pyarrow.dataset.dataset(TABLE), None, True),
        (pyarrow.dataset.dataset(TABLE).scanner(columns=["url"]), None, True),
        (TABLE.to_reader(), None, True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_table_is_read(table, rows, is_lazy):
    """The URLs come in order, with null where there is none; a stream that may be long stays lazy."""
    source = open_source(table)
    assert urls_of(source) == URLS
    assert (source.rows, source.is_lazy) == (rows, is_lazy)


def test_duckdb_relations_are_read():
    """A relation comes whole and in its order."""
    with duckdb.connect() as connection:
        source = open_source(connection.from_arrow(TABLE))
    assert (urls_of(source), source.rows, source.kind) == (URLS, 3, "duckdb")


@pytest.mark.parametrize("table", [["a.jpg"], {"url": ["a.jpg"]}, "a.jpg", None, 7, np.zeros(2), pa.array(["a.jpg"])])
def test_what_is_no_table_is_refused_in_one_sentence(table):
    """A list, a text, an array of values: the message says what may be given."""
    with pytest.raises(ConfigError, match="give a pandas DataFrame"):
        open_source(table)


ODD = [
    (["a.jpg", None, float("nan"), pd.NA, ""], ["a.jpg", None, None, None, ""]),
    ([pathlib.Path("/p/a.jpg"), b"b.jpg", b"\xff"], ["/p/a.jpg", "b.jpg", "\\xff"]),
    ([1, 2.5, True, "x"], ["1", "2.5", "True", "x"]),
    ([["a.jpg"], {"u": 1}, None], ["['a.jpg']", "{'u': 1}", None]),
    ([decimal.Decimal("1.50"), dt.date(2024, 1, 2)], ["1.50", "2024-01-02"]),
    (["bad\udc80", "bad\ud800"], ["bad\\udc80", "bad\\ud800"]),
    ([], []),
]


@pytest.mark.parametrize(("values", "texts"), ODD)
def test_odd_values_become_text_and_fail_later_as_rows(values, texts):
    """Paths, bytes, numbers, lists: nothing in a URL column stops the job."""
    assert urls_of(open_source(pd.DataFrame({"url": pd.Series(values, dtype=object)}))) == texts


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        (pd.Series(["a", None], dtype="string"), ["a", None]),
        (pd.Series(["a", None], dtype="category"), ["a", None]),
        (pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())), ["a", None]),
        (pd.Series([1, None]), ["1", None]),
        (pd.Series([1, None], dtype="Int64"), ["1", None]),
        (pd.Series([True, False]), ["true", "false"]),
    ],
)
def test_pandas_dtypes_become_text(column, texts):
    """A whole number reads the same whether or not a null made its column float, so keys stay the same."""
    assert urls_of(open_source(column.to_frame("url"))) == texts


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.binary(),
        pa.large_binary(),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
)
def test_arrow_string_types_become_text(kind):
    """Every way in which Arrow holds text is a URL column."""
    values = [b"a.jpg", None] if "binary" in str(kind) else ["a.jpg", None]
    assert urls_of(open_source(pa.table({"url": pa.array(values, kind)}))) == ["a.jpg", None]


def test_a_dictionary_of_large_strings_becomes_text():
    """As Polars and others hand over categories."""
    column = pa.array(["a.jpg", None, "a.jpg"], pa.large_string()).dictionary_encode()
    assert urls_of(open_source(pa.table({"url": column}))) == ["a.jpg", None, "a.jpg"]


def test_text_that_is_no_utf8_becomes_text_all_the_same():
    """Bytes that pass for a string, as careless writers leave them, are read; what is no UTF-8 becomes its number."""
    broken = pa.array([b"\xff.jpg", b"ok.jpg", None]).view(pa.string())
    assert urls_of(open_source(pa.table({"url": broken}))) == ["\\xff.jpg", "ok.jpg", None]


@given(st.lists(st.none() | st.text() | st.integers() | st.floats() | st.binary() | st.dates() | st.booleans()))
@settings(max_examples=150, deadline=None)
def test_no_mixture_of_values_loses_a_row(values):
    """Whatever stands in the column, each row has one text or null, and null only for what pandas calls missing."""
    texts = urls_of(open_source(pd.DataFrame({"url": pd.Series(values, dtype=object)})))
    assert [text is None for text in texts] == [value is None or value != value for value in values]


def test_columns_that_nobody_needs_are_not_read():
    """A column of things that Arrow cannot hold is no obstacle; frames hand over positions and text only."""
    frame = pd.DataFrame({"url": ["a"], "odd": [object()], ("t", 1): [{1, 2}], 3: [1]})
    source = open_source(frame)
    assert source.names == ("url", "odd", "('t', 1)", "3")
    assert source.kept("wide").names == [ROW]
    assert rows_of(source, [ROW, "url", "3"]) == [{ROW: 0, "url": "a", "3": "1"}]


def test_missing_column_names_the_columns_and_the_closest():
    """A misspelt column is answered with what there is."""
    with pytest.raises(ConfigError, match=r"no column 'ulr'; did you mean 'URL'\? the columns are: id, URL"):
        open_source(pa.table({"id": [1], "URL": ["a"]})).resolve("ulr")
    with pytest.raises(ConfigError, match="no column 'ulr'"):
        url_column(pa.record_batch({"url": ["a"]}), "ulr")
    with pytest.raises(ConfigError, match="and 30 more"):
        open_source(pa.table({f"c{n}": [1] for n in range(50)})).resolve("url")


def test_column_need_not_be_named_where_it_is_clear():
    """`url` is the default, and so is the only column; labels that are no text are found as well."""
    assert open_source(TABLE).resolve() == "url"
    assert open_source(pd.Series(["a"], name="image")).resolve() == "image"
    assert open_source(pd.Series(["a"])).resolve() == "url"
    assert open_source(pd.DataFrame({0: ["a"], 1: ["b"]})).resolve(1) == "1"
    two_levels = pd.DataFrame([["a", 1]], columns=pd.MultiIndex.from_tuples([("img", "url"), ("img", "n")]))
    assert open_source(two_levels).resolve(("img", "url")) == "('img', 'url')"


def test_two_columns_of_one_name_are_refused_only_where_meant():
    """A doubled name is a mistake when it is the URL column, or when all columns are asked for from Arrow."""
    frame = pd.DataFrame([["a", 1, 2]], columns=["url", "x", "x"])
    assert urls_of(open_source(frame)) == ["a"]
    with pytest.raises(ConfigError, match="2 columns named 'x'"):
        open_source(frame).resolve("x")
    table = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["url", "x", "x"])
    assert open_source(table).kept("long").names == []
    with pytest.raises(ConfigError, match="2 columns named 'x'"):
        open_source(table).kept("nested")


def test_kept_columns_follow_the_shape():
    """A long table keeps what was asked for, in that order; wide and nested keep everything."""
    source = open_source(TABLE)
    assert source.kept("long").names == []
    assert source.kept("long", ["n", "n"]).names == ["n"]
    assert source.kept("wide").names == source.kept("nested").names == ["url", "n"]


def test_batches_are_small_in_rows_and_bytes():
    """A huge batch is cut, so that a window of long data: URLs still fits in memory."""
    many = open_source(pa.table({"url": pa.array(["a"] * 40_000)}))
    assert [batch.num_rows for batch in many.batches(["url"])] == [16_384, 16_384, 7_232]
    large = open_source(pa.table({"url": ["x" * (10 << 20)] * 20}))
    assert max(batch.nbytes for batch in large.batches(["url"])) < 80 << 20


def test_limit_reads_no_further():
    """The first rows of a stream do not pull the rest of it."""
    pulled = []

    def stream():
        for batch in TABLE.to_batches(max_chunksize=1):
            pulled.append(batch)
            yield batch

    source = open_source(pa.RecordBatchReader.from_batches(TABLE.schema, stream()))
    assert urls_of(source.limited(2)) == URLS[:2]
    assert len(pulled) == 2
    assert open_source(TABLE).limited(2).rows == 2
    with pytest.raises(ConfigError, match="limit"):
        source.limited(-1)
