"""The table comes back in the kind, index, order and dtypes in which it was given; files are whole or not there."""

import errno
import json
import os
import resource
import signal
import stat

import fsspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from imgtag_pipeline import expand, schema
from imgtag_pipeline.errors import ConfigError, OutputError
from imgtag_pipeline.sink import attach_report, give_back
from imgtag_pipeline.sink_files import FileSink
from imgtag_pipeline.sink_places import REPORT_FILE
from imgtag_pipeline.source import open_source, url_column
from imgtag_pipeline.source_files import open_files

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


# --- files ------------------------------------------------------------------------------------------------------


def save(out, shape="long", table=TABLE, **options):
    source = open_source(table)
    result_schema, batches = batches_of(source, shape)
    with FileSink(str(out), **options) as sink:
        for batch in batches:
            sink.write(batch)
        sink.finish(result_schema, REPORT)
    return give_back(source, *batches_of(open_source(table), shape), shape=shape)


def stopped(sink, batch, error):
    """A job that ends with an error after one batch."""
    with sink:
        sink.write(batch)
        raise error


def all_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


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
    rows = [row for batch in source.batches(["own"]) for row in batch.to_pylist()]
    assert (rows[0]["own"] is None, rows[1]["own"]) == (values.null_count == 1, None)


def test_nothing_shows_before_the_end(tmp_path):
    """While it is written, OUT does not exist and no reader of the folder sees a file of its kind."""
    result_schema, batches = batches_of(open_source(TABLE), "long")
    with FileSink(f"{tmp_path}/new/out.parquet", group_rows=1) as sink:
        assert not (tmp_path / "new").exists()
        for batch in batches:
            sink.write(batch)
        assert not any(name.endswith(".parquet") for name in all_files(tmp_path))
        sink.finish(result_schema, REPORT)
    assert all_files(tmp_path) == ["new/out.parquet"]
    assert stat.S_IMODE((tmp_path / "new/out.parquet").stat().st_mode) & 0o400


@pytest.mark.parametrize("name", ["out.parquet", "out.csv.gz", "new/deep/out.jsonl", "out/", "memory"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ConfigError("stop")])
def test_a_job_that_stops_leaves_nothing(tmp_path, name, error):
    """An interrupt or an error between batches takes away what was begun, folders too."""
    out = "memory://sink-stopped/out.parquet" if name == "memory" else f"{tmp_path}/{name}"
    _, batches = batches_of(open_source(TABLE), "long")
    with pytest.raises((KeyboardInterrupt, ConfigError)):
        stopped(FileSink(out, group_rows=1), next(batches), error)
    assert list(tmp_path.iterdir()) == []
    assert not fsspec.filesystem("memory").exists("/sink-stopped")


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out/"])
def test_existing_output_is_refused_until_it_may_be_replaced(tmp_path, name):
    """The old output stays whole until the new one is complete."""
    out = f"{tmp_path}/{name}"
    save(out, table=TABLE.slice(0, 1))
    before = {path: (tmp_path / path).read_bytes() for path in all_files(tmp_path)}
    with pytest.raises(ConfigError, match="exists already"):
        FileSink(out)
    with pytest.raises(ConfigError, match="stop"):
        stopped(FileSink(out, overwrite=True, group_rows=1), TABLE.to_batches()[0], ConfigError("stop"))
    assert {path: (tmp_path / path).read_bytes() for path in all_files(tmp_path)} == before
    expected = save(out, overwrite=True)
    assert open_files(out).rows == expected.num_rows
    assert set(all_files(tmp_path)) == set(before)


def test_output_that_appears_meanwhile_is_not_overwritten(tmp_path):
    """Two jobs with one OUT: the second to finish says so and leaves the first one's table."""
    with FileSink(f"{tmp_path}/out.parquet") as sink:
        sink.write(TABLE.to_batches()[0])
        (tmp_path / "out.parquet").write_text("first")
        with pytest.raises(ConfigError, match="exists already"):
            sink.finish(TABLE.schema, REPORT)
    assert (tmp_path / "out.parquet").read_text() == "first"
    assert all_files(tmp_path) == ["out.parquet"]


def test_a_folder_with_other_things_is_never_replaced(tmp_path):
    """overwrite=True replaces only what this package wrote."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("x")
    with pytest.raises(ConfigError, match=r"thesis\.docx"):
        FileSink(f"{tmp_path}/out/", overwrite=True)
    assert all_files(tmp_path) == ["out/thesis.docx"]


def test_an_existing_empty_folder_is_filled(tmp_path):
    """A folder that was made beforehand becomes the dataset, with or without the slash."""
    (tmp_path / "out").mkdir()
    save(tmp_path / "out")
    assert all_files(tmp_path) == ["out/_imgtag.json", "out/part-00000.parquet"]


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("out.xlsx", "let it end in"),
        ("out.parquet.gz", "let it end in"),
        ("file.txt/out.parquet", "not a folder"),
        ("file.txt/", "is a file"),
        ("nope://out.parquet", "cannot be opened"),
    ],
)
def test_impossible_outputs_are_refused_and_nothing_is_written(tmp_path, out, reason):
    """A suffix that says nothing, a file where a folder should be, an unknown scheme: one sentence, beforehand."""
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(ConfigError, match=reason):
        FileSink(out if "://" in out else f"{tmp_path}/{out}")
    assert all_files(tmp_path) == ["file.txt"]


def test_what_killed_jobs_left_is_swept_by_the_next(tmp_path):
    """A temporary file that nobody holds any more goes; one that is being written stays."""
    old = tmp_path / ".out.parquet.imgtag-dead"
    old.write_text("x")
    os.utime(old, (0, 0))
    with FileSink(f"{tmp_path}/out.parquet", group_rows=1) as alive:
        alive.write(TABLE.to_batches()[0])
        assert not old.exists()
        (held,) = tmp_path.glob(".out.parquet.imgtag-*")
        os.utime(held, (0, 0))
        save(tmp_path / "out.parquet")
        assert held.exists()
    assert all_files(tmp_path) == ["out.parquet"]


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.jsonl", "out.jsonl.gz", "out/"])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, name):
    """When the bytes do not fit, one sentence says so and the half file is gone."""
    noise = np.random.default_rng(0).bytes(400_000).hex()
    table = pa.table({"url": ["two.jpg"], "own": [noise]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot be written .*nothing is left"):
            save(f"{tmp_path}/{name}", "wide", table=table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_large_datasets_are_cut_into_parts(tmp_path):
    """A folder gets a new part when the current one is large; together they are the table, in order."""
    expected = save(f"{tmp_path}/out/", "wide", part_bytes=1, group_rows=2)
    assert [name for name in all_files(tmp_path / "out") if name.startswith("part")] == [
        f"part-0000{number}.parquet" for number in range(3)
    ]
    assert parquet.read_table(tmp_path / "out").equals(expected)


class SlowStore(MemoryFileSystem):
    """A filesystem whose puts are not whole, like SFTP; a put whose name holds "full" fails half way."""

    protocol = "slowstore"
    store: dict = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def put_file(self, lpath, rpath, **kwargs):
        super().put_file(lpath, rpath, **kwargs)
        if "full" in rpath and "part-00001" in rpath:
            raise OSError(errno.ENOSPC, "No space left on device")

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("slowstore://", "memory://"))


fsspec.register_implementation("slowstore", SlowStore, clobber=True)


@pytest.mark.parametrize("scheme", ["memory", "slowstore"])
@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "deep/out/"])
def test_remote_output_is_one_whole_object(scheme, name):
    """Any fsspec filesystem takes OUT; nothing but OUT is left there, and it is refused the second time."""
    out = f"{scheme}://sink-{scheme}/{name}"
    expected = save(out)
    assert open_files(out).rows == expected.num_rows
    with pytest.raises(ConfigError, match="exists already"):
        FileSink(out)
    save(out, overwrite=True)
    filesystem = fsspec.filesystem(scheme)
    names = [path.rpartition("/")[2] for path in filesystem.find(f"/sink-{scheme}/{name}".rstrip("/"))]
    assert names == (["_imgtag.json", "part-00000.parquet"] if name.endswith("/") else [name])
    filesystem.rm(f"/sink-{scheme}", recursive=True)


def test_remote_parts_are_taken_away_when_one_fails():
    """A store that fills up half way through a dataset is left as it was."""
    with pytest.raises(OutputError, match="No space left"):
        save("slowstore://full/out/", part_bytes=1, group_rows=2)
    assert fsspec.filesystem("slowstore").find("/full") == []
