"""Inputs as people really have them: other separators, no header, odd cells, files that differ; nothing is guessed."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import imgtag_pipeline as imgtag
from imgtag_pipeline.cli.commands import app
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.testing import running_emulator


def written(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def refused(source, tmp_path, match, **words):
    with pytest.raises(ConfigError, match=match):
        imgtag.plan(source, **words)
    with pytest.raises(ConfigError, match=match):
        imgtag.enrich(source, tmp_path / "out.parquet", progress=False, **words)
    assert not (tmp_path / "out.parquet").exists()


# --- columns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mark", "said"), [(";", "';'"), ("\t", "a tab"), ("|", "'|'")])
def test_another_separator_is_named_and_can_be_given(tmp_path, picture_path, mark, said):
    """`id;url` is not a column: the sentence names the separator and the option; with it the file is read."""
    source = written(tmp_path / "in.csv", f"id{mark}url\n1{mark}{picture_path}\n")
    refused(source, tmp_path, f"separated by {said.replace('|', '.')}: give delimiter=.*--delimiter")
    report = imgtag.enrich(source, tmp_path / "out.parquet", delimiter=mark, progress=False)
    assert (report.ok, report.failed) == (1, {})


def test_the_command_line_takes_a_separator(tmp_path, picture_path):
    """`--delimiter ";"` for plan, label and retry; `.tsv` needs none."""
    source = written(tmp_path / "in.csv", f"id;url\n1;{picture_path}\n")
    runner = CliRunner()
    planned = runner.invoke(app, ["plan", str(source), "--delimiter", ";", "--json"])
    assert json.loads(planned.stdout)["images"] == 1
    tabs = written(tmp_path / "in.tsv", f"id\turl\n1\t{picture_path}\n")
    assert json.loads(runner.invoke(app, ["plan", str(tabs), "--json"]).stdout)["images"] == 1


@pytest.mark.parametrize("mark", ["", ";;", '"', "\n", "\u00e9"])
def test_a_separator_is_one_character(tmp_path, mark):
    """Anything else is one sentence."""
    refused(written(tmp_path / "in.csv", "url\na\n"), tmp_path, "one character", delimiter=mark)


def test_no_column_is_guessed(tmp_path, picture_path):
    """The only column is not the image column because it is the only one."""
    refused(written(tmp_path / "in.csv", f"image\n{picture_path}\n"), tmp_path, "only 'image'; .*col= .--col.")
    with pytest.raises(ConfigError, match="only 'image'"):
        imgtag.label(pd.DataFrame({"image": [picture_path]}), progress=False)
    assert imgtag.label(pd.Series([picture_path], name="image"), progress=False)["status"].iloc[0] == "ok"


@pytest.mark.parametrize("first", ["https://a.example/1.jpg", "photos/1.JPG", "oss://b/k.png", "id,s3://b/1.webp"])
def test_a_file_without_a_header_loses_no_row(tmp_path, first):
    """A first line that looks like a reference is said, with the option that keeps it."""
    refused(written(tmp_path / "in.csv", f"{first}\n{first}\n"), tmp_path, "header=False .--no-header.")


def test_without_a_header_every_line_is_a_row(tmp_path):
    """One column is `url`, several are `1`, `2` and so on."""
    one = written(tmp_path / "one.csv", "a.jpg\nb.jpg\nc.jpg\n")
    assert imgtag.plan(one, header=False).images == 3
    two = written(tmp_path / "two.csv", "7,a.jpg\n8,b.jpg\n")
    assert imgtag.plan(two, header=False, col="2").images == 2


def test_a_later_file_without_the_column_is_refused_by_name(tmp_path):
    """`URL` for `url` in the second file is not a thousand blank rows: CSV, JSON lines, Parquet, Dataset."""
    for folder in ("csv", "jsonl", "parquet"):
        (tmp_path / folder).mkdir()
    written(tmp_path / "csv" / "a.csv", "url,n\na.jpg,1\n")
    written(tmp_path / "csv" / "b.csv", "URL,n\nb.jpg,1\n")
    written(tmp_path / "jsonl" / "a.jsonl", '{"url": "a.jpg"}\n')
    written(tmp_path / "jsonl" / "b.jsonl", '{"link": "b.jpg"}\n')
    pq.write_table(pa.table({"url": ["a.jpg"]}), tmp_path / "parquet" / "a.parquet")
    pq.write_table(pa.table({"link": ["b.jpg"]}), tmp_path / "parquet" / "b.parquet")
    for folder, name in (("csv", "b.csv"), ("jsonl", "b.jsonl"), ("parquet", "b.parquet")):
        refused(tmp_path / folder, tmp_path, f"{name}.* has no column 'url'")
    schema = pa.schema([("url", pa.string()), ("link", pa.string())])
    with pytest.raises(ConfigError, match=r"b.parquet.* has no column 'url'"):
        imgtag.label(pads.dataset(tmp_path / "parquet", schema=schema), progress=False)


def test_columns_that_the_result_does_not_carry_need_not_agree(tmp_path, picture_path):
    """A number here and a list there is nobody's business in a long table; a wide one needs them all."""
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"url": [picture_path], "n": [1]}), folder / "a.parquet")
    pq.write_table(pa.table({"url": [picture_path], "n": [["x"]]}), folder / "b.parquet")
    assert imgtag.enrich(folder, tmp_path / "long.parquet", progress=False).rows == 2
    with pytest.raises(ConfigError, match="do not fit together in 'n'"):
        imgtag.enrich(folder, tmp_path / "wide.parquet", shape="wide", progress=False)


@pytest.mark.parametrize(
    ("marker", "name"),
    [("_delta_log/0.json", "Delta"), (".hoodie/hoodie.properties", "Hudi"), ("metadata/v1.metadata.json", "Iceberg")],
)
def test_tables_with_a_log_are_not_read_as_plain_parquet(tmp_path, marker, name):
    """Their folder, a glob in it and a single file of it are refused, with the way out."""
    folder = tmp_path / "table"
    place = folder / ("data" if name == "Iceberg" else "day=1")
    place.mkdir(parents=True)
    pq.write_table(pa.table({"url": ["a.jpg"]}), place / "a.parquet")
    (folder / marker).parent.mkdir()
    (folder / marker).write_text("{}")
    for source in (folder, place, place / "a.parquet", f"{place}/*.parquet"):
        refused(source, tmp_path, f"{name} table.*deleted.*through its log")


# --- cells ----------------------------------------------------------------------------------------------------------

CELLS = [["a.jpg"], {"url": "a.jpg"}, 7, 2.5, True, np.float64(3.5), "//host.example/x.jpg"]


def test_cells_that_are_no_reference_say_what_they_are(picture_path):
    """Each is a failed row with one sentence, and costs no call; the others are answered."""
    with running_emulator(is_synthetic=True) as cloud:
        provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"))
        frame = pd.DataFrame({"url": pd.Series([*CELLS, "https://a.example/1.jpg", None], dtype=object)})
        table = imgtag.label(frame, provider=provider, shape="nested", progress=False)
        assert table["error_code"].tolist()[: len(CELLS)] == ["NotAReference"] * len(CELLS)
        assert table["status"].tolist()[len(CELLS) :] == ["ok", "skipped"]
        assert cloud.ledger.calls == 1
        for word, error in zip(
            ["a list", "a dictionary", "a number", "a number", "a truth value"], table["error"], strict=False
        ):
            assert word in error
        plan = imgtag.plan(frame, provider=provider)
        assert plan.images - plan.payable == len(CELLS)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"url": [1, 2]}),
        pa.table({"url": [True, None]}),
        pa.table({"url": [{"path": "a"}]}),
        pl.DataFrame({"url": [1.5, 2.5]}),
        pd.DataFrame({"url": pd.Series([1, 2], dtype="int64")}),
    ],
    ids=["numbers", "truth values", "structs", "polars", "pandas"],
)
def test_typed_columns_of_something_else_fail_by_row(table):
    """No file of the name `1` is looked for."""
    result = imgtag.label(table, progress=False, errors="rows")
    codes = {
        "pandas": lambda: set(result["error_code"]),
        "polars": lambda: set(result["error_code"].to_list()),
        "pyarrow": lambda: set(result.column("error_code").to_pylist()),
    }[type(result).__module__.partition(".")[0]]()
    assert "NotAReference" in codes
    assert codes <= {"NotAReference", "NullUrl"}


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"url": [["a.jpg"], ["b.jpg", "c.jpg"]]}),
        pa.table({"url": [["a.jpg"]]}),
        pl.DataFrame({"url": [["a.jpg"]]}),
        pd.DataFrame({"url": [np.array(["a.jpg"])]}),
    ],
    ids=["pandas", "arrow", "polars", "arrays"],
)
def test_a_column_of_lists_is_refused_before_the_run(table):
    """With the way out."""
    with pytest.raises(ConfigError, match=r"holds lists.*df.explode\('url'\)"):
        imgtag.label(table, progress=False)


@pytest.mark.parametrize(
    "wrapped", ['"{}"', "'{}'", "<{}>", "\ufeff{}", "\u200b{}\u200d", " {} ", '"<{}>"', "\u201c{}\u201d"]
)
def test_what_stands_around_a_reference_is_taken_off(picture_path, wrapped):
    """Quotes, angle brackets, a byte order mark and zero-width characters: the picture is found, once."""
    frame = pd.DataFrame({"url": [wrapped.format(picture_path), str(picture_path)]})
    table = imgtag.label(frame, progress=False)
    assert set(table["status"]) == {"ok"}
    assert table.attrs["imgtag"]["images"] == 1


@pytest.fixture
def picture_path(tmp_path):
    """A small picture on the disk."""
    from PIL import Image

    path = tmp_path / "pictures" / "a.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64), "red").save(path)
    return str(path)


# --- pictures in cells ----------------------------------------------------------------------------------------------


def pictures(picture_path):
    """The same picture as bytes, a Pillow image, and Hugging Face's struct."""
    from PIL import Image

    data = Path(picture_path).read_bytes()
    return {
        "bytes": pd.DataFrame({"url": [data, data]}),
        "pillow": pd.DataFrame({"url": [Image.open(picture_path), Image.open(picture_path)]}),
        "struct": pa.table({"url": [{"bytes": data, "path": None}, {"bytes": None, "path": picture_path}]}),
        "binary": pa.table({"url": pa.array([data, data], pa.binary())}),
        "dictionaries": pd.DataFrame({"url": [{"bytes": data, "path": "x.png"}] * 2}),
    }


@pytest.mark.parametrize("kind", ["bytes", "pillow", "struct", "binary", "dictionaries"])
def test_a_column_of_pictures_is_read(picture_path, kind):
    """Each picture is known by its bytes, asked about once, and shown by a hash, not by its megabytes."""
    table = imgtag.label(pictures(picture_path)[kind], progress=False)
    frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    assert set(frame["status"]) == {"ok"}
    assert "red" in set(frame["tag"])
    urls = set(frame["url"])
    assert max(map(len, urls)) < 200
    assert len(urls) == (2 if kind == "struct" else 1)


def test_pictures_go_to_a_vendor_that_takes_bytes_and_are_refused_once_where_none_are_taken(picture_path):
    """VIAPI gets them by its upload; the OSS calls take objects only."""
    with running_emulator(is_synthetic=True) as cloud:
        keys = Keys("emulator", "emulator")
        provider = imgtag.providers.get(
            "viapi/TaggingImage", endpoint=cloud.url, upload_endpoint=cloud.url, credentials=keys
        )
        table = imgtag.label(pictures(picture_path)["bytes"], provider=provider, progress=False, shape="nested")
        assert table["error_code"].dropna().tolist() == []
        with pytest.raises(ConfigError, match="holds pictures, and oss_labels takes no bytes"):
            imgtag.label(
                pictures(picture_path)["bytes"],
                provider=imgtag.providers.get("oss_labels", region="cn-hangzhou", credentials=keys),
                progress=False,
            )
