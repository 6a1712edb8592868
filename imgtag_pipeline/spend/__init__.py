"""Caps of money and calls: set aside before a call is sent, by all processes on one store together."""

from imgtag_pipeline.spend.files import FileBook
from imgtag_pipeline.spend.guard import Purse
from imgtag_pipeline.spend.shelf import Book, MemoryBook
from imgtag_pipeline.spend.state import Month, State, Ticket

__all__ = ["Book", "FileBook", "MemoryBook", "Month", "Purse", "State", "Ticket"]
