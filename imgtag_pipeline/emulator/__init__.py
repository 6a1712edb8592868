"""A loopback cloud of all five families: it verifies, throttles, breaks on request, and keeps a ledger of its bill."""

from imgtag_pipeline.emulator.options import Account, EmulatorOptions
from imgtag_pipeline.emulator.runner import credentials, exports, run_in_thread, serve
from imgtag_pipeline.emulator.server import Emulator

__all__ = ["Account", "Emulator", "EmulatorOptions", "credentials", "exports", "run_in_thread", "serve"]
