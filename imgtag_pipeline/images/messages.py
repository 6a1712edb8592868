"""How a reference is shown in an error, and the errors that every way of reading has."""

from __future__ import annotations

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.urls import redact


def shown(url: str) -> str:
    """The reference in quotes, redacted, at most 200 characters of it; of a data: URL only the head."""
    text = url.partition(",")[0] + ",..." if url[:5].lower() == "data:" else redact(url[:4096])
    return repr(text if len(text) <= 200 else text[:200] + "...")


def too_large(url: str, max_bytes: int) -> PermanentError:
    """More bytes than the caller of this read allows."""
    return PermanentError(f"{shown(url)} is larger than the {max_bytes} bytes allowed", code="ImageTooLarge")


def not_regular(url: str) -> PermanentError:
    """A folder, a device, a pipe."""
    return PermanentError(f"{shown(url)} is not a regular file", code="NotAFile")
