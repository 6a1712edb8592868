"""A host that does not answer costs one attempt at a time, and its images fail as what they are."""

import asyncio
import socket

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import PermanentError, TransientError
from imgtag_pipeline.transport.circuit import OPEN_AFTER, PROBE_EVERY, HostCircuit

DEAD, OTHER = "http://dead.example/a.png", "http://other.example/a.png"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return HostCircuit(clock)


def refused(code="ConnectionRefused"):
    return TransientError("no connection to dead.example: refused", code=code)


@pytest.mark.parametrize("code", ["ConnectionRefused", "DnsError", "ConnectTimeout"])
def test_after_some_failures_in_a_row_others_fail_at_once(circuit, clock, code):
    """With the same code and sentence, and no attempt is repeated; other hosts are not meant."""
    for _ in range(OPEN_AFTER):
        assert circuit.refusal(DEAD) is None
        circuit.note(DEAD, refused(code))
    error = circuit.refusal("HTTP://user@DEAD.example/b.png")
    assert (error.code, str(error), error.max_attempts) == (code, "no connection to dead.example: refused", 1)
    assert circuit.refusal(OTHER) is None


def test_one_probe_at_a_time_and_an_answer_opens_the_host(circuit, clock):
    """After a second one image tries again; when it is answered, all do."""
    for _ in range(OPEN_AFTER):
        circuit.note(DEAD, refused())
    clock.now += PROBE_EVERY
    assert circuit.refusal(DEAD) is None
    assert circuit.refusal(DEAD) is not None
    assert circuit.note(DEAD, refused()).max_attempts == 1
    clock.now += PROBE_EVERY
    assert circuit.refusal(DEAD) is None
    circuit.note(DEAD, None)
    assert circuit.refusal(DEAD) is None


@pytest.mark.parametrize(
    "failure", [None, PermanentError("404", code="HTTP404"), TransientError("cut", code="BodyCut")]
)
def test_whoever_answers_is_there(circuit, failure):
    """A refusal of one image says nothing against its host."""
    for _ in range(10):
        circuit.note(DEAD, refused())
        assert circuit.note(DEAD, failure) is failure
    assert circuit.refusal(DEAD) is None


async def test_three_thousand_images_of_a_dead_host_cost_few_attempts():
    """Beside them those of a living host are answered; the dead ones fail in passing and are asked again."""
    attempts = 0

    async def answer(reader, writer):
        nonlocal attempts
        attempts += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = free.getsockname()[1]
        urls = [f"http://127.0.0.1:{dead}/{number}.png" for number in range(3000)]
        urls[::100] = [f"http://127.0.0.1:{port}/{number}.png" for number in range(30)]
        table = await imgtag.alabel(pd.DataFrame({"url": urls}), allow_private=True, progress=False)
    server.close()
    assert table["error_code"].value_counts().to_dict() == {"ConnectionRefused": 2970, "HTTP404": 30}
    assert attempts == 30
    assert table.attrs["imgtag"]["retries"] <= 200
