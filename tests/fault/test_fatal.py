"""An answer that concerns every image stops the run at once: nothing more is sent, and what came before it is kept."""

import json

import pyarrow as pa
import pytest

from imgtag_pipeline import label
from imgtag_pipeline.emulator.faults import Fault
from imgtag_pipeline.errors import BreakerOpen, ClockSkewError, FatalError
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.providers.alibaba_oss.codes import CODES as OSS_CODES
from imgtag_pipeline.providers.alibaba_viapi.codes import CODES as VIAPI_CODES
from imgtag_pipeline.providers.tencent_image.codes import CODES as TENCENT_CODES
from imgtag_pipeline.providers.tencent_image.codes import STATUSES as TENCENT_STATUSES
from imgtag_pipeline.run.breaker import BreakerLimits
from imgtag_pipeline.run.retry_policy import RetryPolicy
from imgtag_pipeline.testing import put_object, running_emulator

CONCURRENCY = 4
GOOD = 12
IMAGES = 40
QUICK = RetryPolicy(base=0.001, cap=0.002, time_limit=0.05)
REGION = {"oss_labels": {"region": "cn-hangzhou"}, "oss_tagimage": {"region": "cn-hangzhou"}}
AS_SENT = {"ResourceNotFound": "ImmClient.ResourceNotFound"}


def fatal(codes):
    return [str(code) for code, verdict in codes.items() if issubclass(verdict.error, FatalError)]


EVERY_CODE = [
    *(("viapi/TaggingImage", code) for code in fatal(VIAPI_CODES)),
    *(("tencent_v1", code) for code in fatal(TENCENT_CODES)),
    *(("tencent_v2", code) for code in fatal(TENCENT_CODES)),
    *(("tencent_v2", f"HTTP{status}") for status in fatal(TENCENT_STATUSES)),
    *(("oss_tagimage", code) for code in fatal(OSS_CODES)),
    *(("oss_labels", code) for code in fatal(OSS_CODES)),
]


class From:
    """From the n-th call on, every answer is this one."""

    def __init__(self, emulator, first, kind, argument=""):
        self.left, self.fault = first, Fault(kind, argument)
        emulator.reset()
        emulator.faults = self

    def choose(self, admission, asked=None):
        self.left -= 1
        return None if self.left >= 0 else self.fault


class Never:
    """No faults."""

    def choose(self, admission, asked=None):
        return None


@pytest.fixture(scope="module")
def cloud():
    """A cloud with a bucket of objects, on which the tests of this file work one after the other."""
    with running_emulator(is_synthetic=True, latency=0.002) as running:
        for number in range(IMAGES):
            put_object(running, "bucket", f"{number}.jpg", b"pixels")
        yield running


def run(cloud, address, store, **words):
    home = "oss://bucket" if address.startswith("oss_") else "https://img.example"
    keys = words.pop("keys", Keys("emulator", "emulator", app_id="1000001"))
    provider = get(address, endpoint=cloud.url, credentials=keys, **REGION.get(address, {}))
    table = pa.table({"url": [f"{home}/{number}.jpg" for number in range(IMAGES)]})
    words = {"policy": QUICK, "concurrency": CONCURRENCY, **words}
    return label(table, provider=provider, checkpoint=str(store), qps=10_000, **words)


@pytest.mark.parametrize(("address", "code"), EVERY_CODE)
def test_a_fatal_answer_from_some_row_on(cloud, tmp_path, figure, address, code):
    """At most `concurrency` calls get that answer, the answers before it are kept, and a re-run asks about the rest."""
    From(cloud, GOOD, "error", AS_SENT.get(code, code))
    with pytest.raises(FatalError) as caught:
        run(cloud, address, tmp_path)
    error, report = caught.value, caught.value.report
    may_be_mended = isinstance(error, ClockSkewError)
    further = cloud.ledger.calls - GOOD
    assert further <= CONCURRENCY * (2 if may_be_mended else 1)
    assert error.exit_code == report.exit_code == 3
    assert error.code.removeprefix("HTTP") == code.removeprefix("HTTP")
    assert len(str(error)) > len(error.code) + 20, "says what to do"
    assert (report.ok + report.empty, report.failed, report.unanswered) == (GOOD, {}, IMAGES - GOOD)
    assert len(set(error.partial["url"].to_pylist())) == IMAGES
    cloud.faults = Never()
    cloud.reset()
    table = run(cloud, address, tmp_path)
    assert cloud.ledger.calls == IMAGES - GOOD
    assert set(table["status"].to_pylist()) <= {"ok", "empty"}
    what = "the vendor refuses our clock, also after it was put right," if may_be_mended else "fatal answer"
    figure(
        f"{what} from call {GOOD + 1} on, concurrency {CONCURRENCY}",
        "{count} codes",
        f"at most {{worst}} calls got it, {GOOD} answers kept, the re-run asks about the rest",
        further,
    )


@pytest.mark.parametrize("address", ["viapi/TaggingImage", "tencent_v1", "tencent_v2", "oss_tagimage", "oss_labels"])
def test_a_bad_key_costs_at_most_concurrency_calls(cloud, tmp_path, figure, address):
    """The vendor refuses the signature: one clear error, and none of 40 images is tried twice."""
    cloud.faults = Never()
    cloud.reset()
    with pytest.raises(FatalError) as caught:
        run(cloud, address, tmp_path, keys=Keys("emulator", "not-the-secret", app_id="1000001"))
    assert 1 <= cloud.ledger.calls <= CONCURRENCY
    assert "not-the-secret" not in str(caught.value)
    figure(f"bad key, concurrency {CONCURRENCY}", "{count} families", "at most {worst} calls", cloud.ledger.calls)


def test_what_a_refused_run_had_marked_is_not_called_billed(cloud, tmp_path):
    """A fatal answer costs nothing, so neither this report nor the next one lists its images."""
    From(cloud, GOOD, "error", "InvalidApi.NotPurchase")
    with pytest.raises(FatalError) as caught:
        run(cloud, "viapi/TaggingImage", tmp_path)
    cloud.faults = Never()
    again = run(cloud, "viapi/TaggingImage", tmp_path)
    report = json.loads(again.schema.metadata[b"imgtag"])
    assert (caught.value.report.possibly_billed_count, report["possibly_billed_count"]) == (0, 0)


def test_a_vendor_that_is_down_opens_the_breaker(cloud, tmp_path, figure):
    """After 20 images in a row without an answer the run stops by itself; the next one goes on where it was."""
    From(cloud, GOOD, "http", "503")
    with pytest.raises(BreakerOpen) as caught:
        run(cloud, "viapi/TaggingImage", tmp_path)
    report = caught.value.report
    assert (caught.value.exit_code, report.ok) == (3, GOOD)
    assert "again" in str(caught.value)
    asked = sum(report.failed.values())
    assert 20 <= asked < 20 + CONCURRENCY
    cloud.faults = Never()
    cloud.reset()
    assert set(run(cloud, "viapi/TaggingImage", tmp_path)["status"].to_pylist()) <= {"ok", "empty"}
    assert cloud.ledger.calls == IMAGES - GOOD
    figure("vendor down (503) after 12 answers", "1 run", f"stopped after {asked} images without an answer")


def test_a_setting_that_every_image_is_refused_for_opens_the_breaker(cloud, tmp_path):
    """Refusals with one code in a row stop the run, too, and are kept: they were answers."""
    From(cloud, 0, "error", "InvalidImage.Region")
    with pytest.raises(BreakerOpen) as caught:
        run(cloud, "viapi/TaggingImage", tmp_path, breaker=BreakerLimits(refused_in_a_row=10))
    assert 10 <= caught.value.report.failed["InvalidImage.Region"] < 10 + CONCURRENCY


def test_exit_code_3_and_one_sentence_on_the_command_line(desk):
    """`imgtag label` with a bad key: exit code 3, the reason on standard error, no table, and the store goes on."""
    desk.write(30)
    process = desk.start("--json", env={"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "wrong"}, concurrency=4)
    assert process.wait() == 3
    assert "access key secret" in process.stderr
    assert "Traceback" not in process.stderr
    assert not desk.out.exists()
    assert desk.emulator.ledger.calls <= 4
