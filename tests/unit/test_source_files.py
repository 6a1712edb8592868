"""Files become record batches: nothing is guessed away, and what cannot be read is said before anything happens."""

import bz2
import gzip

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.source.files import open_files
from imgtag_pipeline.source.tables import url_column


def rows_of(source, columns=None):
    batches = list(source.batches(columns or source.names))
    return pa.Table.from_batches(batches).to_pylist() if batches else []


def urls_of(source, name="url"):
    return [url for batch in source.batches([name]) for url in url_column(batch, name).to_pylist()]


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
        ("in.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
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
    ids=lambda value: value if isinstance(value, str) else "",
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
    ("in.csv", "url,name\na.jpg,\u4e2d\n".encode("utf-16"), "byte 1 of line 1 of .* is 0xFF.* save the file as UTF-8"),
    ("in.csv", "url,\u540d\na.jpg,\u4e2d\n".encode("gb18030"), "byte 5 of line 1 of .* is 0xC3.* iconv -f GB18030"),
    ("in.csv", b"url,name\na.jpg,1\nb.jpg,caf\xe9\nc.jpg,2\n", "byte 10 of line 3 of .* is 0xE9.* UTF-8"),
    ("in.csv", b'url,name\n"a\nb",1\n"c\nd\xe9",2\n', "byte 2 of line 5 of .* is 0xE9"),
    ("in.csv", b"url,name\na.jpg,\xe2\x82", "byte 7 of line 2 of .* is 0xE2"),
    ("in.csv", b"url,name\n" + b"a.jpg,1\n" * 1_200_000 + b"b.jpg,\xff\n", "byte 7 of line 1200002 of .* is 0xFF"),
    ("in.csv", b"url\nx\xed\xa0\x80.jpg\n", "byte 2 of line 2 of .* is 0xED"),
    ("in.tsv", b"url\tname\na.jpg\t\xe9\n", "byte 7 of line 2 of .* is 0xE9"),
    ("in.csv.gz", gzip.compress(b"url,name\na.jpg,\xe9\n"), "byte 7 of line 2 of .* is 0xE9"),
    ("in.csv", b"url,name\na.jpg\n", "cannot be read .*Expected 2 columns"),
    ("in.csv.gz", b"not gzip", "cannot be read"),
    ("in.jsonl", b'{"url":"a"}\n{"url":\n', "line 2 of .* is no JSON"),
    ("in.jsonl", b'["a"]\n', "line 1 of .* JSON array"),
    ("in.json", b'[{"url":"a"},\n{"url":"b"}]', "line 1 of .* JSON array"),
    ("in.jsonl", b'{"url":"a"}\n"b"\n', "line 2 of .* no JSON object"),
    ("in.jsonl", b'{"url":"a"}\n{"url":"\xff"}\n', "byte 9 of line 2 of .* is 0xFF.* save the file as UTF-8"),
    ("in.jsonl", '{"url":"a"}\n'.encode("utf-16"), "byte 1 of line 1 of .* is 0xFF"),
    ("in.jsonl", b'{"url":"a"}\n{"url":"b","\\ud800":1}\n', "line 2 of .* names a field .*ud800.* rename it"),
    ("in.jsonl", b'{"url":"a","x\xed\xa0\x80":1}\n', "line 1 of .* names a field .*ud800.* rename it"),
    (
        "in.jsonl",
        b'{"url":"a"}\n{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        "line 2 of .* nested deeper than 200",
    ),
    ("in.jsonl", b'{"x":' * 100_000 + b"1" + b"}" * 100_000, "line 1 of .* nested deeper than 200"),
    ("in.jsonl", b'{"x":[' + b'["]",' * 300 + b"1" + b"]" * 301 + b"}", "line 1 of .* nested deeper than 200"),
    ("in.jsonl", b'{"x":' + b"[" * 300, "line 1 of .* nested deeper than 200"),
    ("nope://in.csv", None, "cannot be opened"),
    ("", None, "empty"),
]


@pytest.mark.parametrize(
    ("name", "data", "reason"), BAD, ids=[f"{number} {name}" for number, (name, *_) in enumerate(BAD)]
)
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
