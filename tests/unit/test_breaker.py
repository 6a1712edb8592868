"""A run that only fails stops by itself; a column of bad links does not stop it."""

import pandas as pd
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import BreakerOpen, ConfigError
from imgtag_pipeline.model import Outcome
from imgtag_pipeline.run.breaker import Breaker, BreakerLimits

OK = Outcome("a", "a", "ok", calls=1, billed="yes")
DOWN = Outcome("a", "a", "failed", error_code="ServiceUnavailable", error="down", calls=3, is_final=False)
REFUSED = Outcome("a", "a", "failed", error_code="ParameterError", error="wrong", calls=1)
BILLED = Outcome("a", "a", "failed", error_code="InvalidArgument", error="wrong", calls=1, billed="yes")
NO_KEY = Outcome("a", "a", "failed", error_code="NoSuchKey", error="no such key", calls=1, billed="yes")
MISSING = Outcome("a", "a", "failed", error_code="NotFound", error="no such file")


def stopped_after(outcomes, **limits):
    breaker = Breaker(BreakerLimits(**limits))
    for count, outcome in enumerate(outcomes, 1):
        if breaker.note(outcome) is not None:
            return count
    return None


@pytest.mark.parametrize(
    ("outcomes", "stops_after"),
    [
        ([DOWN] * 50, 20),
        ([DOWN] * 19 + [OK] + [DOWN] * 19, None),
        ([REFUSED] * 300, 10),
        ([OK] + [REFUSED] * 300, 201),
        ([MISSING] * 5000, None),
        ([BILLED] * 300, 10),
        ([MISSING] * 50 + [BILLED] * 300, 60),
        ([BILLED] * 9 + [OK] + [BILLED] * 199, None),
        ([NO_KEY] * 9 + [BILLED] * 199, None),
        ([NO_KEY] * 199, None),
        ([OK] * 5000, None),
        ([DOWN, REFUSED] * 600, 1000),
    ],
    ids=[
        "vendor down",
        "an answer between",
        "refused",
        "refused after an answer",
        "missing files",
        "billed from the first on",
        "after missing files",
        "one answer",
        "two codes",
        "missing objects",
        "all well",
        "share",
    ],
)
def test_only_failures_of_the_vendor_or_the_settings_stop_a_run(outcomes, stops_after):
    """Counted are images that were asked about; one answer ends a row of failures."""
    assert stopped_after(outcomes) == stops_after


def test_the_words_say_how_to_go_on():
    """Whoever reads the error in the morning knows what failed and what to do."""
    breaker = Breaker(BreakerLimits(unanswered_in_a_row=1))
    assert "ServiceUnavailable" in str(breaker.note(DOWN))
    assert "run again to go on" in str(breaker.note(DOWN))


@pytest.mark.parametrize("words", [{"refused_in_a_row": 0}, {"failed_share": 0}, {"failed_share": 1.5}])
def test_limits_out_of_range_are_refused(words):
    """Limits are checked when they are built."""
    with pytest.raises(ConfigError, match="allowed"):
        BreakerLimits(**words)


def test_a_run_ends_once_too_many_images_have_failed(tmp_path):
    """A share counts from 50 images on, a number at once; what was answered is kept, and the rest is not asked."""

    Image.new("RGB", (64, 64), "red").save(tmp_path / "a.png")
    good, bad = [f"{tmp_path}/a.png"], [f"{tmp_path}/none-{number}.png" for number in range(400)]
    for limit in ("20%", 30):
        with pytest.raises(BreakerOpen, match=f"more than stop_failed={limit}") as caught:
            imgtag.label(pd.DataFrame({"url": good + bad}), stop_failed=limit, concurrency=1, progress=False)
        report, table = caught.value.report, caught.value.partial
        assert report.ok == 1
        assert report.failed_images <= 60
        assert len(table["url"].unique()) == 401
        assert (table["error_code"] == "NotAsked").sum() >= 300
    imgtag.label(pd.DataFrame({"url": good + bad[:40]}), stop_failed="20%", progress=False)  # too few to tell
    with pytest.raises(ConfigError, match="stop_failed is 'x'"):
        imgtag.label(pd.DataFrame({"url": good}), stop_failed="x", progress=False)
