"""Reads an image's bytes from where its reference points: a path, file://, data:, http(s), any fsspec file system.

Blocking reads run in a bounded number of daemon threads, so that a file system that hangs costs its own images only.
Errors say which reference failed in redacted form; nothing of a library's own exception leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from imgtag_pipeline.errors import CallError, PermanentError, TransientError
from imgtag_pipeline.images.access import SCHEME, refusal
from imgtag_pipeline.images.fsspec_files import read_system
from imgtag_pipeline.images.local import path_of, read_data_url, read_path, refuse_other_hosts
from imgtag_pipeline.images.messages import shown

Read = TypeVar("Read")
Download = Callable[..., Awaitable[bytes]]

_PASSING: Final = frozenset(
    (errno.EIO, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ECONNRESET)
)
_HUNG_PER_THREAD: Final = 4

# Returned, not raised, from where the plain reference is at hand: what leaves then holds no frame that shows it.
_Outcome = bytes | CallError | asyncio.CancelledError


class ImageReader:
    """Gives the bytes of one image for a reference; holds nothing that has to be closed.

    Unless `allow_private`, a reference that names a host of its own (other than by http, which `download` judges) is
    refused before anything is opened; unless `allow_local`, so is one that leads to files of this machine.
    """

    def __init__(
        self,
        download: Download,
        *,
        storage_options: Mapping[str, Any] | None = None,
        allow_private: bool = False,
        allow_local: bool = True,
        threads: int = 8,
    ) -> None:
        self._download = download
        self._is_guarded = not allow_private
        self._allow_local = allow_local
        self._storage_options = storage_options or {}
        self._threads = threads
        self._free = asyncio.Semaphore(threads)
        self._hung = 0

    async def read(self, url: str, *, max_bytes: int, timeout: float) -> bytes:
        """The bytes, 1 to `max_bytes` of them.

        Raises a `PermanentError` (NotFound, NotReadable, UnsupportedScheme, AddressNotPublic, ImageTooLarge, NotAFile,
        EmptyFile, or what the download says) or a `TransientError` (ReadTimeout, ReadFailed).
        """
        outcome = await self._fetch(url, max_bytes, timeout)
        if outcome == b"":
            outcome = PermanentError(f"{shown(url)} has 0 bytes", code="EmptyFile")
        del url  # it may be signed, and this frame is in the traceback
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    async def _fetch(self, url: str, max_bytes: int, timeout: float) -> _Outcome:
        try:
            found = SCHEME.match(url)
            if found is not None and found[1].lower() in ("http", "https"):
                return await self._download(url, max_bytes=max_bytes, timeout=timeout)
            if not self._allow_local:
                refused = refusal(url, allow_private=not self._is_guarded, allow_local=False)
                if refused is not None:
                    return refused
            return await self._in_thread(self._work(url, found, max_bytes), url, timeout)
        except asyncio.CancelledError:
            return asyncio.CancelledError()
        except CallError as error:
            return _bare(error)

    def _work(self, url: str, found: re.Match[str] | None, max_bytes: int) -> Callable[[], bytes]:
        """What reads this reference, to be called in a thread."""
        if url[:5].lower() == "data:":
            return lambda: read_data_url(url, max_bytes)
        if found is None or found[1].lower() == "file":
            return lambda: self._read_local(url, max_bytes)
        address = found[1].lower() + url[found.end(1) :]
        return lambda: read_system(address, self._storage_options, max_bytes, is_guarded=self._is_guarded)

    def _read_local(self, url: str, max_bytes: int) -> bytes:
        path = path_of(url)
        if self._is_guarded:
            refuse_other_hosts(path)
        return read_path(path, max_bytes)

    async def _in_thread(self, work: Callable[[], bytes], url: str, timeout: float) -> _Outcome:
        """What `work` gives; after `timeout` seconds its thread is left behind, and only so many may be."""
        if self._hung >= self._threads * _HUNG_PER_THREAD:
            return TransientError(f"{shown(url)} is not read: {self._hung} reads hang already", code="ReadTimeout")
        async with self._free:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[bytes | CallError] = loop.create_future()

            def run() -> None:
                outcome = attempt(work, url)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._settle, done, outcome)

            try:
                threading.Thread(target=run, name="imgtag-read", daemon=True).start()
            except RuntimeError:
                return TransientError(
                    f"{shown(url)} is not read: this system starts no more threads", code="ReadFailed"
                )
            try:
                async with asyncio.timeout(timeout):
                    return await asyncio.shield(done)
            except TimeoutError:
                return TransientError(f"{shown(url)} was not read within {timeout:g} s", code="ReadTimeout")
            finally:
                if not done.done():
                    self._hung += 1
                    done.cancel()

    def _settle(self, done: asyncio.Future[bytes | CallError], outcome: bytes | CallError) -> None:
        if done.cancelled():
            self._hung -= 1
        else:
            done.set_result(outcome)


def _bare(error: CallError) -> CallError:
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def attempt(work: Callable[[], Read], url: str) -> Read | CallError:
    """The bytes or our own error; every library's exception ends here, as it may show credentials."""
    try:
        return work()
    except CallError as error:
        return _bare(error)
    except Exception as error:
        return _failure(error, shown(url))


def _failure(error: Exception, name: str) -> CallError:
    if isinstance(error, FileNotFoundError | NotADirectoryError) or _errno(error) == errno.ENAMETOOLONG:
        return PermanentError(f"there is no file {name}", code="NotFound")
    if isinstance(error, IsADirectoryError):
        return PermanentError(f"{name} is not a file", code="NotAFile")
    if isinstance(error, TimeoutError):
        return TransientError(f"{name} was not read in time", code="ReadTimeout")
    if isinstance(error, PermissionError):
        return PermanentError(f"{name} may not be read by this user", code="NotReadable")
    if isinstance(error, ImportError):
        return PermanentError(f"{name} needs a package that is not installed", code="UnsupportedScheme")
    if isinstance(error, ConnectionError) or _errno(error) in _PASSING:
        return TransientError(f"{name} was not read: {type(error).__name__}", code="ReadFailed")
    if isinstance(error, OSError | ValueError | TypeError):
        return PermanentError(f"{name} cannot be read: {type(error).__name__}", code="NotReadable")
    # What a foreign storage library raises by itself is mostly the network; trying again costs nothing.
    return TransientError(f"{name} was not read: {type(error).__name__}", code="ReadFailed")


def _errno(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None
