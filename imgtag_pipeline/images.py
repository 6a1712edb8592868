"""Reads an image's bytes from where its reference points: a path, file://, data:, http(s), any fsspec file system.

Blocking reads run in a bounded number of daemon threads, so that a file system that hangs costs its own images only.
Errors say which reference failed in redacted form; nothing of a library's own exception leaves.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from imgtag_pipeline.errors import CallError, PermanentError, TransientError
from imgtag_pipeline.urls import redact

Download = Callable[..., Awaitable[bytes]]

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")
_CHAIN: Final = re.compile(r"(?:^|::)([A-Za-z][A-Za-z0-9+.-]*)(?=://|::|$)")
_CHAINED_HTTP: Final = re.compile(r"(?i)::https?:")
_PASSING: Final = frozenset(
    (errno.EIO, errno.EAGAIN, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ECONNRESET)
)
_READ_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)
_HUNG_PER_THREAD: Final = 4

# Returned, not raised, from where the plain reference is at hand: what leaves then holds no frame that shows it.
_Outcome = bytes | CallError | asyncio.CancelledError


class ImageReader:
    """Gives the bytes of one image for a reference; holds nothing that has to be closed."""

    def __init__(
        self, download: Download, *, storage_options: Mapping[str, Any] | None = None, threads: int = 8
    ) -> None:
        self._download = download
        self._storage_options = dict(storage_options or {})
        self._threads = threads
        self._free = asyncio.Semaphore(threads)
        self._hung = 0

    async def read(self, url: str, *, max_bytes: int, timeout: float) -> bytes:
        """The bytes, 1 to `max_bytes` of them.

        Raises a `PermanentError` (NotFound, NotReadable, UnsupportedScheme, ImageTooLarge, NotAFile, EmptyFile, or
        what the download says) or a `TransientError` (ReadTimeout, ReadFailed).
        """
        outcome = await self._fetch(url, max_bytes, timeout)
        if outcome == b"":
            outcome = PermanentError(f"{_shown(url)} has 0 bytes", code="EmptyFile")
        del url  # it may be signed, and this frame is in the traceback
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

    async def _fetch(self, url: str, max_bytes: int, timeout: float) -> _Outcome:
        try:
            if url[:5].lower() == "data:":
                return await self._in_thread(lambda: _data_url(url, max_bytes), url, timeout)
            if url[:5].lower() == "file:" and url[5:6] == "/":
                path = _path_of(url)
                return await self._in_thread(lambda: _read_local(path, max_bytes), url, timeout)
            found = _SCHEME.match(url)
            if found is None:
                return await self._in_thread(lambda: _read_local(url, max_bytes), url, timeout)
            if found[1].lower() in ("http", "https"):
                return await self._download(url, max_bytes=max_bytes, timeout=timeout)
            if _CHAINED_HTTP.search(url):
                raise PermanentError(
                    f"{_shown(url)} chains an http address; give the http or https URL by itself",
                    code="UnsupportedScheme",
                )
            address, options = found[1].lower() + url[found.end(1) :], self._storage_options
            return await self._in_thread(lambda: _read_fsspec(address, options, max_bytes), url, timeout)
        except asyncio.CancelledError:
            return asyncio.CancelledError()
        except CallError as error:
            return _bare(error)

    async def _in_thread(self, work: Callable[[], bytes], url: str, timeout: float) -> _Outcome:
        """What `work` gives; after `timeout` seconds its thread is left behind, and only so many may be."""
        if self._hung >= self._threads * _HUNG_PER_THREAD:
            return TransientError(f"{_shown(url)} is not read: {self._hung} reads hang already", code="ReadTimeout")
        async with self._free:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[bytes | CallError] = loop.create_future()

            def run() -> None:
                outcome = _attempt(work, url)
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(self._settle, done, outcome)

            threading.Thread(target=run, name="imgtag-read", daemon=True).start()
            try:
                async with asyncio.timeout(timeout):
                    return await asyncio.shield(done)
            except TimeoutError:
                return TransientError(f"{_shown(url)} was not read within {timeout:g} s", code="ReadTimeout")
            finally:
                if not done.done():
                    self._hung += 1
                    done.cancel()

    def _settle(self, done: asyncio.Future[bytes | CallError], outcome: bytes | CallError) -> None:
        if done.cancelled():
            self._hung -= 1
        else:
            done.set_result(outcome)


def _shown(url: str) -> str:
    text = url.partition(",")[0] + ",..." if url[:5].lower() == "data:" else redact(url[:4096])
    return repr(text if len(text) <= 200 else text[:200] + "...")


def _bare(error: CallError) -> CallError:
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _attempt(work: Callable[[], bytes], url: str) -> bytes | CallError:
    """The bytes or our own error; every library's exception ends here, as it may show credentials."""
    try:
        return work()
    except CallError as error:
        return _bare(error)
    except Exception as error:
        return _failure(error, _shown(url))


def _failure(error: Exception, shown: str) -> CallError:
    if isinstance(error, FileNotFoundError | NotADirectoryError) or _errno(error) == errno.ENAMETOOLONG:
        return PermanentError(f"there is no file {shown}", code="NotFound")
    if isinstance(error, IsADirectoryError):
        return PermanentError(f"{shown} is not a file", code="NotAFile")
    if isinstance(error, TimeoutError):
        return TransientError(f"{shown} was not read in time", code="ReadTimeout")
    if isinstance(error, PermissionError):
        return PermanentError(f"{shown} may not be read by this user", code="NotReadable")
    if isinstance(error, ImportError):
        return PermanentError(f"{shown} needs a package that is not installed", code="UnsupportedScheme")
    if isinstance(error, ConnectionError) or _errno(error) in _PASSING:
        return TransientError(f"{shown} was not read: {type(error).__name__}", code="ReadFailed")
    if isinstance(error, OSError | ValueError | TypeError):
        return PermanentError(f"{shown} cannot be read: {type(error).__name__}", code="NotReadable")
    # What a foreign storage library raises by itself is mostly the network; trying again costs nothing.
    return TransientError(f"{shown} was not read: {type(error).__name__}", code="ReadFailed")


def _errno(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _too_large(shown: str, max_bytes: int) -> PermanentError:
    return PermanentError(f"{shown} is larger than the {max_bytes} bytes allowed", code="ImageTooLarge")


def _data_url(url: str, max_bytes: int) -> bytes:
    """RFC 2397: data:[type][;base64],content."""
    head, comma, content = url.partition(",")
    if not comma:
        raise PermanentError(f"{_shown(url)} is no data URL: it has no comma", code="NotReadable")
    if len(content) > 4 * max_bytes + 64:  # four characters for one byte are the most that either form takes
        raise _too_large(_shown(url), max_bytes)
    data = unquote_to_bytes(content)
    if head.lower().endswith(";base64"):
        try:
            text = b"".join(data.split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
            data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
        except binascii.Error:
            raise PermanentError(f"{_shown(url)} is not valid base64", code="NotReadable") from None
    if len(data) > max_bytes:
        raise _too_large(_shown(url), max_bytes)
    return data


def _path_of(url: str) -> str:
    """The path of file:/p, file:///p and file://localhost/p; `?` and `#` are part of the name, as in a shell."""
    rest = url[5:]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host.lower() not in ("", "localhost"):
            raise PermanentError(f"{_shown(url)} is on another host; only file:///path is read", code="NotReadable")
        rest = slash + path
    return os.fsdecode(unquote_to_bytes(rest))


def _read_local(path: str, max_bytes: int) -> bytes:
    shown = _shown(path)
    try:
        facts = os.stat(path)
    except ValueError as error:  # a NUL or a lone surrogate: no file has such a name
        raise FileNotFoundError from error
    if not stat.S_ISREG(facts.st_mode):  # a device or a pipe may have no end, or be changed by opening it
        raise PermanentError(f"{shown} is not a regular file", code="NotAFile")
    if facts.st_size > max_bytes:
        raise _too_large(shown, max_bytes)
    with open(os.open(path, _READ_FLAGS), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise PermanentError(f"{shown} is not a regular file", code="NotAFile")
        data = bytearray()
        while piece := file.read(min(max_bytes + 1 - len(data), max(facts.st_size + 1, 1 << 16))):
            data += piece
    if len(data) > max_bytes:
        raise _too_large(shown, max_bytes)
    return bytes(data)


def _read_fsspec(url: str, options: Mapping[str, Any], max_bytes: int) -> bytes:
    shown = _shown(url)
    system, path = _open_system(url, options)
    facts = system.info(path)
    if facts.get("type", "file") != "file":
        raise PermanentError(f"{shown} is not a file", code="NotAFile")
    size = facts.get("size")
    if isinstance(size, int) and size > max_bytes:
        raise _too_large(shown, max_bytes)
    if isinstance(size, int):
        data = system.cat_file(path)
    else:
        with system.open(path, "rb") as file:
            data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise _too_large(shown, max_bytes)
    return bytes(data)


def _open_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    from fsspec import get_filesystem_class
    from fsspec.core import url_to_fs

    for scheme in _CHAIN.findall(url):
        try:
            get_filesystem_class(scheme)
        except ImportError:
            raise _missing_package(_shown(url), scheme) from None
        except ValueError:
            raise PermanentError(
                f"{_shown(url)} has the unknown scheme {scheme!r}; images are read from paths, file://, data:, http(s) "
                "and the schemes of fsspec (s3, gs, oss, ...)",
                code="UnsupportedScheme",
            ) from None
    system, path = url_to_fs(url, **options)
    return system, str(path)


def _missing_package(shown: str, scheme: str) -> PermanentError:
    from fsspec.registry import known_implementations

    advice = known_implementations.get(scheme, {}).get("err") or f"install the package that provides {scheme!r}"
    return PermanentError(f"{shown} needs a package that is not installed: {advice}", code="UnsupportedScheme")
