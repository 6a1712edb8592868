"""The command line: `commands` has a function per verb, `shown` the lines in which their answers are told."""

from imgtag_pipeline.cli.commands import app, main

__all__ = ["app", "main"]
