"""The pytest plugin: fixtures for users of the package and for its own tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from imgtag_pipeline.emulator import Emulator
    from imgtag_pipeline.testing import FakeClock


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "emulator(**options): build the `emulator` fixture with these EmulatorOptions")


# The provider suite's assertions explain themselves in a foreign package's tests as they do in ours.
pytest.register_assert_rewrite("imgtag_pipeline.testing.provider")


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """A loopback cloud of all providers, without quotas; `@pytest.mark.emulator(qps=2, faults=("reset=0.1",))` sets."""
    from imgtag_pipeline.testing import running_emulator

    marker = request.node.get_closest_marker("emulator")
    with running_emulator(**(marker.kwargs if marker else {})) as running:
        yield running


@pytest.fixture
def emulator_environment(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The emulator's credentials, set in the environment for this test."""
    from imgtag_pipeline.testing import environment

    values = environment(emulator)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that moves only when the test says so."""
    from imgtag_pipeline.testing import FakeClock

    return FakeClock()
