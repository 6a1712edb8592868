"""Text that is no Unicode (a lone surrogate, bytes of another encoding): a bad row or one sentence, nothing lost."""

import json

import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import ConfigError

ODD = "x\ud800.png"
SHAPES = ["long", "wide", "nested"]


@pytest.fixture
def good(tmp_path):
    """The path of a picture."""
    Image.new("RGB", (20, 20), "green").save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def odd(*values):
    return pd.Series(values, dtype=object)


def statuses(table):
    """What became of each row, in order."""
    frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    first = frame if "rank" not in frame else frame[frame["rank"].isna() | (frame["rank"] == frame["rank"].min())]
    return list(first["status"])


@pytest.mark.parametrize("store", [None, "tags"])
@pytest.mark.parametrize("shape", SHAPES)
def test_reference_in_a_frame_is_a_failed_row(good, tmp_path, shape, store):
    """The row fails as a file that is not there, the other one is tagged, and the caller's own value is untouched."""
    checkpoint = store and tmp_path / store
    table = imgtag.label(pd.DataFrame({"url": odd(good, ODD)}), shape=shape, checkpoint=checkpoint)
    assert statuses(table) == ["ok", "failed"]
    assert table["error_code"].iloc[-1] == "NotFound"
    assert table["url"].iloc[-1] == ("x\\ud800.png" if shape == "long" else ODD)
    assert table.attrs["imgtag"]["failed"] == {"NotFound": 1}


@pytest.mark.parametrize("shape", SHAPES)
def test_callers_own_values_come_back(good, shape):
    """A surrogate in another column or in the index is the caller's business, and comes back."""
    frame = pd.DataFrame(
        [[good, "\ud800"]], index=pd.Index(["\ud801"], dtype=object), columns=["url", "note"], dtype=object
    )
    table = imgtag.label(frame, col="url", shape=shape, keep=["note"] if shape == "long" else ())
    assert set(table["status"]) == {"ok"}
    assert set(table["note"]) == {"\ud800"}
    assert set(table.index) == {"\ud801"}


def test_column_name_is_refused_before_anything_happens(good):
    """pandas can hold such a name, but cannot put the column beside others."""
    frame = pd.DataFrame([[good, 7]], columns=pd.Index(["url", "\udfff"], dtype=object))
    with pytest.raises(ConfigError, match=r"column name .*udfff.* rename the column"):
        imgtag.label(frame, col="url")


def test_keys_that_differ_stay_different(good, tmp_path):
    """Two keys are two images, also where neither is text that a file could hold."""
    frame = pd.DataFrame({"url": odd(good, "gone.png"), "sku": odd("\ud800", "\ud801")})
    table = imgtag.label(frame, col="url", key="sku", shape="nested", checkpoint=tmp_path / "tags")
    assert list(table["status"]) == ["ok", "failed"]
    assert table.attrs["imgtag"]["images"] == 2


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_that_pass_for_text_in_arrow(good, shape):
    """Arrow does not look whether a string column holds UTF-8; its rows are counted all the same."""
    column = pa.array([good.encode(), b"x\xed\xa0\x80.png", b"\xff.png"]).view(pa.string())
    assert statuses(imgtag.label(pa.table({"url": column}), shape=shape)) == ["ok", "failed", "failed"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("out", ["out.parquet", "out.csv", "out.jsonl"])
def test_json_lines_with_a_surrogate_are_written_whole(good, tmp_path, shape, out):
    """JSON can say a lone surrogate; as a reference it fails, as another field it is carried as its number."""
    lines = [{"url": good, "note": "\ud800", "list": ["\ud800"]}, {"url": ODD, "note": "b", "list": []}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = imgtag.enrich(tmp_path / "in.jsonl", tmp_path / out, col="url", shape=shape)
    assert (report.rows, report.ok, report.failed) == (2, 1, {"NotFound": 1})
    assert "\\ud800" in (tmp_path / out).read_text() if out != "out.parquet" else True


@pytest.mark.parametrize("value", [ODD.encode("utf-8", "surrogatepass"), "中.png".encode("gb18030"), b"caf\xe9.png"])
def test_csv_that_is_no_utf8_is_said_before_anything_happens(good, tmp_path, value):
    """The sentence names the file, the line, the byte and what to do; nothing is written."""
    (tmp_path / "in.csv").write_bytes(b"url\n" + good.encode() + b"\n" + value + b"\n")
    with pytest.raises(ConfigError, match=r"byte \d+ of line 3 of .*in\.csv.* is 0x.*save the file as UTF-8"):
        imgtag.enrich(tmp_path / "in.csv", tmp_path / "out.csv", col="url")
    assert not (tmp_path / "out.csv").exists()
