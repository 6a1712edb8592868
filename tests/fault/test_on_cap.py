"""A run that a cap stops delivers what is known; an offline run asks nobody and needs no keys."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import CapReached, ConfigError
from imgtag_pipeline.providers.toolkit.credentials import Keys

NO_KEYS = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""}

pytestmark = pytest.mark.emulator(is_synthetic=True)


@pytest.mark.parametrize("shape", ["long", "wide", "nested"])
async def test_out_is_written_at_a_cap(desk, tmp_path, shape):
    """All rows are there, unasked ones skipped; exit code 4; the next run asks about the rest."""
    desk.write(30)
    out = tmp_path / "out.parquet"
    words = ("--on-cap", "write", "--max-calls", 12, "--shape", shape, "--overwrite")
    process = desk.start(*words, out=str(out))
    assert process.wait() == 4
    assert "18 images not asked yet" in process.stderr
    table = pq.read_table(out)
    codes = table["error_code"].to_pylist()
    assert codes.count("NotAskedYet") == 18
    assert {table["status"][at].as_py() for at, code in enumerate(codes) if code} == {"skipped"}
    assert desk.emulator.ledger.calls == 12
    assert desk.start(*words, out=str(out)).wait() == 4
    assert desk.start(*words, out=str(out)).wait() == 0
    assert desk.emulator.ledger.calls == 30
    assert not pq.read_table(out)["error_code"].drop_null().to_pylist()


async def test_offline_shows_what_the_store_knows(desk, tmp_path):
    """No call, no keys."""
    desk.write(20)
    assert desk.start("--max-calls", 8).wait() == 4
    out = tmp_path / "known.parquet"
    assert desk.start("--offline", out=str(out), env=NO_KEYS).wait() == 0
    assert pq.read_table(out)["error_code"].to_pylist().count("NotAskedYet") == 12
    assert desk.emulator.ledger.calls == 8


async def test_a_table_comes_back_at_a_cap(desk, tmp_path):
    """The report tells of the cap; without on_cap it is raised."""
    url = desk.emulator.url
    provider = imgtag.providers.get("viapi/TaggingImage", endpoint=url, credentials=Keys("emulator", "emulator"))
    frame = pd.DataFrame({"url": [f"https://img.example/{number}.jpg" for number in range(9)]})
    words = {"provider": provider, "qps": 5000, "max_calls": 4, "shape": "nested"}
    told = await imgtag.alabel(frame, on_cap="write", **words)
    assert told["status"].tolist().count("ok") == 4
    assert told["error_code"].tolist().count("NotAskedYet") == 5
    assert told.attrs["imgtag"]["exit_code"] == 4
    assert "max_calls=4 is used up" in told.attrs["imgtag"]["stopped"]
    with pytest.raises(CapReached):
        await imgtag.alabel(frame, **words)


def test_offline_needs_a_store():
    """Without one nothing is known."""
    with pytest.raises(ConfigError, match="offline needs checkpoint="):
        imgtag.label(pd.DataFrame({"url": ["a.jpg"]}), offline=True)
