"""Caps of money and calls: set aside before a call is sent, by all processes on one store together."""

from imgtag_pipeline.caps.files import FileBook
from imgtag_pipeline.caps.purse import Purse
from imgtag_pipeline.caps.shelf import Book, MemoryBook
from imgtag_pipeline.caps.state import Month, State, Ticket

__all__ = ["Book", "FileBook", "MemoryBook", "Month", "Purse", "State", "Ticket"]
