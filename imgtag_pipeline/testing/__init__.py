"""For tests of our own and of our users: a loopback cloud, a clock that obeys, and what a provider has to keep."""

from imgtag_pipeline.testing.clock import FakeClock
from imgtag_pipeline.testing.emulator import environment, running_emulator

__all__ = ["FakeClock", "environment", "running_emulator"]
