"""One run: windows of rows in, the same windows with their outcomes out, in the caller's order."""

from imgtag_pipeline.run.answered import Answered
from imgtag_pipeline.run.run import Run

__all__ = ["Answered", "Run"]
