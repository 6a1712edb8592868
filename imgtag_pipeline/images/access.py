"""Which references this run may read here, told by the reference alone: nothing is opened, no name is looked up."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from imgtag_pipeline.errors import UNLESS_ALLOWED, PermanentError, RefusedHereError
from imgtag_pipeline.images.fsspec_files import check_links, reaches_files_here
from imgtag_pipeline.images.messages import shown
from imgtag_pipeline.providers.toolkit.precheck import is_private

SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")


def is_web(url: str) -> bool:
    """Whether the reference is an http or https URL."""
    found = SCHEME.match(url)
    return found is not None and found[1].lower() in ("http", "https")


def is_data(url: str) -> bool:
    """Whether the reference holds the image itself."""
    return url[:5].lower() == "data:"


def is_path(url: str) -> bool:
    """Whether the reference is a plain path or a file: URL."""
    found = SCHEME.match(url)
    return not is_data(url) and (found is None or (found[1].lower() == "file" and "::" not in url))


def refusal(url: str, *, allow_private: bool, allow_local: bool) -> PermanentError | None:
    """Why this run does not read the reference, or None; a host's name may still turn out to be private."""
    if is_data(url):
        return None
    try:
        if is_web(url):
            return None if allow_private else _private(url)
        if not allow_local and (is_path(url) or reaches_files_here(url)):
            return _local(url)
        if not is_path(url):
            check_links(url, is_guarded=not allow_private)
    except PermanentError as error:
        return error
    return None


def _private(url: str) -> PermanentError | None:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return PermanentError(f"{shown(url)} is no URL", code="InvalidUrl")
    if not is_private(host):
        return None
    return RefusedHereError(
        f"{host[:100]!r} is not an address of the public network; {UNLESS_ALLOWED}", code="AddressNotPublic"
    )


def _local(url: str) -> PermanentError:
    return RefusedHereError(
        f"{shown(url)} is on this machine, and files of this machine are sent to a vendor only by your word; "
        'allow it with allow_local=True (--allow-local), or image_mode="bytes"',
        code="LocalNotAllowed",
    )
