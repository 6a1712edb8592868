"""Reading an image from every kind of reference, and what is said when that does not work."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import pickle
import socket
import threading
import traceback
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from imgtag_pipeline.errors import CallError, PermanentError, RefusedHereError, TransientError
from imgtag_pipeline.images import ImageReader
from imgtag_pipeline.images.local import path_of, refuse_other_hosts

PIXELS = b"\x89PNG pixels"
CANARY = "CANARYab12cd34"


class Faulty(MemoryFileSystem):
    """A file system that fails as the name of the file says, or holds it until it is let go."""

    protocol = "faulty"
    cachable = False
    gate = threading.Event()

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        name = path.rsplit("/", 1)[-1]
        errors: dict[str, Exception] = {
            "timeout": TimeoutError(CANARY),
            "reset": ConnectionResetError(CANARY),
            "busy": OSError(5, CANARY),
            "denied": PermissionError(CANARY),
            "strange": RuntimeError(CANARY),
            "type": TypeError(CANARY),
        }
        if name in errors:
            raise errors[name]
        if name == "hangs":
            self.gate.wait(20)
        known = {"unsized": None, "lies": 1}
        return {"name": path, "type": "other" if name == "device" else "file", "size": known.get(name, len(PIXELS))}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        return PIXELS

    def _open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        return io.BytesIO(PIXELS)


fsspec.register_implementation("faulty", Faulty, clobber=True)


async def no_download(url: str, *, max_bytes: int, timeout: float) -> bytes:
    raise AssertionError("nothing should be downloaded")


@pytest.fixture
def reader() -> ImageReader:
    """A reader without a network, that refuses no host."""
    return ImageReader(no_download, allow_private=True)


@pytest.fixture
def guarded() -> ImageReader:
    """A reader as a run has it when nothing else is said."""
    return ImageReader(no_download)


async def read(reader: ImageReader, url: str, *, max_bytes: int = 1000, timeout: float = 5) -> bytes:
    return await reader.read(url, max_bytes=max_bytes, timeout=timeout)


async def failure(reader: ImageReader, url: str, *, max_bytes: int = 1000, timeout: float = 5) -> CallError:
    with pytest.raises(CallError) as caught:
        await read(reader, url, max_bytes=max_bytes, timeout=timeout)
    assert caught.value.billing == "no"
    return caught.value


NAMES = [
    "a.png",
    "a b.png",
    "图.png",
    "a%20b.png",
    "a#b?c=d&e.png",
    "~a.png",
    "a::b.png",
    "data.png",
    "100%.png",
    "a\nb.png",
]


@pytest.mark.parametrize("name", NAMES)
async def test_path_is_taken_literally(reader: ImageReader, tmp_path: Path, name: str) -> None:
    """A local name may hold any character; nothing in it is decoded."""
    (tmp_path / name).write_bytes(PIXELS)
    assert await read(reader, str(tmp_path / name)) == PIXELS


@pytest.mark.parametrize("start", ["file://", "file://localhost", "file:", "FILE://", "file://LocalHost"])
@pytest.mark.parametrize("name", ["a.png", "a b.png", "图.png", "a%20b.png", "a#b?c.png"])
async def test_file_url_is_decoded_once(reader: ImageReader, tmp_path: Path, start: str, name: str) -> None:
    """file: is read in the forms that browsers and pathlib write."""
    (tmp_path / name).write_bytes(PIXELS)
    assert await read(reader, start + urllib.parse.quote(str(tmp_path / name))) == PIXELS


async def test_pathlib_uri_is_read(reader: ImageReader, tmp_path: Path) -> None:
    """What `Path.as_uri` gives is understood."""
    (tmp_path / "图 %.png").write_bytes(PIXELS)
    assert await read(reader, (tmp_path / "图 %.png").as_uri()) == PIXELS


async def test_name_that_is_no_text_is_read(reader: ImageReader, tmp_path: Path) -> None:
    """Old file names with bytes that are no UTF-8 are reachable by file:// and by Python's spelling."""
    path = os.fsencode(tmp_path) + b"/\xff.png"
    Path(os.fsdecode(path)).write_bytes(PIXELS)
    assert await read(reader, "file://" + urllib.parse.quote(path)) == PIXELS
    assert await read(reader, os.fsdecode(path)) == PIXELS


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + base64.b64encode(PIXELS).decode(),
        "DATA:;BASE64," + base64.b64encode(PIXELS).decode().rstrip("="),
        "data:image/png;base64," + urllib.parse.quote(base64.b64encode(PIXELS).decode(), safe=""),
        "data:image/png;base64," + base64.urlsafe_b64encode(PIXELS).decode(),
        "data:image/png," + urllib.parse.quote(PIXELS),
    ],
)
async def test_data_url_is_decoded(reader: ImageReader, url: str) -> None:
    """data: in base64, with and without padding and escapes, and percent-escaped."""
    assert await read(reader, url) == PIXELS


async def test_memory_url_is_read(reader: ImageReader) -> None:
    """Any fsspec file system serves; memory:// needs nothing installed."""
    fsspec.filesystem("memory").pipe_file("/box/a b#1.png", PIXELS)
    assert await read(reader, "memory://box/a b#1.png") == PIXELS
    assert await read(reader, "MEMORY://box/a b#1.png") == PIXELS


async def test_chained_url_is_read(reader: ImageReader, tmp_path: Path) -> None:
    """A member of an archive is an image like any other."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("dir/a.png", PIXELS)
    assert await read(reader, f"zip://dir/a.png::{tmp_path}/a.zip") == PIXELS


async def test_unsized_file_is_read_up_to_the_cap(reader: ImageReader) -> None:
    """A file system that does not know a file's size is read no further than one byte past the cap."""
    assert await read(reader, "faulty://x/unsized") == PIXELS
    assert (await failure(reader, "faulty://x/unsized", max_bytes=3)).code == "ImageTooLarge"


@pytest.mark.parametrize("url", ["http://h/a.png", "https://h/a.png?Signature=1", "HTTP://h/a.png"])
async def test_web_address_is_downloaded(url: str) -> None:
    """http and https go to the download, unchanged, with cap and time."""
    asked = []

    async def download(url: str, *, max_bytes: int, timeout: float) -> bytes:
        asked.append((url, max_bytes, timeout))
        return PIXELS

    assert await read(ImageReader(download), url, max_bytes=7, timeout=3) == PIXELS
    assert asked == [(url, 7, 3)]


# --- what does not work -----------------------------------------------------------------------------------------


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of things that are no images."""
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(b"x" * 1001)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    fsspec.filesystem("memory").pipe_file("/odd/empty", b"")
    fsspec.filesystem("memory").pipe_file("/odd/large", b"x" * 1001)
    fsspec.filesystem("memory").makedirs("/odd/folder", exist_ok=True)
    return tmp_path


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("{odd}/missing.png", "NotFound"),
        ("{odd}/empty/below.png", "NotFound"),
        ("{odd}/dangling", "NotFound"),
        ("{odd}/nul\0byte", "NotFound"),
        ("{odd}/lone\ud800surrogate", "NotFound"),
        ("{odd}/" + "x" * 5000, "NotFound"),
        ("www.example.com/a.png", "NotFound"),
        ("mailto:a@b", "NotFound"),
        ("{odd}/empty", "EmptyFile"),
        ("{odd}/large", "ImageTooLarge"),
        ("{odd}/folder", "NotAFile"),
        ("{odd}/pipe", "NotAFile"),
        ("{odd}/zero", "NotAFile"),
        ("{odd}/loop", "NotReadable"),
        ("/dev/zero", "NotAFile"),
        ("/dev/stdin", "NotAFile"),
        ("file://{odd}/missing.png", "NotFound"),
        ("file://{odd}/pipe", "NotAFile"),
        ("file://otherhost/a.png", "NotReadable"),
        ("local://{odd}/pipe", "NotAFile"),
        ("local:///dev/zero", "NotAFile"),
        ("memory://odd/missing", "NotFound"),
        ("memory://odd/empty", "EmptyFile"),
        ("memory://odd/large", "ImageTooLarge"),
        ("memory://odd/folder", "NotAFile"),
        ("faulty://x/device", "NotAFile"),
        ("faulty://x/denied", "NotReadable"),
        ("faulty://x/type", "NotReadable"),
        ("data:image/png;base64,", "EmptyFile"),
        ("data:image/png;base64,!!!", "NotReadable"),
        ("data:image/png", "NotReadable"),
        ("data:," + "x" * 1001, "ImageTooLarge"),
        ("data:;base64," + "A" * 2000, "ImageTooLarge"),
        ("data:," + "x" * 100_000, "ImageTooLarge"),
        ("gopher://h/a.png", "UnsupportedScheme"),
        ("://a.png", "NotFound"),
        ("simplecache::http://h/a.png", "UnsupportedScheme"),
        ("simplecache::nosuch://h/a.png", "UnsupportedScheme"),
    ],
)
async def test_image_that_cannot_be_read(reader: ImageReader, odd: Path, url: str, code: str) -> None:
    """Each way to be no readable image has its own name, is final, and neither hangs nor fills memory."""
    error = await failure(reader, url.replace("{odd}", str(odd)))
    assert isinstance(error, PermanentError)
    assert error.code == code


async def test_unreadable_file_is_told(reader: ImageReader, tmp_path: Path) -> None:
    """A file without permission says so."""
    path = tmp_path / "secret.png"
    path.write_bytes(PIXELS)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read everything")
    assert (await failure(reader, str(path))).code == "NotReadable"


@pytest.mark.parametrize(
    ("name", "code"),
    [("timeout", "ReadTimeout"), ("reset", "ReadFailed"), ("busy", "ReadFailed"), ("strange", "ReadFailed")],
)
async def test_passing_failure_is_worth_another_try(reader: ImageReader, name: str, code: str) -> None:
    """What a network file system says in a bad moment is not held against the image."""
    error = await failure(reader, f"faulty://x/{name}")
    assert isinstance(error, TransientError)
    assert error.code == code


async def test_size_is_checked_before_reading(reader: ImageReader, tmp_path: Path) -> None:
    """A file that is too large is not read at all: this one would take 4 TB."""
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(4 << 40)
    assert (await failure(reader, str(path), max_bytes=1 << 30)).code == "ImageTooLarge"


async def test_file_that_grew_is_still_capped(reader: ImageReader) -> None:
    """A size that was not true does not let more than the cap through."""
    assert (await failure(reader, "faulty://x/lies", max_bytes=5)).code == "ImageTooLarge"


class Counting(MemoryFileSystem):
    """A file system that says a file has 5 bytes when it has a million, and remembers how far it was read."""

    protocol = "counting"
    cachable = False
    asked: tuple[int | None, int | None] = (None, None)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": 5}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        Counting.asked = (start, end)
        return (b"x" * 1_000_000)[start:end]


fsspec.register_implementation("counting", Counting, clobber=True)


async def test_no_more_is_asked_of_a_store_than_one_byte_past_the_cap(reader: ImageReader) -> None:
    """An object that is replaced by a larger one after its size was asked does not fill memory."""
    assert (await failure(reader, "counting://x/a.png", max_bytes=100)).code == "ImageTooLarge"
    assert Counting.asked == (0, 101)


async def test_file_that_grows_while_it_is_read_is_capped(reader: ImageReader) -> None:
    """A special file that says 0 bytes and goes on is read to the cap only."""
    path = "/proc/kallsyms"
    if not os.access(path, os.R_OK):
        pytest.skip("there is no such file on this system")
    assert os.stat(path).st_size == 0
    assert (await failure(reader, path, max_bytes=100_000)).code == "ImageTooLarge"


@pytest.mark.parametrize("scheme", ["s3", "smb", "gdrive", "oci"])
async def test_missing_package_is_named(reader: ImageReader, scheme: str) -> None:
    """A scheme that fsspec knows but whose package is missing says which one to install."""
    protocol = known_implementations[scheme]["class"].split(".")[0]
    try:
        __import__(protocol)
    except ImportError:
        error = await failure(reader, f"{scheme}://box/a.png")
        assert error.code == "UnsupportedScheme"
        assert "install" in str(error).lower()
    else:
        pytest.skip(f"{protocol} is installed")


@pytest.mark.parametrize("url", ["faulty://u:{c}@x/{name}?Signature={c}&OSSAccessKeyId={c}", "faulty://x/{name}"])
@pytest.mark.parametrize("name", ["timeout", "reset", "busy", "denied", "strange", "type", "hangs", "lies"])
async def test_error_tells_no_secret(url: str, name: str) -> None:
    """Neither credentials in the options, nor a signature in the reference, nor a library's own words get out."""
    reader = ImageReader(no_download, storage_options={"key": CANARY, "secret": CANARY}, allow_private=True)
    Faulty.gate.clear()
    with pytest.raises(CallError) as caught:
        await read(reader, url.format(c=CANARY, name=name), max_bytes=5, timeout=0.02 if name == "hangs" else 5)
    Faulty.gate.set()
    error = caught.value
    assert error.__cause__ is error.__context__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = str([(frame.filename, frame.locals) for frame in told.stack if frame.filename != __file__])
    assert CANARY not in frames + str(error) + repr(error) + repr(pickle.loads(pickle.dumps(error)).__dict__) + repr(
        reader
    )


async def test_error_of_a_download_tells_no_secret() -> None:
    """The reader adds no frame that shows the address."""

    async def download(url: str, *, max_bytes: int, timeout: float) -> bytes:
        del url
        raise PermanentError("the image's server answered 404", code="HTTP404")

    with pytest.raises(PermanentError) as caught:
        await read(ImageReader(download), f"http://h/a?Signature={CANARY}&OSSAccessKeyId={CANARY}")
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert caught.value.code == "HTTP404"
    assert CANARY not in str([frame.locals for frame in told.stack if frame.filename != __file__])


# --- hosts that a row names ------------------------------------------------------------------------------------

HOST_IN_THE_REFERENCE = [
    "ftp://{inside}/a.png",
    "FTP://{inside}/a.png",
    "sftp://{inside}/a.png",
    "ssh://{inside}/a.png",
    "smb://{inside}/share/a.png",
    "hdfs://{inside}/a.png",
    "zip://a.png::arrow_hdfs://{inside}/a.zip",
    "webhdfs://{inside}/a.png",
    "webdav://{inside}/a.png",
    "github://o:r@main/a.png",
    "gist://0123/a.png",
    "git://{inside}/a.png",
    "jupyter://{inside}/a.png",
    "jlab://{inside}/a.png",
    "dask://{inside}/a.png",
    "dbfs://{inside}/a.png",
    "lakefs://{inside}/a.png",
    "root://{inside}//a.png",
    "reference://a.png",
    "generic://ftp://{inside}/a.png",
    "dir::ftp://{inside}/a.png",
    "dir://a.png::ftp://{inside}/",
    "cached::ftp://{inside}/a.png",
    "simplecache::ftp://{inside}/a.png",
    "filecache::sftp://{inside}/a.png",
    "blockcache::smb://{inside}/a.png",
    "zip://a.png::ftp://{inside}/a.zip",
    "tar://a.png::ftp://{inside}/a.tar",
    "zip://a.png::simplecache::ftp://{inside}/a.zip",
    "zip://a.png::zip://b.zip::ftp://{inside}/a.zip",
    "memory://a.png::ftp://{inside}/a.zip",
    "s3://bucket/a.zip::ftp://{inside}/a.zip",
    "reference::ftp://{inside}/a.json",
    "libarchive://a.png::ftp://{inside}/a.rar",
    "github::ftp://{inside}/a.png",
    "zip://a.png::github",
    "faulty://{inside}/a.png",
    "s3://{inside}/a.png",
    "s3://user:secret@{inside}/a.png",
    "s3://[::1]/a.png",
    "s3://arn:aws:s3:r:1:accesspoint/a.png",
    "s3://%31/a.png",
    "s3://?endpoint={inside}",
    "s3:///{inside}/a.png",
    "s3://..\\{inside}/a.png",
    "oss://{inside}/bucket/a.png",
    "oss://http://{inside}/bucket/a.png",
    "oss://https://{inside}/bucket/a.png",
    "oss://key:secret@{inside}/bucket/a.png",
    "gs://{inside}/a.png",
    "gs://http://{inside}/a.png",
    "gcs://@{inside}/a.png",
    "az://container@{inside}/a.png",
    "abfs://container@account.dfs.core.windows.net/a.png",
    "abfs://container@{inside}/a.png",
    "adl://{inside}/a.png",
    "zip://a.png::s3://{inside}/a.zip",
    "simplecache::oss://http://{inside}/bucket/a.png",
    "\\\\{host}\\share\\a.png",
    "\\\\?\\UNC\\{host}\\share\\a.png",
    "local://\\\\{host}\\share\\a.png",
    "zip://a.png::\\\\{host}\\share\\a.zip",
    "zip://a.png::file://\\\\{host}\\share\\a.zip",
]


@pytest.mark.parametrize("url", HOST_IN_THE_REFERENCE)
async def test_host_that_a_row_names_is_not_connected_to(guarded: ImageReader, url: str) -> None:
    """Where a reference itself chooses the host, nothing is opened, and the row says what would allow it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inside = f"127.0.0.1:{listener.getsockname()[1]}"
        error = await failure(guarded, url.replace("{inside}", inside).replace("{host}", "127.0.0.1"))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert isinstance(error, RefusedHereError), error
    assert error.code == "AddressNotPublic"
    assert "allow_private=True (--allow-private)" in str(error)


@pytest.mark.parametrize(
    "url",
    ["simplecache::http://{inside}/a", "zip://a::HTTPS://{inside}/a.zip", "zip://a::simplecache::http://{inside}/a"],
)
@pytest.mark.parametrize("allow", [False, True])
async def test_web_address_in_a_chain_is_not_fetched(url: str, *, allow: bool) -> None:
    """fsspec would fetch it by itself, past guard, cap and redaction; this is refused whatever is allowed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        inside = f"127.0.0.1:{listener.getsockname()[1]}"
        error = await failure(ImageReader(no_download, allow_private=allow), url.replace("{inside}", inside))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert error.code == "UnsupportedScheme"


async def test_host_of_a_row_is_connected_to_where_it_is_allowed(reader: ImageReader) -> None:
    """Without the guard the same reference leads there, so the refusals above mean something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        inside = f"127.0.0.1:{listener.getsockname()[1]}"
        reading = asyncio.create_task(failure(reader, f"ftp://{inside}/a.png", timeout=5))
        connection, _ = await asyncio.to_thread(listener.accept)
        connection.close()
        assert (await reading).billing == "no"


@pytest.mark.parametrize("chain", ["zip://dir/a.png::{archive}", "zip://dir/a.png::file://{archive}"])
async def test_archive_on_this_machine_needs_no_leave(guarded: ImageReader, tmp_path: Path, chain: str) -> None:
    """Paths, archives and memory name no host."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("dir/a.png", PIXELS)
    fsspec.filesystem("memory").pipe_file("/box/a.zip", (tmp_path / "a.zip").read_bytes())
    assert await read(guarded, chain.replace("{archive}", f"{tmp_path}/a.zip")) == PIXELS
    assert await read(guarded, "zip://dir/a.png::memory://box/a.zip") == PIXELS
    assert await read(guarded, "simplecache::zip://dir/a.png::memory://box/a.zip") == PIXELS


@pytest.mark.parametrize(
    ("path", "is_refused"),
    [
        ("\\\\host\\share\\a.png", True),
        ("//host/share/a.png", True),
        ("\\/host/share/a.png", True),
        ("/\\host/share/a.png", True),
        ("\\\\.\\pipe\\a", True),
        ("C:\\a.png", False),
        ("\\a.png", False),
        ("/a.png", False),
        ("a\\\\b.png", False),
    ],
)
def test_windows_network_path_is_a_host(path: str, *, is_refused: bool) -> None:
    """On Windows both slashes mark a network path; there the system logs in with the user's own password hash."""
    expected = pytest.raises(RefusedHereError) if is_refused else contextlib.nullcontext()
    with expected:
        refuse_other_hosts(path, is_windows=True)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///C:/a%20b.png", "C:/a b.png"),
        ("file://localhost/c%3A/a.png", "c:/a.png"),
        ("file:/C:/a.png", "C:/a.png"),
        ("file:////host/share/a.png", "//host/share/a.png"),
    ],
)
def test_file_url_with_a_drive(url: str, path: str) -> None:
    """What `Path.as_uri` gives on Windows names a drive; what names a host is refused later."""
    assert path_of(url, is_windows=True) == path


@pytest.mark.parametrize("name", ["pipe", "zero"])
async def test_archive_that_never_ends_is_not_opened(guarded: ImageReader, odd: Path, name: str) -> None:
    """A pipe or a device in place of an archive would hold its reader for ever."""
    assert (await failure(guarded, f"zip://a.png::{odd}/{name}")).code == "NotAFile"
    assert (await failure(guarded, f"tar://a.png::file://{odd}/{name}")).code == "NotAFile"


# --- time and threads -------------------------------------------------------------------------------------------


@pytest.fixture
def stuck() -> Any:
    """A file system that hangs until the test ends."""
    Faulty.gate.clear()
    yield "faulty://x/hangs"
    Faulty.gate.set()


async def test_hanging_file_system_times_out(reader: ImageReader, stuck: str) -> None:
    """A read that does not come back is given up, and the next one is not held up."""
    error = await failure(reader, stuck, timeout=0.02)
    assert isinstance(error, TransientError)
    assert error.code == "ReadTimeout"
    assert await read(reader, "data:,x") == b"x"


async def test_hanging_reads_are_bounded(stuck: str) -> None:
    """Threads that hang are counted; past the bound no further one is started."""
    reader = ImageReader(no_download, threads=2, allow_private=True)
    before = threading.active_count()
    errors = [await failure(reader, stuck, timeout=0.005) for _ in range(20)]
    assert {error.code for error in errors} == {"ReadTimeout"}
    assert threading.active_count() - before <= 8


async def test_recovered_file_system_is_read_again(stuck: str) -> None:
    """When the hanging reads come back, their places are free again."""
    reader = ImageReader(no_download, threads=1, allow_private=True)
    for _ in range(4):
        await failure(reader, stuck, timeout=0.005)
    assert "hang already" in str(await failure(reader, "data:,x"))
    Faulty.gate.set()
    for thread in threading.enumerate():
        if thread.name == "imgtag-read":
            thread.join()
    await asyncio.sleep(0)
    assert await read(reader, "data:,x") == b"x"


async def test_reads_at_once_are_bounded(tmp_path: Path) -> None:
    """However many images are asked for, only so many threads read."""
    (tmp_path / "a.png").write_bytes(PIXELS)
    reader = ImageReader(no_download, threads=3)
    before, peak = threading.active_count(), 0

    async def one() -> None:
        nonlocal peak
        assert await read(reader, str(tmp_path / "a.png")) == PIXELS
        peak = max(peak, threading.active_count())

    await asyncio.gather(*(one() for _ in range(200)))
    assert peak - before <= 3


async def test_cancelled_read_stays_cancelled(reader: ImageReader, stuck: str) -> None:
    """Cancelling does not wait for the thread."""
    task = asyncio.create_task(read(reader, stuck))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
