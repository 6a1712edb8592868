"""Any table, and any files, become record batches; what a caller keeps in a column never makes it fail."""

import bz2
import datetime as dt
import decimal
import gzip
import pathlib

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.source import open_source, url_column
from imgtag_pipeline.source_files import open_files
from imgtag_pipeline.table import ROW

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
    ([pathlib.Path("/p/a.jpg"), b"b.jpg", b"\xff"], ["/p/a.jpg", "b.jpg", "�"]),
    ([1, 2.5, True, "x"], ["1", "2.5", "True", "x"]),
    ([["a.jpg"], {"u": 1}, None], ["['a.jpg']", "{'u': 1}", None]),
    ([decimal.Decimal("1.50"), dt.date(2024, 1, 2)], ["1.50", "2024-01-02"]),
    (["bad\udc80"], ["bad?"]),
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
    """Bytes that pass for a string, as careless writers leave them, are read with a replacement."""
    broken = pa.array([b"\xff.jpg", b"ok.jpg", None]).view(pa.string())
    assert urls_of(open_source(pa.table({"url": broken}))) == ["�.jpg", "ok.jpg", None]


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


# --- files ------------------------------------------------------------------------------------------------------


def written(folder, name, text, *, encoding="utf-8"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return str(path)


CSV = 'sku,url\n007,"a,b.jpg"\n008,\n009,""\n,"two\nlines"\n'
CSV_ROWS = [
    {"sku": "007", "url": "a,b.jpg"},
    {"sku": "008", "url": None},
    {"sku": "009", "url": ""},
    {"sku": None, "url": "two\nlines"},
]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.csv", CSV.encode()),
        ("in.CSV", CSV.replace("\n0", "\r\n0").encode()),
        ("in.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("in.csv.gz", gzip.compress(CSV.encode())),
        ("in.csv.bz2", bz2.compress(CSV.encode())),
        (
            "in.tsv",
            CSV.replace("sku,", "sku\t")
            .replace("7,", "7\t")
            .replace("8,", "8\t")
            .replace("9,", "9\t")
            .replace("\n,", "\n\t")
            .encode(),
        ),
    ],
)
def test_csv_is_text_exactly_as_written(tmp_path, name, data):
    """Leading zeros, commas and line breaks inside quotes stay; an empty field is null, a quoted one is blank."""
    source = open_files(written(tmp_path, name, data))
    assert rows_of(source) == CSV_ROWS
    assert source.rows == 4


def test_csv_of_one_column_keeps_its_empty_lines_as_rows(tmp_path):
    """In a plain list of URLs an empty line is a row without URL, not nothing."""
    assert urls_of(open_files(written(tmp_path, "in.csv", "url\na.jpg\n\nb.jpg\n"))) == ["a.jpg", None, "b.jpg"]


def test_csv_with_only_a_header_has_no_rows(tmp_path):
    """A table without rows is a table."""
    source = open_files(written(tmp_path, "in.csv", "url,n\n"))
    assert (source.names, source.rows, rows_of(source)) == (("url", "n"), 0, [])


def test_json_lines_learn_their_columns_from_the_whole_file(tmp_path):
    """Fields that come late, dates, nested values and mixed types are all there; nothing is guessed away."""
    lines = [
        '{"url": "a.jpg", "sku": 1, "day": "2024-01-02", "big": 12345678901234567890}',
        "",
        '{"url": null, "sku": "A1", "price": 1.5, "size": {"w": 1, "on": "2024-01-01"}}',
        '{"sku": null, "price": 2, "list": [1, 2]}',
    ]
    source = open_files(written(tmp_path, "in.jsonl", "\n".join(lines)))
    assert source.rows == 3
    assert rows_of(source, ["url", "sku", "day", "big"]) == [
        {"url": "a.jpg", "sku": "1", "day": "2024-01-02", "big": "12345678901234567890"},
        {"url": None, "sku": "A1", "day": None, "big": None},
        {"url": None, "sku": None, "day": None, "big": None},
    ]
    assert rows_of(source, ["price", "size", "list"]) == [
        {"price": None, "size": None, "list": None},
        {"price": 1.5, "size": {"w": 1, "on": "2024-01-01"}, "list": None},
        {"price": 2.0, "size": None, "list": [1, 2]},
    ]


def test_json_lines_are_read_in_blocks_across_line_ends(tmp_path):
    """A file of many megabytes, its last line without an end, and a type that changes late, lose no line."""
    lines = [f'{{"url": "{"x" * 100}{n}.jpg", "n": {n}}}' for n in range(60_000)]
    source = open_files(written(tmp_path, "in.ndjson", "\n".join([*lines, '{"n": "last"}'])))
    assert source.rows == 60_001
    texts = [row["n"] for row in rows_of(source, ["n"])]
    assert texts == [*map(str, range(60_000)), "last"]


def test_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path):
    """Hidden files and markers are passed over; a column that one file lacks is null there."""
    parquet.write_table(pa.table({"url": ["b.jpg"], "n": [1.5]}), tmp_path / "b.parquet")
    parquet.write_table(pa.table({"url": pa.array(["a.jpg"], pa.large_string()), "n": [1]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"url": pa.nulls(1)}), tmp_path / "c.parquet")
    written(tmp_path, "_SUCCESS", "")
    written(tmp_path, ".a.parquet.crc", "x")
    for path in (str(tmp_path), f"{tmp_path}/*.parquet", f"file://{tmp_path}/"):
        source = open_files(path)
        assert rows_of(source) == [
            {"url": "a.jpg", "n": 1.0},
            {"url": "b.jpg", "n": 1.5},
            {"url": None, "n": None},
        ]
        assert source.rows == 3


def test_hive_folders_are_columns(tmp_path):
    """`day=...` folders below the given one become a column; folders above it do not."""
    base = tmp_path / "run=7"
    for day in ("2024-01-01", "2024-01-02"):
        (base / f"day={day}").mkdir(parents=True)
        parquet.write_table(pa.table({"url": [f"{day}.jpg"]}), base / f"day={day}" / "part.parquet")
    expected = [{"url": f"{day}.jpg", "day": day} for day in ("2024-01-01", "2024-01-02")]
    assert rows_of(open_files(str(base))) == expected
    assert rows_of(open_files(f"{base}/day=*/part.parquet")) == expected
    assert rows_of(open_files(f"{base}/day=2024-01-01/part.parquet")) == [{"url": "2024-01-01.jpg"}]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_any_fsspec_url_is_read(suffix):
    """Files in another filesystem are read like local ones, and again when asked again."""
    memory = fsspec.filesystem("memory")
    for number in (2, 1):
        path = f"/source-{suffix}/in-{number}.{suffix}"
        table = pa.table({"url": [f"{number}.jpg"]})
        with memory.open(path, "wb") as file:
            if suffix == "parquet":
                parquet.write_table(table, file)
            else:
                file.write({"csv": f"url\n{number}.jpg\n", "jsonl": f'{{"url":"{number}.jpg"}}\n'}[suffix].encode())
    source = open_files(f"memory://source-{suffix}/*.{suffix}")
    assert urls_of(source) == ["1.jpg", "2.jpg"]
    assert urls_of(source) == ["1.jpg", "2.jpg"]
    assert urls_of(open_files(f"memory://source-{suffix}")) == ["1.jpg", "2.jpg"]


def test_a_name_with_glob_marks_may_be_a_plain_file(tmp_path):
    """What stands there by that very name is meant."""
    assert urls_of(open_files(written(tmp_path, "in[1].csv", "url,n\na.jpg,1\n"))) == ["a.jpg"]


BAD = [
    ("gone.csv", None, "no file or folder"),
    ("*.parquet", None, "holds no file"),
    ("in.xlsx", b"x", "does not say what kind"),
    ("in", b"x", "does not say what kind"),
    ("in.csv", b"", "cannot be read .*[Ee]mpty"),
    ("in.jsonl", b"", "is empty"),
    ("in.parquet", b"", "cannot be read"),
    ("in.parquet", b"PAR1 and then nothing", "cannot be read"),
    ("in.csv", "url,name\na.jpg,\u4e2d\n".encode("utf-16"), "cannot be read"),
    ("in.csv", b"url,name\na.jpg\n", "cannot be read .*Expected 2 columns"),
    ("in.csv.gz", b"not gzip", "cannot be read"),
    ("in.jsonl", b'{"url":"a"}\n{"url":\n', "line 2 of .* is no JSON"),
    ("in.jsonl", b'["a"]\n', "line 1 of .* JSON array"),
    ("in.json", b'[{"url":"a"},\n{"url":"b"}]', "line 1 of .* JSON array"),
    ("in.jsonl", b'{"url":"a"}\n"b"\n', "line 2 of .* no JSON object"),
    ("in.jsonl", b'{"url":"\xff"}\n', "line 1 of .* no JSON"),
    ("nope://in.csv", None, "cannot be opened"),
    ("", None, "empty"),
]


@pytest.mark.parametrize(("name", "data", "reason"), BAD)
def test_unreadable_input_is_said_before_anything_happens(tmp_path, name, data, reason):
    """Missing, empty, torn or foreign files are one sentence about that file."""
    if data is not None:
        written(tmp_path, name, data)
    with pytest.raises(ConfigError, match=f"(?s){reason}"):
        open_files(name if "://" in name or not name else f"{tmp_path}/{name}")


def test_one_torn_file_among_many_is_found_beforehand(tmp_path):
    """Of a folder all footers are looked at before the first call, and the torn file is named."""
    parquet.write_table(pa.table({"url": ["a"] * 1000}), tmp_path / "a.parquet")
    written(tmp_path, "b.parquet", (tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"b\.parquet"):
        open_files(str(tmp_path))


def test_mixed_kinds_and_columns_that_do_not_fit_are_refused(tmp_path):
    """A folder with CSV and Parquet, or with a column that is text here and a list there, is no table."""
    parquet.write_table(pa.table({"url": ["a"]}), tmp_path / "a.parquet")
    parquet.write_table(pa.table({"url": [[1]]}), tmp_path / "b.parquet")
    with pytest.raises(ConfigError, match="do not fit together"):
        open_files(str(tmp_path))
    written(tmp_path, "c.csv", "url\n")
    with pytest.raises(ConfigError, match="mixes kinds"):
        open_files(str(tmp_path))


def test_an_empty_folder_is_no_input(tmp_path):
    """Nothing to read is said as such."""
    with pytest.raises(ConfigError, match="holds no file"):
        open_files(str(tmp_path))


def test_parquet_of_a_million_rows_is_streamed(tmp_path):
    """Large files are read a few thousand rows at a time; leaving early is fine."""
    parquet.write_table(pa.table({"url": pa.array(np.arange(1_000_000).astype(str))}), tmp_path / "in.parquet")
    source = open_files(str(tmp_path / "in.parquet"))
    batches = source.batches(["url"])
    assert next(batches).num_rows <= 16_384
    batches.close()
    assert source.rows == 1_000_000
