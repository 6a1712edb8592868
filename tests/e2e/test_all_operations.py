"""The same photographs through all sixteen operations: one schema, long and wide, and nothing lost in Parquet."""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import skimage
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, get, names
from imgtag_pipeline.run.retry_policy import RetryPolicy
from imgtag_pipeline.testing import put_object, running_emulator

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
KEYS = Keys("emulator", "emulator", app_id="1000001")
REQUIRED = {
    "oss_labels": {"region": "cn-hangzhou"},
    "oss_tagimage": {"region": "cn-hangzhou"},
    "viapi/EvaluateCertificateQuality": {"certificate_type": "IDCard"},
    "viapi/TaggingAdImage": {"poll_every": 0.01},
}
QUICK = RetryPolicy(base=0.01, cap=0.02)
OPERATIONS = [name for name in names() if name not in ("local", "onnx")]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """A cloud that serves the photographs by http and holds them as objects."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in PHOTOGRAPHS:
        picture = Image.open(Path(skimage.__file__).parent / "data" / f"{name}.png").convert("RGB")
        picture.save(folder / f"{name}.jpg", quality=90)
    with running_emulator(images=folder) as running:
        for name in PHOTOGRAPHS:
            put_object(running, "photographs", f"{name}.jpg", (folder / f"{name}.jpg").read_bytes())
        yield running


def references(cloud, address):
    """What a user has in the column: objects for OSS, URLs for the others; the last one does not exist."""
    home = "oss://photographs" if address.startswith("oss_") else f"{cloud.url}/_emulator/images"
    return [*(f"{home}/{name}.jpg" for name in PHOTOGRAPHS), f"{home}/missing.jpg", None]


def labelled(cloud, address, **words):
    provider = get(address, endpoint=cloud.url, credentials=KEYS, **REQUIRED.get(address, {}))
    table = pa.table({"url": references(cloud, address), "photograph": [*PHOTOGRAPHS, "missing", None]})
    return imgtag.label(table, col="url", provider=provider, qps=10_000, policy=QUICK, **words)


@pytest.fixture(scope="module")
def long_tables(cloud):
    """The long table of each operation."""
    return {address: labelled(cloud, address, keep=["photograph"]) for address in OPERATIONS}


def test_there_are_sixteen_operations_with_one_long_schema(long_tables):
    """Every operation gives the same columns of the same types."""
    assert len(long_tables) == 16
    schemas = {table.schema.remove_metadata().to_string() for table in long_tables.values()}
    assert len(schemas) == 1


@pytest.mark.parametrize("address", OPERATIONS)
def test_every_row_is_answered(long_tables, address):
    """Photographs have tags or are empty, the missing one failed with a code, the row without a URL is skipped."""
    rows = long_tables[address].select(["photograph", "status", "error_code", "provider"]).to_pylist()
    found = {row["photograph"]: row for row in rows}
    assert set(found) == {*PHOTOGRAPHS, "missing", None}
    assert {found[name]["status"] for name in PHOTOGRAPHS} <= {"ok", "empty"}
    assert found["missing"]["status"] == "failed"
    assert found["missing"]["error_code"]
    assert found[None]["status"] == "skipped"
    assert {row["provider"] for row in rows} == {address}


@pytest.mark.parametrize("address", OPERATIONS)
def test_confidence_is_a_share_or_unknown(long_tables, address):
    """Whatever scale the vendor uses, confidence is 0 to 1, or null where there is none."""
    confidence = long_tables[address]["confidence"].drop_null()
    assert not len(confidence) or (pc.min(confidence).as_py() >= 0 and pc.max(confidence).as_py() <= 1)


@pytest.mark.parametrize("address", OPERATIONS)
@pytest.mark.parametrize("shape", ["long", "wide", "nested"])
def test_parquet_loses_nothing(cloud, long_tables, address, shape):
    """Written and read again, every shape is equal, its types and its report included."""
    table = long_tables[address] if shape == "long" else labelled(cloud, address, shape=shape)
    file = io.BytesIO()
    pq.write_table(table, file)
    again = pq.read_table(file)
    assert again.equals(table)
    assert again.schema.equals(table.schema)
    assert again.schema.metadata == table.schema.metadata


def test_wide_tables_with_one_vocabulary_have_one_schema(cloud, long_tables):
    """A column per tag that was asked for: 0 where an answer lacks it, null where there is no answer."""
    vocabulary = ["清晰", "横图", "green"]
    tables = [labelled(cloud, address, shape="wide", vocabulary=vocabulary) for address in OPERATIONS]
    assert len({table.schema.remove_metadata().to_string() for table in tables}) == 1
    for table in tables:
        column = table["tag_green"].to_pylist()
        statuses = table["status"].to_pylist()
        assert [value is None for value in column] == [status not in ("ok", "empty") for status in statuses]


def test_all_operations_stand_in_one_frame(long_tables):
    """The tables are put below one another without a conversion, and pandas keeps what they say."""
    whole = pa.concat_tables([table.replace_schema_metadata(None) for table in long_tables.values()])
    frame = whole.to_pandas()
    assert frame["provider"].nunique() == 16
    assert pd.api.types.is_float_dtype(frame["confidence"])
    assert frame["photograph"].nunique() == len(PHOTOGRAPHS) + 1
