"""What the stages of a run are opened with."""

from types import SimpleNamespace

import pytest

from imgtag_pipeline.model import Quota
from imgtag_pipeline.options import Options
from imgtag_pipeline.pipeline.stages import concurrency_of


def provider(concurrency, qps):
    return SimpleNamespace(concurrency=concurrency, quota=Quota("q", qps))


@pytest.mark.parametrize(
    ("words", "concurrency", "qps", "expected"),
    [
        ({}, 8, 2.0, 8),
        ({"concurrency": 3}, 8, 2.0, 3),
        ({"concurrency": 3, "qps": 500}, 8, 2.0, 3),
        ({"qps": 1}, 8, 2.0, 8),
        ({"qps": 20}, 8, 2.0, 80),
        ({"qps": 2.1}, 8, 2.0, 9),
        ({"qps": 500}, 8, 2.0, 256),
        ({"qps": 1000}, 400, 100.0, 400),
        ({"qps": 50}, 10, None, 10),
    ],
)
def test_a_higher_share_has_enough_in_flight_to_be_used(words, concurrency, qps, expected):
    """Who may call ten times as often needs ten times as many calls under way; the caller's own word stays."""
    assert concurrency_of(Options(**words), provider(concurrency, qps)) == expected
