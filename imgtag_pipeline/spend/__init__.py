"""Caps of money and calls: set aside before a call is sent, by all processes on one store together."""

from imgtag_pipeline.spend.files import FileRecord
from imgtag_pipeline.spend.guard import SpendGuard
from imgtag_pipeline.spend.record import MemoryRecord, SpendRecord
from imgtag_pipeline.spend.state import Month, Reservation, State

__all__ = ["FileRecord", "MemoryRecord", "Month", "Reservation", "SpendGuard", "SpendRecord", "State"]
