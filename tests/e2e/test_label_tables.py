"""`label` over every kind of table and every kind of bad row: all input rows come back, in the caller's order."""

import asyncio
import json
import struct
import zlib
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import imgtag_pipeline as imgtag

SHAPES = ("long", "wide", "nested")
KINDS = ("pandas", "table", "batch", "reader", "dataset", "scanner", "polars", "lazy", "duckdb")
VOCABULARY = ["landscape", "portrait", "gray"]
LONG = [
    *["url", "provider", "rank", "tag", "confidence", "confidence_raw", "kind", "level", "parent", "tag_id"],
    *["language", "bbox", "extra", "status", "error_code", "error", "request_id"],
]


def png_header(width, height):
    """A PNG that says how large it is, and has nothing else."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


@pytest.fixture
def bad_rows(tmp_path, picture):
    """A reference of each sort that a column may hold, with the status and code that its row gets."""
    files = {
        "good.jpg": picture(320, 200),
        "tall.png": picture(200, 320, "PNG"),
        "page.jpg": b"<!doctype html><html><body>404</body></html>",
        "empty.jpg": b"",
        "huge.png": png_header(20_000, 10_000),
        "torn.jpg": picture(320, 200)[:400],
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [
        (str(tmp_path / "good.jpg"), "ok", None),
        (None, "skipped", "NullUrl"),
        ("", "skipped", "NullUrl"),
        (" \t ", "skipped", "NullUrl"),
        (str(tmp_path / "tall.png"), "ok", None),
        (str(tmp_path / "good.jpg"), "ok", None),
        (str(tmp_path / "missing.jpg"), "failed", "NotFound"),
        (str(tmp_path / "page.jpg"), "failed", None),
        (str(tmp_path / "empty.jpg"), "failed", None),
        (str(tmp_path / "huge.png"), "failed", None),
        (str(tmp_path / "torn.jpg"), "failed", None),
        ("gopher://example.com/a.jpg", "failed", "UnsupportedScheme"),
        (str(tmp_path), "failed", None),
        ("12345", "failed", "NotFound"),
        ("http://[broken/a.jpg", "failed", None),
        ("file:///nowhere/a.jpg", "failed", "NotFound"),
        ("data:image/png;base64,AAAA", "failed", None),
        ("memory://nothing/here.png", "failed", "NotFound"),
        ("\ud83d\ude00\x00.jpg".encode("utf-16", "surrogatepass").decode("utf-16"), "failed", None),
        ("x" * 70_000, "failed", None),
    ]


@pytest.fixture
def pictures(tmp_path, picture):
    """Four good pictures of different form."""
    paths = []
    for place, (width, height) in enumerate([(320, 200), (200, 320), (100, 100), (300, 100)]):
        path = tmp_path / f"{place}.png"
        path.write_bytes(picture(width, height, "PNG"))
        paths.append(str(path))
    return paths


def as_kind(kind, table, folder):
    """The same rows as another kind of table."""
    if kind == "pandas":
        return table.to_pandas()
    if kind == "batch":
        return table.combine_chunks().to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)
    if kind == "reader":
        return table.to_reader(max_chunksize=3)
    if kind in ("dataset", "scanner"):
        pq.write_table(table, folder / "input.parquet")
        found = ds.dataset(folder / "input.parquet")
        return found.scanner() if kind == "scanner" else found
    if kind == "polars":
        return pl.from_arrow(table)
    if kind == "lazy":
        return pl.from_arrow(table).lazy()
    if kind == "duckdb":
        return duckdb.connect().from_arrow(table)
    return table


def as_arrow(result):
    """The rows of any result."""
    if isinstance(result, pd.DataFrame):
        return pa.Table.from_pylist([{k: plain(v) for k, v in row.items()} for row in result.to_dict("records")])
    if isinstance(result, pa.RecordBatchReader):
        return result.read_all()
    if isinstance(result, duckdb.DuckDBPyRelation):
        return result.to_arrow_table()
    return result if isinstance(result, pa.Table) else result.to_arrow()


def whole(result):
    """The result itself, a stream read to its end."""
    return result if isinstance(result, pd.DataFrame | pl.DataFrame) else as_arrow(result)


def plain(value):
    return None if not isinstance(value, list | dict) and pd.isna(value) else value


def per_row(table, shape):
    """Status and code of each input row: the first row of each run of the same `no`."""
    rows = table.select(["no", "status", "error_code"]).to_pylist()
    if shape == "long":
        rows = [row for place, row in enumerate(rows) if place == 0 or rows[place - 1]["no"] != row["no"]]
    return [(row["no"], row["status"], row["error_code"]) for row in rows]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_there_in_every_kind_and_shape(kind, shape, bad_rows, tmp_path):
    """Whatever stands in the column, each input row comes back in its place with its status; the job does not die."""
    table = pa.table({"no": range(len(bad_rows)), "url": [reference for reference, _, _ in bad_rows]})
    words = {"vocabulary": VOCABULARY} if shape == "wide" else {"keep": ["no"]} if shape == "long" else {}
    result = imgtag.label(as_kind(kind, table, tmp_path), col="url", shape=shape, progress=False, **words)
    found = per_row(as_arrow(result), shape)
    assert [no for no, _, _ in found] == list(range(len(bad_rows)))
    for (reference, status, code), (_, seen, seen_code) in zip(bad_rows, found, strict=True):
        assert seen == status, (reference, seen_code)
        assert code in (None, seen_code)
        assert (seen_code is None) == (status == "ok")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_result_is_the_kind_that_was_given(kind, shape, pictures, tmp_path):
    """A frame for a frame, a table for a table, a relation for a relation; what streams comes back as a reader."""
    table = pa.table({"no": range(4), "url": pictures})
    words = {"vocabulary": VOCABULARY} if shape == "wide" else {}
    result = imgtag.label(as_kind(kind, table, tmp_path), shape=shape, **words)
    wanted = {
        **{"pandas": pd.DataFrame, "table": pa.Table, "batch": pa.Table, "polars": pl.DataFrame, "lazy": pl.DataFrame},
        "duckdb": duckdb.DuckDBPyRelation,
    }
    assert isinstance(result, wanted.get(kind, pa.RecordBatchReader))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_table_gives_the_same_columns(kind, shape, pictures, tmp_path):
    """No rows in, no rows out, and the columns are those of a full table."""
    words = {"vocabulary": VOCABULARY} if shape == "wide" else {}
    full = pa.table({"no": range(4), "url": pictures})
    empty, filled = (
        whole(imgtag.label(as_kind(kind, table, tmp_path), shape=shape, **words)) for table in (full.slice(0, 0), full)
    )
    assert len(empty) == 0
    if isinstance(filled, pd.DataFrame):
        pd.testing.assert_series_equal(
            empty.drop(columns="no", errors="ignore").dtypes, filled.drop(columns="no", errors="ignore").dtypes
        )
        assert list(empty.columns) == list(filled.columns)
    else:
        assert empty.schema == filled.schema


def test_numbers_dates_and_bytes_in_the_column_are_failed_rows():
    """A column of the wrong type is a column of failures, not an exception."""
    values = [7, 3.5, float("nan"), pd.NaT, pd.Timestamp("2024-01-01"), b"\xff\xfe", True, ["a"], {"a": 1}, object()]
    table = pd.Series(values, dtype=object, name="url").imgtag.label(shape="nested")
    assert list(table["status"]) == [*["failed"] * 2, *["skipped"] * 2, *["failed"] * 6]


@pytest.mark.parametrize("values", [[1, 2], [1.5, None], [True, False], pd.to_datetime(["2024-01-01", None])])
def test_a_column_of_another_type_is_labelled_row_by_row(values):
    """Numbers, truth values and dates in a typed column fail as rows; nulls are skipped."""
    table = pd.DataFrame({"url": values}).imgtag.label(shape="nested")
    assert len(table) == 2
    assert set(table["status"]) <= {"failed", "skipped"}


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["d", "b", "c", "a"], name="sku"),
        pd.Index([5, 5, 1, 5]),
        pd.MultiIndex.from_tuples([("x", 2), ("x", 1), ("y", 2), ("x", 2)], names=["shop", "no"]),
        pd.date_range("2024-01-01", periods=4, tz="Asia/Shanghai", name="day"),
        pd.CategoricalIndex(list("baba"), name="class"),
    ],
    ids=["named", "duplicated", "multi", "dates", "categories"],
)
def test_the_index_is_the_callers(index, pictures):
    """Names, levels, types, duplicates and order of the index stay; a long table repeats it once per tag."""
    frame = pd.DataFrame({"url": pictures, "price": [1.5, None, 3.0, 4.0]}, index=index)
    before = frame.copy(deep=True)
    wide, nested, long = (frame.imgtag.label(shape=shape) for shape in ("wide", "nested", "long"))
    pd.testing.assert_index_equal(wide.index, index)
    pd.testing.assert_index_equal(nested.index, index)
    pd.testing.assert_frame_equal(nested[["url", "price"]], frame)
    pd.testing.assert_index_equal(long.index, index.repeat([len(tags) for tags in nested["tags"]]))
    pd.testing.assert_frame_equal(frame, before)


def test_a_series_is_labelled_with_its_index(pictures):
    """A Series of references gives the long table of its images; its name does not matter."""
    for name in (None, "url", "picture", 7):
        series = pd.Series(pictures, index=list("abcd"), name=name)
        assert list(dict.fromkeys(series.imgtag.label().index)) == list("abcd")
        assert list(series.imgtag.label(shape="nested")["status"]) == ["ok"] * 4


def test_own_columns_of_any_type_come_back(pictures):
    """A wide or nested table starts with the caller's columns, as they were."""
    frame = pd.DataFrame(
        {
            "url": pictures,
            "class": pd.Categorical(list("abab")),
            "at": pd.date_range("2024-01-01", periods=4, tz="UTC"),
            "things": [{"a": 1}, [1], None, {1, 2}],
            ("odd", "name"): range(4),
        }
    )
    for shape in ("wide", "nested"):
        pd.testing.assert_frame_equal(frame.imgtag.label(col="url", shape=shape).iloc[:, :5], frame)


def test_a_reader_is_read_only_as_it_is_pulled(pictures):
    """Nothing is read before the first batch is asked for, and a reader dropped half way leaves no thread behind."""
    pulled = []

    def batches():
        for place in range(200):
            pulled.append(place)
            yield pa.record_batch({"url": [pictures[place % 4]] * 100})

    source = pa.RecordBatchReader.from_batches(pa.schema([("url", pa.string())]), batches())
    reader = imgtag.label(source, concurrency=2)
    assert pulled == []
    assert reader.schema.names == LONG
    first = reader.read_next_batch()
    assert first.num_rows
    assert 0 < len(pulled) < 200
    reader.close()
    del reader


def test_a_dataset_larger_than_a_batch_streams(pictures, tmp_path):
    """The batches of a result come one by one and are all there in the end."""
    pq.write_table(pa.table({"url": pictures * 3000}), tmp_path / "many.parquet", row_group_size=1000)
    reader = imgtag.label(ds.dataset(tmp_path / "many.parquet"), shape="nested")
    sizes = [batch.num_rows for batch in reader]
    assert sum(sizes) == 12_000
    assert len(sizes) > 1


def test_the_long_table_has_the_documented_columns(pictures):
    """The fixed columns, in their order, behind the caller's key and kept columns."""
    frame = pd.DataFrame({"sku": [1, 2, 3, 4], "url": pictures, "shop": list("abcd"), "other": 0})
    assert list(frame.imgtag.label(col="url").columns) == LONG
    kept = frame.imgtag.label(col="url", key="sku", keep=["shop"])
    assert list(kept.columns) == ["sku", "shop", *LONG]
    assert list(kept["sku"].unique()) == [1, 2, 3, 4]


def test_failures_can_be_left_out(bad_rows):
    """`errors="drop"` leaves out failed rows in every shape; skipped ones stay."""
    frame = pd.DataFrame({"url": [reference for reference, _, _ in bad_rows]})
    stay = [place for place, (_, status, _) in enumerate(bad_rows) if status != "failed"]
    for shape in SHAPES:
        table = frame.imgtag.label(shape=shape, errors="drop")
        assert list(dict.fromkeys(table.index)) == stay
        assert table.attrs["imgtag"]["failed"]


def test_failures_can_be_raised(bad_rows):
    """`errors="raise"` finishes the run, then raises with the report and the whole table."""
    frame = pd.DataFrame({"url": [reference for reference, _, _ in bad_rows]})
    with pytest.raises(imgtag.RowsFailed, match=r"images failed \(.*NotFound: ") as caught:
        frame.imgtag.label(errors="raise")
    assert caught.value.report.ok == 2
    assert set(caught.value.partial.index) == set(frame.index)


def test_a_view_shows_less_and_keeps_everything(pictures, tmp_path):
    """`min_confidence`, `top_k`, `shape` and `vocabulary` read the same store and change nothing in it."""
    frame = pd.DataFrame({"url": pictures})
    store = tmp_path / "tags"
    full = frame.imgtag.label(checkpoint=store)
    held = sorted(path.name for path in store.rglob("*.parquet"))
    for words in (
        {"min_confidence": 0.99},
        {"top_k": 1},
        {"shape": "wide"},
        {"shape": "wide", "vocabulary": ["gray", "unheard of"]},
        {"shape": "nested", "top_k": 2},
    ):
        report = frame.imgtag.label(checkpoint=store, **words).attrs["imgtag"]
        assert (report["known"], report["images"]) == (4, 4)
    assert sorted(path.name for path in store.rglob("*.parquet")) == held
    pd.testing.assert_frame_equal(frame.imgtag.label(checkpoint=store), full)


def test_a_view_keeps_rows_whose_tags_it_hides(pictures):
    """An image whose tags are all below the threshold is still a row, and still `ok`."""
    gray = pd.DataFrame({"url": pictures}).imgtag.label(min_confidence=1.0, top_k=1)
    assert list(gray.index) == [0, 1, 2, 3]
    assert set(gray["status"]) == {"ok"}


def test_a_wide_table_without_vocabulary_has_the_tags_seen(pictures):
    """One float32 column per tag: its confidence, 0 where a successful answer did not have it, null without answer."""
    frame = pd.DataFrame({"url": [*pictures, "missing.png", None]})
    wide = frame.imgtag.label(shape="wide")
    seen = frame.imgtag.label()
    names = [name for name in wide.columns if name.startswith("tag_")]
    assert {name.removeprefix("tag_") for name in names} == set(seen["tag"].dropna())
    assert set(wide[names].dtypes) == {np.dtype("float32")}
    assert wide.loc[:3, names].notna().all(axis=None)
    assert wide.loc[4:, names].isna().all(axis=None)
    assert (wide["tag_landscape"] > 0).tolist() == [True, False, False, True, False, False]
    assert list(wide["status"]) == ["ok"] * 4 + ["failed", "skipped"]


def test_a_wide_table_with_vocabulary_has_just_these_columns(pictures):
    """In the order given, also for tags that nobody saw: a schema for scheduled jobs."""
    wide = pd.DataFrame({"url": pictures}).imgtag.label(shape="wide", vocabulary=["unheard of", "landscape"])
    assert list(wide.columns) == ["url", "tag_unheard of", "tag_landscape", "status", "error_code"]
    assert (wide["tag_unheard of"] == 0).all()


def test_a_key_names_the_image(pictures, tmp_path):
    """With `key=` the same key is one image, whatever its URL says today."""
    frame = pd.DataFrame({"sku": [1, 2, 1, 2], "url": pictures})
    first = frame.imgtag.label(col="url", key="sku", checkpoint=tmp_path / "tags")
    assert first.attrs["imgtag"]["images"] == 2
    moved = frame.assign(url="moved.jpg").imgtag.label(col="url", key="sku", checkpoint=tmp_path / "tags")
    assert moved.attrs["imgtag"]["known"] == 2
    assert list(moved["tag"]) == list(first["tag"])


def with_query(pictures, signature):
    """The pictures as file URLs that somebody has signed."""
    query = f"OSSAccessKeyId=canary&Expires=1800000000&Signature={signature:s<27}%3D"
    return [f"file://{path}?{query}" for path in pictures]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("words", [{"key": "url"}, {"keep": ["url"]}, {"key": "url", "keep": ["sku", "url"]}])
def test_the_image_column_may_be_named_as_key_or_kept(words, kind, pictures, tmp_path):
    """A long table has it as its own `url` already; naming it adds nothing and is no mistake."""
    table = pa.table({"sku": list(range(len(pictures))), "url": pictures})
    shown = as_arrow(imgtag.label(as_kind(kind, table, tmp_path), col="url", **words))
    assert [name for name in shown.schema.names if name in {"url", "sku"}] == (
        ["sku", "url"] if "sku" in words.get("keep", ()) else ["url"]
    )
    assert shown.column("url").to_pylist()[0] == pictures[0]


def test_an_image_column_of_another_name_is_kept_as_it_is(pictures):
    """`key=` or `keep=` puts it in front, beside the long table's `url` without signature."""
    frame = pd.DataFrame({"link": pictures, "url": "page"})
    for words in ({"key": "link"}, {"keep": ["link"]}):
        table = frame.imgtag.label(col="link", **words)
        assert list(table.columns) == ["link", *LONG]
        assert list(table["link"]) == list(table["url"])
    with pytest.raises(imgtag.ConfigError, match=r"'url', a column of the long result; rename it"):
        frame.imgtag.label(col="link", keep=["url"])


def test_a_key_that_is_the_image_column_counts_without_signature(pictures, tmp_path):
    """Signed anew it is the same image, and the store holds no signature."""
    store = tmp_path / "tags"
    for signature in ("first", "second"):
        frame = pd.DataFrame({"url": with_query(pictures, signature)})
        report = frame.imgtag.label(key="url", checkpoint=store).attrs["imgtag"]
    assert (report["known"], report["images"]) == (len(pictures), len(pictures))
    assert not [path for path in store.rglob("*") if path.is_file() and b"canary" in path.read_bytes()]


def test_columns_may_be_numbers_or_tuples(pictures):
    """The column of references, the key and what is kept are named by their labels, whatever these are."""
    table = pd.DataFrame({0: pictures, 5: [1, 2, 3, 4]}).imgtag.label(col=0, key=5, top_k=1)
    assert list(table.iloc[:, 0]) == [1, 2, 3, 4]
    levels = pd.MultiIndex.from_tuples([("a", "url"), ("a", "n")])
    frame = pd.DataFrame(list(zip(pictures, range(4), strict=True)), columns=levels)
    assert list(frame.imgtag.label(col=("a", "url"), shape="nested")[("status", "")]) == ["ok"] * 4


def test_duplicates_are_asked_once_and_answered_on_every_row(pictures):
    """Three rows with one reference: one image, three times the same tags."""
    table = pd.DataFrame({"url": [pictures[0]] * 3}).imgtag.label(shape="nested")
    assert table.attrs["imgtag"]["images"] == 1
    assert table["tags"][0] == table["tags"][1] == table["tags"][2] != []


def test_the_report_goes_with_the_table(pictures):
    """Plain JSON data in `attrs` of a frame, JSON text in the metadata of a pyarrow Table; other attrs stay."""
    frame = pd.DataFrame({"url": pictures})
    frame.attrs["mine"] = 1
    table = frame.imgtag.label()
    assert table.attrs["mine"] == 1
    assert json.loads(json.dumps(table.attrs["imgtag"])) == table.attrs["imgtag"]
    arrow = imgtag.label(pa.Table.from_pandas(frame))
    told = json.loads(arrow.schema.metadata[b"imgtag"])
    for name in ("rows", "images", "known", "ok", "empty", "failed", "calls", "billed", "yuan", "retries"):
        assert told[name] == table.attrs["imgtag"][name]
    assert {"throttled_seconds", "elapsed", "quota_used_percent"} <= set(told)


async def test_label_works_inside_a_running_event_loop(pictures):
    """As in a notebook: the plain call, while the caller's loop runs."""
    table = pd.DataFrame({"url": pictures}).imgtag.label()
    assert set(table["status"]) == {"ok"}
    assert asyncio.get_running_loop().is_running()


async def test_alabel_lets_the_callers_loop_go_on(pictures):
    """The async core: other tasks run meanwhile, and the result is that of `label`."""
    frame = pd.DataFrame({"url": pictures})
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    table = await imgtag.alabel(frame, col="url", progress=False)
    counting.cancel()
    assert turns > 10
    pd.testing.assert_frame_equal(table, frame.imgtag.label(col="url"))


@pytest.mark.parametrize("shape", SHAPES)
async def test_alabel_reads_a_reader_to_its_end(shape, pictures):
    """A reader comes back complete, as a pyarrow Table with the report."""
    words = {"vocabulary": VOCABULARY} if shape == "wide" else {}
    table = await imgtag.alabel(pa.table({"url": pictures}).to_reader(), shape=shape, **words)
    assert isinstance(table, pa.Table)
    assert json.loads(table.schema.metadata[b"imgtag"])["ok"] == 4


def test_many_threads_may_label_at_once(pictures):
    """Each call has a loop of its own."""
    from concurrent.futures import ThreadPoolExecutor

    frame = pd.DataFrame({"url": pictures})
    wanted = frame.imgtag.label()
    with ThreadPoolExecutor(4) as threads:
        for table in threads.map(lambda _: frame.imgtag.label(), range(8)):
            pd.testing.assert_frame_equal(table, wanted)


def test_rows_beyond_a_window_keep_their_order(pictures):
    """Ten thousand rows of four pictures and some nulls: the order is that of the input."""
    rng = np.random.default_rng(0)
    urls = [*pictures, None, "missing.png"]
    frame = pd.DataFrame({"url": [urls[place] for place in rng.integers(0, 6, 10_000)]})
    table = frame.imgtag.label(shape="nested")
    pd.testing.assert_series_equal(table["url"], frame["url"])
    by_url = table.assign(tags=table["tags"].map(str)).groupby("url", dropna=False)[["tags", "status"]].nunique()
    assert (by_url["status"] == 1).all()
    assert table.attrs["imgtag"]["images"] == 5


@pytest.mark.parametrize(
    ("table", "words", "says"),
    [
        ({"link": ["a"], "no": [1]}, {}, "there is no column 'url'; .*the columns are: link, no"),
        ({"urls": ["a"], "no": [1]}, {"col": "url"}, "did you mean 'urls'"),
        ({"url": ["a"]}, {"provider": "viapi/TagingImage"}, "did you mean 'viapi/TaggingImage'"),
        ({"url": ["a"]}, {"shape": "tall"}, "shape is 'tall'; allowed: 'long', 'wide', 'nested'"),
        ({"url": ["a"]}, {"topk": 3}, "unknown option 'topk'.*did you mean 'top_k'"),
        ({"url": ["a"], "status": [1]}, {"shape": "wide"}, "already has 'status'"),
        ({"url": ["a"]}, {"key": "sku"}, "there is no column 'sku'"),
        ({"url": ["a"]}, {"keep": ["shop"]}, "there is no column 'shop'"),
        ({"url": ["a"]}, {"vocabulary": ["cat"]}, "for shape='wide' only"),
        ({"url": ["a"]}, {"provider": 7}, "provider is"),
    ],
)
def test_the_callers_mistakes_are_said_before_anything_happens(table, words, says, tmp_path):
    """One sentence that says what was wrong and what is allowed; no store is made."""
    store = tmp_path / "tags"
    with pytest.raises(imgtag.ConfigError, match=says):
        pd.DataFrame(table).imgtag.label(checkpoint=store, **words)
    assert not store.exists()


def test_what_is_no_table_is_refused():
    """A list or a path is no table; the message says what is, and what takes a path."""
    for thing, says in ((["a.jpg"], "a list is"), ({"url": ["a.jpg"]}, "a dict is"), (None, "a NoneType is")):
        with pytest.raises(imgtag.ConfigError, match=f"^{says} not a table that can be read; give a pandas DataFrame"):
            imgtag.label(thing)
    for path in ("a.parquet", Path("a.parquet")):
        with pytest.raises(imgtag.ConfigError, match=r"^'a.parquet' is a path; files are for enrich and plan"):
            imgtag.label(path)


def test_a_wide_stream_without_vocabulary_is_refused(pictures):
    """Nobody knows its columns before the last row; the message says what to do."""
    with pytest.raises(imgtag.ConfigError, match="vocabulary="):
        imgtag.label(pa.table({"url": pictures}).to_reader(), shape="wide")
