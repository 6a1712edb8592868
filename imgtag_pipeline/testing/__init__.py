"""For tests of our own and of our users: a loopback cloud, a clock that obeys, and what a provider has to keep.

The fixtures `emulator`, `emulator_environment` and `fake_clock` are there once the package is installed. A package
that adds a provider inherits the whole suite:

    class TestAcme(ProviderContract):
        @pytest.fixture
        def provider(self):
            return get("acme/Detect", credentials=CANARY)
"""

from typing import TYPE_CHECKING, Any

from imgtag_pipeline.testing.clock import FakeClock
from imgtag_pipeline.testing.emulator import environment, put_object, running_emulator

if TYPE_CHECKING:
    from imgtag_pipeline.testing.provider import CANARY, ProviderContract

__all__ = ["CANARY", "FakeClock", "ProviderContract", "environment", "put_object", "running_emulator"]


def __getattr__(name: str) -> Any:
    """The provider suite, which needs pytest, is imported when it is asked for."""
    if name in ("CANARY", "ProviderContract"):
        from imgtag_pipeline.testing import provider

        return getattr(provider, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
