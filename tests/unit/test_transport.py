"""The transport against servers on loopback that speak raw bytes: what arrives, what a failure says, what it hides."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import socket
import struct
import subprocess
import sys
import traceback
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from imgtag_pipeline.errors import CallError, PermanentError, TransientError
from imgtag_pipeline.model import Reply, Request
from imgtag_pipeline.transport.guard import Guard
from imgtag_pipeline.transport.http import Transport

CANARY = "CANARYab12cd34"
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Accepts connections on loopback, keeps what it was sent, and lets a function answer each request."""

    def __init__(self) -> None:
        self.url = ""
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.answer: Answer = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.heads.append(head)
                fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                self.bodies.append(await reader.readexactly(int(fields.get(b"Content-Length", b"0"))))
                await self.answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def says(*pieces: bytes) -> Answer:
    """Send the pieces and keep the connection."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


def says_and_closes(*pieces: bytes) -> Answer:
    """Send the pieces, then end the connection in the ordinary way."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(reader, writer)
        writer.close()

    return answer


def says_and_resets(*pieces: bytes) -> Answer:
    """Send the pieces, then reset the connection (RST)."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(reader, writer)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return answer


async def trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that grows by one byte a moment and never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1\r\nx\r\n")
        await writer.drain()
        await asyncio.sleep(0.005)


async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A chunked body without end, as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"2000\r\n" + b"x" * 0x2000 + b"\r\n")
        await writer.drain()


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Nothing at all, until the client goes."""
    await reader.read()


def body(content: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """A reply with status 200."""
    count = len(content) if length is None else length
    lines = (b"HTTP/1.1 200 OK", b"Content-Length: %d" % count, *headers)
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def packed(content: bytes, *, encoding: bytes = b"gzip") -> bytes:
    """A reply whose content is said to be compressed."""
    return body(content, b"Content-Encoding: " + encoding)


def raw_deflate(content: bytes) -> bytes:
    """A deflate stream without zlib's header, as some servers send it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server; its address is in `server.url`."""
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    yield server
    listener.close()


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """An open transport that is impatient with connections."""
    async with Transport(connect_timeout=0.1, allow_private=True) as transport:
        yield transport


def signed(url: str, *, method: str = "GET", content: bytes = b"") -> Request:
    """A request with secrets in its query and in its header."""
    query = (("Signature", CANARY + "sig+/="), ("OSSAccessKeyId", CANARY + "id"))
    return Request(method, url, query, (("Authorization", f"OSS {CANARY}:{CANARY}"),), content)


async def send(transport: Transport, url: str, **options: float) -> Reply:
    return await transport.send(signed(url), timeout=options.get("timeout", 5), max_bytes=100_000)


async def failure(work: Awaitable[object]) -> CallError:
    with pytest.raises(CallError) as caught:
        await work
    return caught.value


def assert_tells_no_secret(error: BaseException) -> None:
    """Neither the error, its chain, its traceback with locals (outside this file) nor its pickle shows the canary."""
    assert error.__cause__ is None
    assert error.__context__ is None
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in told.stack if frame.filename != __file__]
    texts = [f"{frame.filename} {frame.line} {frame.locals}" for frame in frames]
    assert texts, "the traceback shows where it came from"
    copy = pickle.loads(pickle.dumps(error))
    for text in (*texts, str(error), repr(error), repr(vars(error)), str(copy), repr(vars(copy))):
        assert CANARY not in text
    assert CANARY.encode() not in pickle.dumps(error)


# --- what is sent -----------------------------------------------------------------------------------------------


async def test_query_is_escaped_exactly_once(server: Server, transport: Transport) -> None:
    """Every character outside A-Z a-z 0-9 - _ . ~ is escaped, once; the path stays as it was given."""
    query = (("x-oss-process", "image/labels,thr_85"), ("a b", "ü%20+&=~-_."), ("empty", ""))
    await transport.send(Request("GET", f"{server.url}/a%2Fb/../c+d", query), timeout=5, max_bytes=100)
    target = server.heads[0].split(b" ")[1]
    assert target == (b"/a%2Fb/../c+d?x-oss-process=image%2Flabels%2Cthr_85&a%20b=%C3%BC%2520%2B%26%3D~-_.&empty=")


async def test_headers_go_as_given_and_none_is_invented(server: Server, transport: Transport) -> None:
    """The signature covers headers, so only Host, Accept-Encoding, User-Agent and the length are added."""
    headers = (("Host", "bkt.example:80"), ("x-acs-action", "TaggingImage"))
    await transport.send(Request("POST", server.url, (), headers, b"a=b"), timeout=5, max_bytes=100)
    names = {line.split(b":")[0].lower() for line in server.heads[0].split(b"\r\n")[1:-2]}
    assert names == {b"host", b"x-acs-action", b"accept-encoding", b"user-agent", b"content-length"}
    assert b"Host: bkt.example:80\r\n" in server.heads[0]
    assert b"Accept-Encoding: gzip, deflate\r\n" in server.heads[0]


async def test_own_accept_encoding_and_agent_win(server: Server, transport: Transport) -> None:
    """What the request names itself is not doubled."""
    headers = (("accept-encoding", "identity"), ("user-agent", "me"))
    await transport.send(Request("GET", server.url, (), headers), timeout=5, max_bytes=100)
    assert server.heads[0].lower().count(b"accept-encoding") == 1
    assert server.heads[0].lower().count(b"user-agent") == 1


@pytest.mark.parametrize("size", [0, 10, 700_000])
async def test_body_arrives_whole(server: Server, transport: Transport, size: int) -> None:
    """Small bodies go at once and large ones in pieces, both with their length."""
    await transport.send(Request("POST", server.url, body=b"x" * size), timeout=5, max_bytes=100)
    assert len(server.bodies[0]) == size
    assert f"Content-Length: {size}\r\n".encode() in server.heads[0]


async def test_cookies_are_not_kept(server: Server, transport: Transport) -> None:
    """A cookie that a server sets does not come back to it."""
    server.answer = says(body(b"ok", b"Set-Cookie: a=b"))
    await send(transport, server.url)
    await send(transport, server.url)
    assert b"cookie" not in server.heads[1].lower()


async def test_redirect_is_an_answer(server: Server, transport: Transport) -> None:
    """A signed request is not sent on to another place."""
    server.answer = says(b"HTTP/1.1 302 Found\r\nLocation: /else\r\nContent-Length: 0\r\n\r\n")
    reply = await send(transport, server.url)
    assert (reply.status, len(server.heads)) == (302, 1)


async def test_own_length_is_not_doubled(server: Server, transport: Transport) -> None:
    """A provider that counts its body itself does not make the request ambiguous."""
    request = Request("POST", server.url, (), (("Content-Length", "3"),), b"a=b")
    await transport.send(request, timeout=5, max_bytes=100)
    assert server.heads[0].lower().count(b"content-length") == 1
    assert server.bodies == [b"a=b"]


async def test_user_info_becomes_the_header(server: Server, transport: Transport) -> None:
    """A URL with a name and a password signs in as browsers do, and its target does not repeat them."""
    await transport.send(Request("GET", server.url.replace("//", "//me:a%20b@")), timeout=5, max_bytes=100)
    assert b"Authorization: Basic bWU6YSBi\r\n" in server.heads[0]
    assert server.heads[0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"@" not in server.heads[0]


async def test_connections_are_kept(server: Server, transport: Transport) -> None:
    """Calls one after the other share a connection, whatever their path; so do calls and their failures by status."""
    peers = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        await says(b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno")(reader, writer)

    server.answer = answer
    for path in ("/a", "/b", "/c"):
        await send(transport, server.url + path)
    assert (len(server.heads), len(peers)) == (3, 1)


async def unread(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse an upload by its head and read no further; returns when the client has closed the connection."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
    with suppress(ConnectionError):
        while True:
            await asyncio.sleep(0.01)
            writer.write(b" ")
            await writer.drain()


async def test_answer_may_come_before_a_large_body_is_sent(transport: Transport) -> None:
    """A server that refuses an upload by its head is heard; the connection, half written, is closed at once."""
    closed: asyncio.Queue[None] = asyncio.Queue()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await unread(reader, writer)
        closed.put_nowait(None)

    listener = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=1 << 10)
    request = Request("POST", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", body=b"x" * (30 << 20))
    for _ in range(2):
        reply = await transport.send(request, timeout=5, max_bytes=100)
        assert (reply.status, reply.body) == (413, b"no")
        await asyncio.wait_for(closed.get(), 5)
    listener.close()


async def test_an_upload_that_is_not_taken_leaves_no_connection(transport: Transport) -> None:
    """After the time-out the connection is gone, though the server never took what was to be sent."""
    closed = asyncio.Event()

    async def deaf(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(0.01)
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                await writer.drain()
        closed.set()

    listener = await asyncio.start_server(deaf, "127.0.0.1", 0, limit=1 << 10)
    request = Request("POST", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", body=b"x" * (30 << 20))
    error = await failure(transport.send(request, timeout=0.2, max_bytes=100))
    assert (error.code, error.billing) == ("ReadTimeout", "unknown")
    await asyncio.wait_for(closed.wait(), 5)
    listener.close()


# --- what comes back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(body(b"five tags"), id="plain"),
        pytest.param(packed(b"five tags", encoding=b"identity"), id="identity"),
        pytest.param(packed(gzip.compress(b"five tags")), id="gzip"),
        pytest.param(packed(gzip.compress(b"five tags"), encoding=b"X-GZIP"), id="x-gzip"),
        pytest.param(packed(gzip.compress(b"five") + gzip.compress(b" tags")), id="gzip in two members"),
        pytest.param(packed(gzip.compress(b"five tags") + b"\0" * 20), id="gzip with padding"),
        pytest.param(packed(zlib.compress(b"five tags"), encoding=b"deflate"), id="deflate"),
        pytest.param(packed(raw_deflate(b"five tags"), encoding=b"deflate"), id="deflate without header"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfive \r\n4\r\ntags\r\n0\r\n\r\n", id="chunked"
        ),
        pytest.param(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfive tags", id="until the end"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + body(b"five tags"), id="after a 100"),
    ],
)
async def test_body_is_decoded(server: Server, transport: Transport, answer: bytes) -> None:
    """Whatever the framing and the compression, the reply has the content."""
    server.answer = (says_and_closes if b"close" in answer else says)(answer)
    assert (await send(transport, server.url)).body == b"five tags"


async def test_gzip_in_single_bytes_is_decoded(server: Server, transport: Transport) -> None:
    """Where the pieces of a compressed body are cut does not matter."""
    content = gzip.compress(b"five") + gzip.compress(b" tags")
    chunks = [b"1\r\n" + content[at : at + 1] + b"\r\n" for at in range(len(content))]
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.answer = says(head, *chunks, b"0\r\n\r\n")
    assert (await send(transport, server.url)).body == b"five tags"


async def test_headers_are_lower_case_text(server: Server, transport: Transport) -> None:
    """Names are lower case, repeated ones are joined, and bytes that are no UTF-8 become replacement characters."""
    server.answer = says(body(b"", b"X-Request-ID: r1", b"Vary: a", b"Vary: b", b"X-Odd: \xff"))
    reply = await send(transport, server.url)
    assert reply.headers["x-request-id"] == "r1"
    assert reply.headers["vary"] == "a, b"
    assert reply.headers["x-odd"] == "\ufffd"


async def test_every_status_is_a_reply(server: Server, transport: Transport) -> None:
    """What a status means is the provider's to say."""
    server.answer = says(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait")
    reply = await send(transport, server.url)
    assert (reply.status, reply.body) == (503, b"wait")


# --- what can fail ----------------------------------------------------------------------------------------------

BOMB = gzip.compress(b"\0" * 50_000_000)
FAILURES = {
    "silent": (silence, "ReadTimeout"),
    "endless trickle": (trickle, "ReadTimeout"),
    "closed without a byte": (says_and_closes(), "ConnectionReset"),
    "reset without a byte": (says_and_resets(), "ConnectionReset"),
    "reset in the head": (says_and_resets(b"HTTP/1.1 200 OK\r\nContent-"), "ConnectionReset"),
    "closed in the head": (says_and_closes(b"HTTP/1.1 200 OK\r\nContent-"), "ConnectionReset"),
    "body cut": (says_and_closes(body(b"half", length=8)), "BodyCut"),
    "body reset": (says_and_resets(body(b"half", length=80_000)), "BodyCut"),
    "chunked body cut": (
        says_and_closes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nfive"),
        "BodyCut",
    ),
    "chunk without size": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nfive"), "BadReply"),
    "no HTTP at all": (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "BadReply"),
    "two lengths": (says(body(b"ok", b"Content-Length: 7")), "BadReply"),
    "head too long": (says(body(b"ok", b"X-Long: " + b"x" * 100_000)), "BadReply"),
    "gzip bomb": (says(packed(BOMB)), "ReplyTooLarge"),
    "deflate bomb": (says(packed(zlib.compress(b"\0" * 5_000_000), encoding=b"deflate")), "ReplyTooLarge"),
    "large by its length": (says(body(b"", length=100_001)), "ReplyTooLarge"),
    "large without length": (flood, "ReplyTooLarge"),
    "gzip cut": (says(packed(gzip.compress(b"five tags" * 99)[:-9])), "BadEncoding"),
    "gzip with a wrong sum": (says(packed(gzip.compress(b"five tags")[:-8] + b"\0" * 8)), "BadEncoding"),
    "not gzip": (says(packed(b"five tags")), "BadEncoding"),
    "not deflate": (says(packed(b"\xff\xfffive tags", encoding=b"deflate")), "BadEncoding"),
    "brotli": (says(packed(b"five tags", encoding=b"br")), "BadEncoding"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_failure_after_sending_may_have_cost(server: Server, transport: Transport, case: str) -> None:
    """Once the request may have been read the billing is unknown, and the error shows nothing that was signed."""
    server.answer, code = FAILURES[case]
    error = await failure(send(transport, server.url, timeout=0.3 if code == "ReadTimeout" else 5))
    assert (error.code, error.billing) == (code, "unknown")
    assert isinstance(error, PermanentError if code == "ReplyTooLarge" else TransientError)
    assert_tells_no_secret(error)
    assert len(server.heads) == 1


async def test_failed_exchange_leaves_the_transport_usable(server: Server, transport: Transport) -> None:
    """A connection that was given up is not used for the next call."""
    for server.answer, code in FAILURES.values():
        await failure(send(transport, server.url, timeout=0.05 if code == "ReadTimeout" else 5))
    server.answer = says(body(b"ok"))
    assert (await send(transport, server.url)).body == b"ok"


async def test_kept_connection_that_dies_is_not_asked_again(server: Server, transport: Transport) -> None:
    """A second sending by the HTTP library would repeat the nonce and might be paid twice."""
    await send(transport, server.url)
    server.answer = says_and_closes()
    error = await failure(send(transport, server.url))
    assert (error.code, error.billing, len(server.heads)) == ("ConnectionReset", "unknown", 2)
    assert_tells_no_secret(error)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_refused_connection_costs_nothing(transport: Transport) -> None:
    """Nobody listens: not billed."""
    error = await failure(send(transport, f"http://127.0.0.1:{free_port()}"))
    assert isinstance(error, TransientError)
    assert (error.code, error.billing) == ("ConnectionRefused", "no")
    assert_tells_no_secret(error)


async def test_hanging_handshake_costs_nothing(server: Server, transport: Transport) -> None:
    """A connection whose TLS handshake does not end in time has carried no request."""
    error = await failure(send(transport, server.url.replace("http", "https")))
    assert (error.code, error.billing) == ("ConnectTimeout", "no")
    assert_tells_no_secret(error)


async def test_failed_handshake_costs_nothing(transport: Transport) -> None:
    """A server that answers the handshake with something else."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(plain, "127.0.0.1", 0)
    error = await failure(send(transport, f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"))
    listener.close()
    assert (error.code, error.billing) == ("TlsError", "no")
    assert_tells_no_secret(error)


async def test_waiting_for_a_connection_costs_nothing(server: Server) -> None:
    """A call that never got one of the pool's connections was not sent."""
    server.answer = silence
    async with Transport(connections=1) as transport:
        first = asyncio.create_task(send(transport, server.url))
        while not server.heads:
            await asyncio.sleep(0)
        error = await failure(send(transport, server.url, timeout=0.05))
        first.cancel()
    assert (error.code, error.billing) == ("ConnectTimeout", "no")


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", f"http://[::1?{CANARY}"),
        Request("GET", f"http://127.0.0.1:99999/{CANARY}"),
        Request("GET", f"ftp://127.0.0.1/{CANARY}"),
        Request("GET", f"http:///{CANARY}"),
        Request("GET", CANARY),
        Request("GET", "http://127.0.0.1:1/", headers=(("Authorization", f"{CANARY}\r\nX: y"),)),
    ],
    ids=["bracket", "port", "scheme", "no host", "no URL", "line break in a header"],
)
async def test_malformed_request_is_not_sent(transport: Transport, request_: Request) -> None:
    """A request that cannot be written down is the image's own fault and costs nothing."""
    error = await failure(transport.send(request_, timeout=5, max_bytes=100))
    assert isinstance(error, PermanentError)
    assert (error.code, error.billing) == ("BadUrl", "no")
    assert_tells_no_secret(error)


async def test_cancelled_call_tells_no_secret(server: Server, transport: Transport) -> None:
    """A cancelled call stays cancelled, without the library's frames on it."""
    server.answer = silence
    task = asyncio.create_task(send(transport, server.url))
    while not server.heads:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert CANARY not in "".join(str(frame.locals) for frame in told.stack if frame.filename != __file__)
    assert not any("aiohttp" in frame.filename for frame in told.stack)


async def test_closed_transport_says_how_to_open_it() -> None:
    """A transport that was not entered is the programmer's mistake."""
    with pytest.raises(RuntimeError, match="async with Transport"):
        await Transport().send(Request("GET", "http://127.0.0.1/"), timeout=1, max_bytes=1)


def test_import_leaves_aiohttp_alone() -> None:
    """Whoever only imports the package does not pay for an HTTP library."""
    code = "import sys, imgtag_pipeline.transport.http, imgtag_pipeline.images; sys.exit('aiohttp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- downloads --------------------------------------------------------------------------------------------------


def download(transport: Transport, url: str, *, timeout: float = 5) -> Awaitable[bytes]:
    return transport.download(
        f"{url}/a.jpg?Signature={CANARY}&OSSAccessKeyId={CANARY}", max_bytes=100_000, timeout=timeout
    )


async def test_download_gives_the_bytes(server: Server, transport: Transport) -> None:
    """What is at the URL comes back as it is, an HTML page too: the tagger says that it is no image."""
    server.answer = says(body(b"<html>", b"Content-Type: text/html"))
    assert await download(transport, server.url) == b"<html>"


async def test_download_escapes_once(server: Server, transport: Transport) -> None:
    """Characters outside ASCII are escaped, what is escaped already stays, and a fragment is not sent."""
    await transport.download(f"{server.url}/图 %20a.jpg?x=é&y=%2B+#frag", max_bytes=100, timeout=5)
    assert server.heads[0].split(b" ")[1] == b"/%E5%9B%BE%20%20a.jpg?x=%C3%A9&y=%2B+"


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 410, 418, 451, 499])
async def test_download_refused_for_good(server: Server, transport: Transport, status: int) -> None:
    """A status that will not change is the image's own failure, named by its number."""
    server.answer = says(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
    error = await failure(download(transport, server.url))
    assert isinstance(error, PermanentError)
    assert (error.code, error.billing) == (f"HTTP{status}", "no")
    assert_tells_no_secret(error)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_download_refused_for_now(server: Server, transport: Transport, status: int) -> None:
    """A busy image server is asked again later, when it says so."""
    server.answer = says(b"HTTP/1.1 %d Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n" % status)
    error = await failure(download(transport, server.url))
    assert isinstance(error, TransientError)
    assert (error.code, error.retry_after) == (f"HTTP{status}", 7.0)


@pytest.mark.parametrize("case", FAILURES)
async def test_failed_download_costs_nothing(server: Server, transport: Transport, case: str) -> None:
    """A download is never billed, whatever breaks, and what it says shows no signature."""
    server.answer, code = FAILURES[case]
    error = await failure(download(transport, server.url, timeout=0.1 if code == "ReadTimeout" else 5))
    assert error.code == ("ImageTooLarge" if code == "ReplyTooLarge" else code)
    assert error.billing == "no"
    assert_tells_no_secret(error)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("target", ["/b.jpg", "//{host}/b.jpg", "http://{host}/b.jpg", "b.jpg"])
async def test_download_follows_redirects(server: Server, transport: Transport, status: int, target: str) -> None:
    """Relative and absolute targets are followed with GET."""
    location = target.format(host=server.url.removeprefix("http://")).encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_first = len(server.heads) == 1
        moved = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 4\r\n\r\nhere" % (status, location)
        await says(moved if is_first else body(b"pixels"))(reader, writer)

    server.answer = answer
    assert await download(transport, server.url) == b"pixels"
    assert server.heads[1].startswith(b"GET /b.jpg ")


async def test_download_gives_up_after_five_redirects(server: Server, transport: Transport) -> None:
    """A circle of redirects ends."""
    server.answer = says(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
    error = await failure(download(transport, server.url))
    assert (error.code, len(server.heads)) == ("TooManyRedirects", 6)


@pytest.mark.parametrize("target", [b"file:///etc/passwd", b"ftp://127.0.0.1/a", b"data:,x", b"http://["])
async def test_download_leaves_http_for_nothing(server: Server, transport: Transport, target: bytes) -> None:
    """A redirect to anything but http and https is refused."""
    server.answer = says(b"HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % target)
    error = await failure(download(transport, server.url))
    assert isinstance(error, PermanentError)
    assert error.code == "BadUrl"


async def test_timeout_counts_all_redirects_together(server: Server, transport: Transport) -> None:
    """A chain of slow redirects does not multiply the time that one image may take."""

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.06)
        await says(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")(reader, writer)

    server.answer = slow
    error = await failure(download(transport, server.url, timeout=0.15))
    assert error.code == "ReadTimeout"


async def test_name_without_address_is_told() -> None:
    """A host that does not exist is worth another try: names come back."""

    async def unknown(_host: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, CANARY)

    async with Transport(guard=Guard(lookup=unknown)) as transport:
        error = await failure(download(transport, "http://nowhere.example"))
    assert isinstance(error, TransientError)
    assert (error.code, error.billing) == ("DnsError", "no")
    assert_tells_no_secret(error)
