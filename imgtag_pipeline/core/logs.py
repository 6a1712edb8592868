"""Log lines on standard error where the environment asks for them (IMGTAG_LOG=json or text); else nothing is set up."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

from imgtag_pipeline.core.environment import log_format
from imgtag_pipeline.errors import ConfigError

FORMATS: Final = ("json", "text")
logger = logging.getLogger("imgtag_pipeline")


class _Handler(logging.Handler):
    """Writes to standard error as it is at the moment of the line."""

    form = "text"
    only: str | None = None  # the one event that is written beside warnings, None for all

    def emit(self, record: logging.LogRecord) -> None:
        facts = fields_of(record)
        line = json.dumps(facts, default=str) if self.form == "json" else text_of(record)
        if self.only is not None and facts["event"] != self.only:
            if record.levelno < logging.WARNING or logging.getLogger().handlers:
                return
            line = record.getMessage()  # as Python writes it where nobody has set up logging
        try:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
        except (AttributeError, OSError, ValueError):  # there may be no standard error
            return


_handler = _Handler()


def set_up(*, progress_lines: bool = False) -> None:
    """Follow IMGTAG_LOG; where it is not set, `progress_lines` shows how far a run is, and nothing else.

    Raises `ConfigError` for another format than json and text.
    """
    form = log_format()
    if form is not None and form not in FORMATS:
        raise ConfigError(f"IMGTAG_LOG is {form!r}; allowed: json or text, or leave it out")
    if form is None and not progress_lines:
        if _handler.only is None:  # progress lines that were asked for stay
            logger.removeHandler(_handler)
        return
    _handler.form, _handler.only = form or "text", None if form else "progress"
    if _handler not in logger.handlers:
        logger.addHandler(_handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """A line as plain data: time, level, event and its fields; of a line without fields, its words as `message`."""
    head = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
    }
    facts = getattr(record, "imgtag", None)
    if facts is not None:
        return {**head, **facts}
    message = record.getMessage()
    name, _, rest = message.removeprefix("event=").partition(" ")
    if not message.startswith("event="):
        name, rest = "message", message
    return {**head, "event": name.rstrip(":"), "message": rest}


def text_of(record: logging.LogRecord) -> str:
    """A line for a person."""
    moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
    return f"imgtag {moment} {record.levelname.lower()} {record.getMessage()}"
