"""The first bytes and the size of an image on this machine, for telling without a call that it cannot succeed."""

from __future__ import annotations

import os
import stat
from typing import Final

from imgtag_pipeline.errors import CallError, PermanentError
from imgtag_pipeline.images.access import is_data, is_path, is_web, refusal
from imgtag_pipeline.images.fsspec_files import check_installed
from imgtag_pipeline.images.local import READ_FLAGS, path_of, read_data_url
from imgtag_pipeline.images.messages import not_regular, shown
from imgtag_pipeline.images.reader import attempt
from imgtag_pipeline.providers.contract import ReadingImages

HEAD: Final = 1 << 16
_MOST_DATA: Final = 64 << 20


def check_before(provider: ReadingImages, url: str, *, allow_private: bool, allow_local: bool) -> PermanentError | None:
    """Why an image that the provider has read here cannot succeed, or None; only what is on this machine is opened."""
    problem = refusal(url, allow_private=allow_private, allow_local=allow_local)
    if problem is not None or is_web(url):
        return problem
    is_here = is_path(url) or is_data(url)
    found = attempt(lambda: _head(url) if is_here else check_installed(url), url)
    if isinstance(found, CallError):
        return found if isinstance(found, PermanentError) else None  # else it may be read when its turn comes
    if found is None:
        return None
    head, size = found
    if size == 0:
        return PermanentError(f"{shown(url)} has 0 bytes", code="EmptyFile")
    return provider.check_head(head, size)


def _head(url: str) -> tuple[bytes, int]:
    if is_data(url):
        data = read_data_url(url, _MOST_DATA)
        return data, len(data)
    path = path_of(url)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise not_regular(path)
    except ValueError as error:
        raise FileNotFoundError from error
    with open(os.open(path, READ_FLAGS), "rb", buffering=0) as file:
        return file.read(HEAD), os.fstat(file.fileno()).st_size
