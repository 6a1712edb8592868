"""Forbidden addresses, however they are spelled or reached: nothing on loopback ever accepts a connection.

The stand-in for the public internet is 127.0.0.2, which only the guard of a test allows; the forbidden listener is on
127.0.0.1 and ::1 and counts whom it accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.emulator import Emulator
from imgtag_pipeline.errors import CallError, PermanentError, RefusedHereError
from imgtag_pipeline.images import ImageReader
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.transport.guard import Address, Guard, Lookup, is_public
from imgtag_pipeline.transport.http import Transport

INSIDE, OUTSIDE = "127.0.0.1", "127.0.0.2"
KEYS = Keys("emulator", "emulator", app_id="1000001")
Figure = Callable[..., None]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\npixels"


class Listener:
    """A web server on one port of an address, that counts the connections it accepted."""

    def __init__(self) -> None:
        self.accepted = 0
        self.port = 0
        self.reply = OK

    async def start(self, address: str, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, address, port)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def inside() -> AsyncIterator[Listener]:
    """What must never be reached: a service on IPv4 and, where there is one, IPv6 loopback."""
    listener = Listener()
    servers = [await listener.start(INSIDE)]
    if socket.has_ipv6:
        with contextlib.suppress(OSError):  # no IPv6 on this machine
            servers.append(await listener.start("::1", listener.port))
    yield listener
    for server in servers:
        server.close()


@pytest.fixture
async def outside(inside: Listener) -> AsyncIterator[Listener]:
    """The stand-in for the internet, on the same port, so that only the address tells them apart."""
    listener = Listener()
    try:
        server = await listener.start(OUTSIDE, inside.port)
    except OSError:
        pytest.skip("this system has one loopback address only")
    yield listener
    server.close()


def picture() -> bytes:
    """A photograph that every vendor takes."""
    file = io.BytesIO()
    Image.new("RGB", (300, 200), "green").save(file, "JPEG")
    return file.getvalue()


def is_outside(address: Address) -> bool:
    return str(address) == OUTSIDE


def names(*answers: Sequence[str]) -> Lookup:
    """A name service that gives each answer once, and the last one for ever after."""
    left = list(answers)

    async def lookup(_host: str) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return lookup


async def refusal(transport: Transport, url: str) -> CallError:
    with pytest.raises(CallError) as caught:
        await transport.download(url, max_bytes=100, timeout=5)
    return caught.value


# --- addresses and their spellings --------------------------------------------------------------------------------

SPELLINGS = (
    "127.0.0.1 127.0.0.2 127.255.255.254 127.0.0.1. 127.1 127.0.1 127.1. 0 0.0.0.0 0.0.0.1 0x0",
    "2130706433 017700000001 0x7f000001 0x7F.0x0.0x0.0x1 0x7f.1 0177.0.0.1 0177.1 00000177.0.0.01 127.0x0.0.1",
    "4294967295",
    "[::1] [0:0:0:0:0:0:0:1] [::] [::ffff:127.0.0.1] [::ffff:7f00:1] [::127.0.0.1] [0:0:0:0:0:ffff:7f00:0001]",
    "[::1%25lo] [fe80::1%25eth0]",
    "[64:ff9b::127.0.0.1] [64:ff9b::a00:1] [64:ff9b::a9fe:a9fe] [64:ff9b:1::7f00:1] [2002:7f00:1::] [2002:808:808::1]",
    "[2001:0:7f00:1::1] [2001:db8::1]",
    "[fc00::1] [fd00:ec2::254] [fe80::1] [fec0::1] [ff02::1] [100::1] [3fff::1] [5f00::1]",
    "localhost LOCALHOST localhost. a.localhost a.b.LocalHost. localhost.localdomain",
    "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 100.127.255.254 100.100.100.200",
    "169.254.169.254 169.254.0.1 2852039166 0xa9fea9fe 0251.0376.0251.0376 [::ffff:169.254.169.254]",
    "168.63.129.16 192.0.0.192",
    "192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 192.88.99.1 224.0.0.1 239.255.255.255 240.0.0.1",
    "255.255.255.255",
    "１２７.０.０.１ ①②⑦.⓪.⓪.① 127。0。0。1 ⓛⓞⓒⓐⓛⓗⓞⓢⓣ １２７.１ १२७.0.0.1 ℓocalhost locªlhost LOCALHOST。",
    "127\u00ad.0.0.1 loc\u00adalhost lo\u200bcalhost",
    "[::1%lo] [fe80::1%eth0] [fe80::1%251] [::ffff:0:127.0.0.1] [::ffff:0:7f00:1] [2002:a00:1::] [2002:a9fe:a9fe::]",
    "[0::0] [0:0:0:0:0:0:127.0.0.1] [0:0:0:0:0:ffff:127.0.0.1] [::FFFF:7F00:1]",
    "00 0x7f000001. 0177.0.0.1. 127.0.0.0x1 0x7f.0.0.0x 127.0.0.1%00 127.0.0.1%2f localhost%2e localhost%00.x.example",
    "@127.0.0.1 :@127.0.0.1 a:b@127.0.0.1 example.com:80@127.0.0.1 8.8.8.8@127.0.0.1 example.com%2f@localhost.",
)
SPELLED = ("a forbidden address spelled, signed in to, hidden in a URL", "{count} ways", "{worst} connections at most")


@pytest.mark.parametrize("host", [host for line in SPELLINGS for host in line.split()])
async def test_spelling_of_a_forbidden_address_is_refused(inside: Listener, figure: Figure, host: str) -> None:
    """Every way to write a non-public address ends before a connection, and the row says what would allow it."""
    async with Transport() as transport:
        error = await refusal(transport, f"http://{host}:{inside.port}/a.jpg")
    assert isinstance(error, RefusedHereError)
    assert error.code == "AddressNotPublic"
    assert "allow_private=True (--allow-private)" in str(error)
    assert inside.accepted == 0
    figure(*SPELLED, inside.accepted)


@pytest.mark.parametrize(
    "template",
    [
        "http://{public}\\@127.0.0.1:{port}/a",
        "http://{public}%5C@127.0.0.1:{port}/a",
        "http://{public}@127.0.0.1:{port}/a",
        "http://user:{public}@127.0.0.1:{port}/a",
        "http://{public}#@127.0.0.1:{port}/a",
        "http://127.0.0.1:{port}\t/a",
        "http://127.0.0.1\n:{port}/a",
        "http://127%2E0%2E0%2E1:{port}/a",
        "http://%31%32%37.0.0.1:{port}/a",
        "http://[::1]%2E:{port}/a",
        "http://127.0.0.1 :{port}/a",
        "http://127.0.0.1:{port}\\@{public}/a",
        "http://x@127.0.0.1:{port}@{public}/a",
        "http://127.0.0.1%2f@{public}:{port}/a",
        "http://127.0.0.1%2f{public}:{port}/a",
        "http://{public};127.0.0.1:{port}/a",
        "http://127.0.0.1;{public}:{port}/a",
        "http://127.0.0.1,{public}:{port}/a",
        "http://127.0.0.1 {public}:{port}/a",
        "http://{public}\u2044@127.0.0.1:{port}/a",
        "http://127.0.0.1\uff0f:{port}/a",
        "http://127.0.0.1\x00:{port}/a",
        "http://127.0.0.1\ud800:{port}/a",
        "http://127.0.0.1:{port}:80/a",
        "http://[127.0.0.1]:{port}/a",
        "http://[::1]{public}:{port}/a",
        "http://0b1111111.0.0.1:{port}/a",
        "http://٠.٠.٠.٠:{port}/a",
        "http://[v1.fe80]:{port}/a",
        "http://+127.0.0.1:{port}/a",
        "http:\\\\127.0.0.1:{port}/a",
        "https://127.0.0.1:{port}/a",
        "http:///127.0.0.1:{port}/a",
        "http:127.0.0.1:{port}/a",
        "http://127.0.0.1..:{port}/a",
        "http://.:{port}/a",
        "HTTP://127.0.0.1:{port}/a",
    ],
)
async def test_host_that_parsers_see_differently_is_refused(inside: Listener, figure: Figure, template: str) -> None:
    """The host that is checked is the one that would be connected to, whatever stands around it."""

    async def nobody(_host: str) -> Sequence[str]:
        return [INSIDE]

    async with Transport(guard=Guard(lookup=nobody)) as transport:
        error = await refusal(transport, template.format(public="example.com", port=inside.port))
    assert error.code in ("AddressNotPublic", "BadUrl")
    assert inside.accepted == 0
    figure(*SPELLED, inside.accepted)


@pytest.mark.parametrize(
    "text",
    [
        "8.8.8.8",
        "1.1.1.1",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.1",
        "47.74.1.1",
        "2606:4700::1111",
        "2400:3200::1",
        "64:ff9b::8.8.8.8",  # what a name with an IPv4 address leads to in a network of IPv6 only
    ],
)
def test_public_address_is_allowed(text: str) -> None:
    """The public internet stays reachable."""
    address = ipaddress.ip_address(text)
    assert is_public(address)
    Guard().check(text)


@pytest.mark.parametrize(
    "host", ["example.com", "a.b.example.co", "xn--fiqs8s.cn", "1.example.com", "0xabc.com", "7z.org"]
)
def test_ordinary_name_is_left_to_its_addresses(host: str) -> None:
    """A name that only looks a little like a number is a name."""
    Guard().check(host)


# --- names ----------------------------------------------------------------------------------------------------------

FORBIDDEN_ANSWERS = [
    ["127.0.0.1"],
    ["::1"],
    ["::ffff:127.0.0.1"],
    ["10.0.0.1", "192.168.0.1"],
    ["169.254.169.254"],
    ["fe80::1%lo"],
    ["64:ff9b::7f00:1"],
    ["2130706433"],
    ["not an address"],
]


@pytest.mark.parametrize("answer", FORBIDDEN_ANSWERS, ids=lambda answer: answer[0])
async def test_name_of_a_forbidden_address_is_refused(inside: Listener, figure: Figure, answer: list[str]) -> None:
    """What counts is where a name leads, not what it is."""
    async with Transport(guard=Guard(lookup=names(answer))) as transport:
        error = await refusal(transport, f"http://images.example:{inside.port}/a.jpg")
    assert error.code == "AddressNotPublic"
    assert inside.accepted == 0
    figure("a name that leads to a forbidden address", "{count} answers", "{worst} connections at most", 0)


@pytest.mark.parametrize(
    "answer", [[OUTSIDE], [INSIDE, OUTSIDE], [OUTSIDE, INSIDE], ["::1", OUTSIDE, "::ffff:127.0.0.1"]]
)
async def test_only_the_allowed_addresses_of_a_name_are_used(
    inside: Listener, outside: Listener, answer: list[str]
) -> None:
    """A name with addresses of both kinds is read from the public one."""
    async with Transport(guard=Guard(is_outside, names(answer))) as transport:
        data = await transport.download(f"http://images.example:{inside.port}/", max_bytes=100, timeout=5)
    assert (data, outside.accepted, inside.accepted) == (b"pixels", 1, 0)


async def test_no_fall_back_to_a_forbidden_address(inside: Listener) -> None:
    """When the public address refuses, the name's other address is still not tried."""
    async with Transport(guard=Guard(is_outside, names([OUTSIDE, INSIDE]))) as transport:
        error = await refusal(transport, f"http://images.example:{inside.port}/")
    assert error.code == "ConnectionRefused"
    assert inside.accepted == 0


async def test_address_is_not_looked_up_again_after_the_check(inside: Listener, outside: Listener) -> None:
    """Rebinding: the name turns to loopback right after the first look-up; the connection uses the checked address."""
    lookup = names([OUTSIDE], [INSIDE])
    async with Transport(guard=Guard(is_outside, lookup)) as transport:
        data = await transport.download(f"http://images.example:{inside.port}/", max_bytes=100, timeout=5)
    assert (data, outside.accepted, inside.accepted) == (b"pixels", 1, 0)


async def test_name_that_turned_to_loopback_is_refused(inside: Listener, outside: Listener) -> None:
    """Rebinding: at the next look-up the name is judged anew."""
    lookup = names([OUTSIDE], [INSIDE])
    for expected in ("pixels", "AddressNotPublic"):
        async with Transport(guard=Guard(is_outside, lookup)) as transport:
            if expected == "pixels":
                await transport.download(f"http://images.example:{inside.port}/", max_bytes=100, timeout=5)
            else:
                assert (await refusal(transport, f"http://images.example:{inside.port}/")).code == expected
    assert (outside.accepted, inside.accepted) == (1, 0)


async def test_rebinding_between_redirects_is_refused(inside: Listener, outside: Listener) -> None:
    """Rebinding: the redirect leads to the same name on another port, which by then is loopback."""
    second = Listener()
    server = await second.start(INSIDE)
    outside.reply = (
        b"HTTP/1.1 302 Found\r\nLocation: http://images.example:%d/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        % second.port
    )
    async with Transport(guard=Guard(is_outside, names([OUTSIDE], [INSIDE]))) as transport:
        error = await refusal(transport, f"http://images.example:{inside.port}/")
    server.close()
    assert error.code == "AddressNotPublic"
    assert (outside.accepted, second.accepted) == (1, 0)


async def test_many_downloads_of_one_forbidden_name(inside: Listener) -> None:
    """Downloads that wait for the same look-up are all refused."""
    async with Transport(guard=Guard(lookup=names([INSIDE]))) as transport:
        errors = await asyncio.gather(*(refusal(transport, f"http://x.example:{inside.port}/{n}") for n in range(20)))
    assert {error.code for error in errors} == {"AddressNotPublic"}
    assert inside.accepted == 0


# --- redirects ------------------------------------------------------------------------------------------------------

TARGETS = [
    "http://127.0.0.1:{port}/",
    "//127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f.1:{port}/",
    "http://127.1:{port}/",
    "http://inside.example:{port}/",
    "https://127.0.0.1:{port}/",
    "http://127.0.0.2@127.0.0.1:{port}/",
    "\\\\127.0.0.1:{port}\\",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "unix://127.0.0.1:{port}/",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("status", [302, 307])
async def test_redirect_to_a_forbidden_address_is_refused(
    inside: Listener, outside: Listener, figure: Figure, target: str, status: int
) -> None:
    """An allowed server cannot send us inside."""

    async def lookup(host: str) -> Sequence[str]:
        return [INSIDE] if host == "inside.example" else [OUTSIDE]

    location = target.format(port=inside.port).encode()
    outside.reply = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % (
        status,
        location,
    )
    async with Transport(guard=Guard(is_outside, lookup)) as transport:
        error = await refusal(transport, f"http://outside.example:{inside.port}/")
    assert error.code in ("AddressNotPublic", "BadUrl", "TooManyRedirects")
    assert (outside.accepted > 0, inside.accepted) == (True, 0)
    figure("a redirect to a forbidden address", "{count} ways", "{worst} connections at most", inside.accepted)


async def test_redirect_to_an_allowed_address_is_followed(inside: Listener, outside: Listener) -> None:
    """The guard does not stand in the way of an ordinary redirect."""
    second = Listener()
    server = await second.start(OUTSIDE)
    outside.reply = (
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:%d/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        % second.port
    )
    async with Transport(guard=Guard(is_outside)) as transport:
        data = await transport.download(f"http://127.0.0.2:{inside.port}/", max_bytes=100, timeout=5)
    server.close()
    assert (data, inside.accepted) == (b"pixels", 0)


# --- around the guard -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["simplecache::http://127.0.0.1:{port}/a", "zip://a.jpg::HTTPS://127.0.0.1:{port}/a.zip"]
)
async def test_file_systems_are_no_way_around_the_guard(inside: Listener, url: str) -> None:
    """fsspec would fetch a chained http address by itself."""
    async with Transport() as transport:
        with pytest.raises(PermanentError) as caught:
            await ImageReader(transport.download).read(url.format(port=inside.port), max_bytes=100, timeout=5)
    assert caught.value.code == "UnsupportedScheme"
    assert inside.accepted == 0


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_proxy_of_the_environment_is_not_used(
    inside: Listener, monkeypatch: pytest.MonkeyPatch, name: str, scheme: str
) -> None:
    """A proxy would connect on our behalf, to whatever it likes."""
    monkeypatch.setenv(name, f"http://127.0.0.1:{inside.port}")
    async with Transport(guard=Guard(lookup=names([INSIDE]))) as transport:
        error = await refusal(transport, f"{scheme}://images.example/")
    assert error.code == "AddressNotPublic"
    assert inside.accepted == 0


BYTES = {
    "local": {},
    "tencent_v1": {"image_mode": "bytes"},
    "tencent_v2": {"image_mode": "bytes"},
    "viapi/TaggingImage": {"image_mode": "bytes"},
    "viapi/RecognizeLogo": {"image_mode": "bytes"},
}
BY_STRANGERS = (
    "http://127.0.0.1:{port}/a.jpg",
    "https://localhost:{port}/a.jpg",
    "http://2130706433:{port}/a.jpg",
    "http://[::ffff:127.0.0.1]:{port}/a.jpg",
    "ftp://127.0.0.1:{port}/a.jpg",
    "webhdfs://127.0.0.1:{port}/a.jpg",
    "zip://a.jpg::ftp://127.0.0.1:{port}/a.zip",
    "simplecache::http://127.0.0.1:{port}/a.jpg",
    "\\\\127.0.0.1\\share\\a.jpg",
    "file://127.0.0.1/a.jpg",
)


@pytest.mark.emulator(is_synthetic=True)
@pytest.mark.parametrize("address", BYTES)
async def test_table_of_strangers_reaches_nothing(
    inside: Listener, emulator: Emulator, figure: Figure, address: str
) -> None:
    """Whoever reads the bytes, the tagger here or an upload to the vendor: failed rows, and no call is paid for."""
    urls = [url.format(port=inside.port) for url in BY_STRANGERS]
    words = {} if address == "local" else {"endpoint": emulator.url, "credentials": KEYS, "qps": 1000}
    table = await imgtag.alabel(pd.DataFrame({"url": urls}), provider=get(address, **words, **BYTES[address]))
    assert list(table["url"]) == urls
    assert set(table["error_code"]) == {"AddressNotPublic", "UnsupportedScheme", "NotReadable"}
    assert table.attrs["imgtag"]["calls"] == emulator.ledger.calls == inside.accepted == 0
    figure("a stranger's table through label()", "{count} providers", "{worst} connections, no call", inside.accepted)


@pytest.mark.emulator(is_synthetic=True)
async def test_endpoint_of_the_caller_is_not_guarded(inside: Listener, emulator: Emulator, tmp_path: Path) -> None:
    """The vendor's address is the caller's own word: a cloud on loopback is asked, and answers."""
    (tmp_path / "a.jpg").write_bytes(picture())
    provider = get("viapi/TaggingImage", endpoint=emulator.url, credentials=KEYS, image_mode="bytes")
    table = await imgtag.alabel(pd.DataFrame({"url": [str(tmp_path / "a.jpg")]}), provider=provider)
    assert set(table["status"]) == {"ok"}


async def test_without_the_guard_loopback_is_read(inside: Listener) -> None:
    """The guard can be lifted: without it the same listener answers, so the zeros above mean something."""
    async with Transport(allow_private=True) as transport:
        assert await transport.download(f"http://127.0.0.1:{inside.port}/", max_bytes=100, timeout=5) == b"pixels"
    assert inside.accepted == 1
