"""What all gateways of the emulator share: the quota, the ledger, the faults, and the emulator's own doors."""

import http.client
import json
import signal
import subprocess
import sys
import urllib.request
import zlib
from datetime import UTC, datetime

import pytest

from imgtag_pipeline.emulator import Emulator, EmulatorOptions, exports
from imgtag_pipeline.emulator.faults import BEFORE, KINDS, FaultPlan, parse, parse_all
from imgtag_pipeline.emulator.gateway import Admission
from imgtag_pipeline.emulator.quotas import SlidingWindow, WorstWindow
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.testing import FakeClock, running_emulator

SYNTHETIC = pytest.mark.emulator(is_synthetic=True)
URL = "http://a.example/a.jpg"


@pytest.mark.parametrize(
    ("qps", "arrivals", "admitted"),
    [
        (2.0, [0.0, 0.1, 0.2, 0.99, 1.0, 1.05, 1.1], [True, True, False, False, True, False, True]),
        (2.5, [0.0, 0.0, 0.79, 0.8, 0.8], [True, True, False, True, True]),
        (0.5, [0.0, 1.9, 2.0], [True, False, True]),
    ],
)
def test_a_quota_holds_in_every_window(qps, arrivals, admitted):
    """No sliding window admits more than the quota, and a refused call does not count."""
    window = SlidingWindow(qps)
    assert [window.admit(at) for at in arrivals] == admitted


def test_the_worst_second():
    """The worst second is found wherever it begins; a second later is another second."""
    window = WorstWindow()
    for at in (0.0, 0.9, 1.0, 1.1, 1.8, 1.89, 5.0):
        window.add(at)
    assert window.worst == 5


def test_quota_per_account_and_action(client_of):
    """Over the quota a call is throttled and free; other actions are not affected, and a second later it goes on."""
    clock = FakeClock(wall=datetime.now(UTC))
    with running_emulator(qps=2.0, action_qps={"RecognizeFood": None}, is_synthetic=True, clock=clock) as emulator:
        client = client_of(emulator.url)

        def codes(count, action="TaggingImage"):
            return [client.viapi(action, now=clock.now(), ImageURL=URL).code for _ in range(count)]

        assert codes(4) == ["ok", "ok", "Throttling.User", "Throttling.User"]
        assert codes(2, "RecognizeScene") == ["ok", "ok"]
        assert codes(5, "RecognizeFood") == ["ok"] * 5
        clock.stall(1.0)
        assert codes(3) == ["ok", "ok", "Throttling.User"]
        assert emulator.ledger.billed_by_action["viapi", "TaggingImage"] == 4
        assert emulator.ledger.worst()["emulator/TaggingImage"] == 4


async def test_latency_is_on_the_clock():
    """An answer takes as long as it is told, on whichever clock the emulator has."""
    clock = FakeClock(wall=datetime.now(UTC), patience=0.02)
    options = EmulatorOptions(latency=3.0, is_synthetic=True, qps=None)
    async with Emulator(options, clock=clock) as emulator:
        answer = await clock.run(_tag(emulator.url, clock.now()))
    assert answer == 200
    assert clock.monotonic() == 1003.0


async def _tag(url, now):
    import aiohttp

    from imgtag_pipeline.core.signing import rpc

    params = {"Action": "TaggingImage", "Version": "2019-09-30", "Format": "JSON", "ImageURL": URL}
    arguments = {"access_key_id": "emulator", "access_key_secret": "emulator", "now": now, "nonce": "n"}
    params |= rpc.sign("GET", params, **arguments)
    async with aiohttp.ClientSession() as session, session.get(url + "/", params=params) as reply:
        await reply.read()
        return reply.status


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("error", "endless", "hang", "bomb")])
@SYNTHETIC
def test_each_fault_and_its_bill(client, emulator, kind):
    """Each fault breaks the call in its way; it is billed when the table says so, and only a whole answer counts."""
    text = f"{kind}:0" if kind == "slow" else kind
    try:
        answer = client.viapi(fault=text, ImageURL=URL)
    except (ConnectionError, http.client.HTTPException) as error:
        answer = error
    shown = {
        "throttle": lambda a: a.code == "Throttling.User",
        "http": lambda a: a.status == 502 and a.body.startswith(b"<!DOCTYPE"),
        "arrears": lambda a: a.code == "InvalidApi.NotPurchase",
        "clock": lambda a: a.code == "InvalidTimeStamp.Expired",
        "html": lambda a: a.status == 200 and b"log in" in a.body,
        "reset": lambda a: isinstance(a, ConnectionError),
        "reset-after": lambda a: isinstance(a, ConnectionError),
        "slow": lambda a: a.code == "ok",
        "cut": lambda a: isinstance(a, http.client.IncompleteRead),
        "garbage": lambda a: a.status == 200 and a.body.startswith(b'{"RequestId"') and not a.body.endswith(b"}"),
    }
    assert shown[kind](answer)
    assert emulator.ledger.billed == (kind not in BEFORE)
    assert emulator.ledger.answered_by_image.total() == (kind == "slow")


@SYNTHETIC
def test_a_throttled_caller_can_be_told_how_long(client):
    """The seconds to wait are in the vendor's header and in the common one."""
    headers = client.viapi(fault="throttle:3", ImageURL=URL).headers
    assert (headers["x-acs-retry-after"], headers["retry-after"]) == ("3", "3")


@SYNTHETIC
def test_a_gzip_bomb_and_an_endless_body(client, emulator):
    """A few kilobytes that unpack to megabytes, and a body without an end, for clients that must cut both off."""
    bomb = client.viapi(fault="bomb:4", ImageURL=URL)
    assert bomb.headers["content-encoding"] == "gzip"
    assert len(bomb.body) < 10_000
    assert len(zlib.decompress(bomb.body, 31)) == 4 << 20
    client.most = 100
    endless = client.viapi(fault="endless", ImageURL=URL)
    assert (endless.status, endless.body) == (200, b" " * 100)
    assert emulator.ledger.billed == 2
    assert emulator.ledger.answered_by_image.total() == 0


@SYNTHETIC
def test_faults_by_share_number_and_match(client, emulator):
    """The first few calls, those that name an image, and a share of the rest, the same at each run of a seed."""
    emulator.faults.set(parse_all(["error:Timeout#2@a.jpg,throttle=0.3@b"]))
    assert [client.viapi(ImageURL=URL).code for _ in range(3)] == ["Timeout", "Timeout", "ok"]
    admission = Admission("account", "TaggingImage", ("http://b/1",))

    def draw(seed):
        plan = FaultPlan(parse_all(["throttle=0.3"]), seed)
        return [plan.choose(admission) is not None for _ in range(1000)]

    assert draw(1) == draw(1) != draw(2)
    assert 250 < sum(draw(1)) < 350


@pytest.mark.parametrize(
    "text", ["", "boom", "throttle=lots", "error", "slow:fast", "throttle=0.1#x", "throttle=2", "reset=0.1.2"]
)
def test_a_fault_that_there_is_none_of(text):
    """A misspelt fault is refused, and the known ones are named or the mistake is."""
    with pytest.raises(ConfigError):
        parse(text)


@SYNTHETIC
def test_the_doors_of_the_emulator(client, tmp_path):
    """Health, ledger, faults and reset are there by HTTP, uncounted."""
    assert client.send("GET", "/_emulator/health").json == {"status": "ok", "calls": 0}
    client.viapi(ImageURL=URL)
    ledger = client.send("GET", "/_emulator/ledger?entries").json
    assert (ledger["calls"], ledger["billed"], ledger["billed_by_image"]) == (1, 1, {URL: 1})
    assert ledger["entries"][0]["action"] == "TaggingImage"
    assert ledger["worst_second"] == {"emulator/TaggingImage": 1}
    assert client.send("POST", "/_emulator/faults", b"error:Timeout").status == 200
    assert client.viapi(ImageURL=URL).code == "Timeout"
    assert client.send("POST", "/_emulator/faults", json.dumps([]).encode()).json == {"faults": []}
    assert client.viapi(ImageURL=URL).code == "ok"
    assert client.send("POST", "/_emulator/faults", b"boom").status == 400
    assert client.send("POST", "/_emulator/reset").status == 200
    assert client.send("GET", "/_emulator/ledger").json["calls"] == 0
    assert client.send("GET", "/_emulator/nothing").status == 404


def test_pictures_of_a_folder(client_of, tmp_path, picture):
    """Pictures are served from the folder, and nothing from outside it."""
    (tmp_path / "in" / "a b.jpg").parent.mkdir()
    (tmp_path / "in" / "a b.jpg").write_bytes(picture())
    (tmp_path / "secret.txt").write_text("secret")
    with running_emulator(images=tmp_path / "in") as emulator:
        client = client_of(emulator.url)
        found = client.send("GET", "/_emulator/images/a%20b.jpg")
        assert (found.body, found.headers["content-type"]) == (picture(), "image/jpeg")
        assert client.send("GET", "/_emulator/images/..%2Fsecret.txt").status == 404
        assert client.viapi(ImageURL=f"file://{tmp_path}/in/a%20b.jpg").code == "ok"
        assert client.viapi(ImageURL=f"file://{tmp_path}/secret.txt").code == "InvalidImage.Download"


@SYNTHETIC
def test_any_host_and_a_proxy(client, emulator):
    """The gateway is found under any Host, also by a client that takes the emulator for its proxy."""
    answer = client.send("GET", "/?Action=TaggingImage", b"", {"Host": "imagerecog.cn-shanghai.aliyuncs.com"})
    assert answer.json["HostId"] == "imagerecog.cn-shanghai.aliyuncs.com"
    proxy = urllib.request.build_opener(urllib.request.ProxyHandler({"http": emulator.url}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        proxy.open("http://imagerecog.cn-shanghai.aliyuncs.com/?Action=TaggingImage")
    assert json.loads(refused.value.read())["Code"] == "IncompleteSignature"


@SYNTHETIC
def test_the_emulator_keeps_its_own_time(client_of):
    """The Date header is the emulator's clock, by which a client can correct its own."""
    with running_emulator(clock=FakeClock(wall=datetime(2030, 1, 1, tzinfo=UTC)), clock_offset=60.0) as emulator:
        answer = client_of(emulator.url).viapi(ImageURL=URL)
    assert answer.code == "InvalidTimeStamp.Expired"
    assert answer.headers["date"] == "Tue, 01 Jan 2030 00:01:00 GMT"


def test_served_in_the_foreground_until_told_to_stop():
    """The command's loop says where it listens, answers, and ends without noise."""
    code = "from imgtag_pipeline.emulator import *; serve(EmulatorOptions(), lambda url: print(url, flush=True))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    url = process.stdout.readline().decode().strip()
    with urllib.request.urlopen(url + "/_emulator/health") as reply:
        assert reply.status == 200
    process.send_signal(signal.SIGTERM)
    _, noise = process.communicate(timeout=10)
    assert (process.returncode, noise) == (0, b"")


def test_what_to_export():
    """The lines name every provider's variables and the endpoint."""
    lines = "\n".join(exports("http://127.0.0.1:8099"))
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "OSS_ACCESS_KEY_ID", "TENCENT_APP_ID=1000001", ":8099"):
        assert name in lines


def test_the_fixture_sets_the_environment(emulator_environment, emulator, monkeypatch):
    """With the fixture, credentials of all providers are in the environment."""
    import os

    assert os.environ["TENCENT_SECRET_KEY"] == emulator_environment["TENCENT_SECRET_KEY"] == "emulator"


async def test_two_emulators_do_not_meet(fake_clock):
    """Each emulator has a port, a ledger and a clock of its own."""
    async with Emulator() as one, Emulator(clock=fake_clock) as two:
        assert one.url != two.url
        assert one.ledger is not two.ledger
