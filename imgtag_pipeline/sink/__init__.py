"""Where results go: back as the caller's kind of table, or into files that are written whole or not at all."""

from imgtag_pipeline.sink.files import FileSink
from imgtag_pipeline.sink.tables import attach_report, give_back

__all__ = ["FileSink", "attach_report", "give_back"]
