"""Secrets and signed parameters are planted where a run has them, and looked for wherever a run leaves something."""

import base64
import contextlib
import io
import json
import logging
import pickle
import traceback
import urllib.parse

import pandas as pd
import pytest

from imgtag_pipeline import label
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.emulator.faults import parse_all
from imgtag_pipeline.errors import ConfigError, ImgtagError
from imgtag_pipeline.policy import RetryPolicy
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.testing import put_object

SECRET = "canarysecretQ7x"
TOKEN = "canarytokenW9z"
SIGNATURE = "canarysigK3v"
CANARIES = (SECRET, TOKEN, SIGNATURE)
ACCOUNT = Account(key_id="canary-id", secret=SECRET, security_token=TOKEN)
KEYS = Keys("canary-id", SECRET, TOKEN, app_id="1000001")
QUICK = RetryPolicy(base=0.001, cap=0.002, time_limit=0.05)
REGION = {"oss_labels": {"region": "cn-hangzhou"}, "oss_tagimage": {"region": "cn-hangzhou"}}
FAULTS = {
    "calm": (),
    "chaos": ("reset=0.1", "garbage=0.1", "cut=0.1", "html=0.1", "throttle=0.05", "http:502=0.1"),
    "refused": ("error:SignatureDoesNotMatch#1",),
    "bad image": ("error:InvalidImage.URL=0.5",),
    "down": ("http:503",),
    "unreachable": (),
}
SIGNED = (
    f"?OSSAccessKeyId=LTAIcanary&Expires=1999999999&Signature={SIGNATURE}",
    f"?OSSAccessKeyId=a&Expires=1&Signature={SIGNATURE}&security-token={TOKEN}",
    f"?x-oss-signature={SIGNATURE}&x-oss-credential=c&x-oss-security-token={TOKEN}",
    f"?X-Amz-Signature={SIGNATURE}&X-Amz-Security-Token={TOKEN}",
    f"?q-sign-algorithm=sha1&q-ak=a&q-signature={SIGNATURE}&x-cos-security-token={TOKEN}",
)

pytestmark = pytest.mark.emulator(is_synthetic=True, accounts=(ACCOUNT,), seed=3)


def spellings(canary):
    """As it is, and as an encoding would hide it."""
    data = canary.encode()
    yield from (data, urllib.parse.quote(canary).encode(), data.hex().encode(), canary.encode("utf-16-le"))
    yield from (base64.b64encode(data[shift:])[:12] for shift in range(3))


def found_in(data):
    data = data if isinstance(data, bytes) else str(data).encode(errors="replace")
    return [canary for canary in CANARIES if any(spelling in data for spelling in spellings(canary))]


@contextlib.contextmanager
def logged():
    """Everything that any logger says at DEBUG."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield stream
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def traced(error):
    """The traceback as the most talkative tools show it: every frame's local variables, all causes and contexts."""
    shown = io.StringIO()
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        shown.write("".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()))
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "imgtag_pipeline" in frame.f_code.co_filename:
                shown.write("".join(f"{name}={value!r}\n" for name, value in frame.f_locals.items()))
        error = error.__cause__ or error.__context__
    return shown.getvalue()


def provider_of(emulator, address, where="right"):
    endpoint = emulator.url if where != "unreachable" else "http://127.0.0.1:9"
    return get(address, endpoint=endpoint, credentials=KEYS, **REGION.get(address, {}))


def references(address, rows=24):
    home = "oss://bucket" if address.startswith("oss") else "https://img.example"
    return [f"{home}/{number}.jpg{SIGNED[number % len(SIGNED)]}" for number in range(rows)]


def places(error, provider, table, folder):
    """What a run leaves behind, by name."""
    yield "repr of the provider", repr(provider)
    try:
        yield "pickle of the provider", pickle.dumps(provider)
    except ConfigError as refusal:
        yield "refusal to pickle", str(refusal)
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()
            yield "name of a file", str(path)
    if error is not None:
        yield "error", f"{error!r} {error} {vars(error).keys()}"
        yield "pickle of the error", pickle.dumps(error)
        yield "report of the error", repr(error.report) + json.dumps(error.report.to_dict())
        yield "traceback", traced(error)
        table = error.partial
    if table is not None:
        yield "long table", table.to_csv() + repr(table.attrs)


@pytest.mark.parametrize("trouble", FAULTS)
@pytest.mark.parametrize(
    "address",
    [
        "viapi/TaggingImage",
        pytest.param("tencent_v2", marks=pytest.mark.heavy),
        pytest.param("oss_labels", marks=pytest.mark.heavy),
    ],
)
def test_no_secret_and_no_signature_is_left_anywhere(emulator, tmp_path, figure, capfd, address, trouble):
    """Logs at DEBUG, tracebacks with locals, pickles, journal, parts, attrs, reports, tables, output: 0 found."""
    if address.startswith("oss"):
        for number in range(24):
            put_object(emulator, "bucket", f"{number}.jpg", b"pixels")
    emulator.faults.set(parse_all(FAULTS[trouble]))
    provider = provider_of(emulator, address, trouble)
    error = table = None
    with logged() as log:
        try:
            table = label(
                pd.DataFrame({"url": references(address)}),
                provider=provider,
                checkpoint=str(tmp_path / "store"),
                qps=1000,
                concurrency=4,
                policy=QUICK,
                progress=True,
            )
        except ImgtagError as caught:
            error = caught
    seen = [("log", log.getvalue()), ("output", "".join(capfd.readouterr()))]
    seen += list(places(error, provider, table, tmp_path))
    leaks = {name: found_in(data) for name, data in seen if found_in(data)}
    assert leaks == {}
    figure(
        "canary secrets, tokens, signatures: logs, tracebacks, pickles, store, tables",
        "{count} runs",
        "0 found in {worst} places a run at most",
        len(seen),
    )


def test_the_canaries_are_found_where_they_are():
    """The search itself works, or the zeros above would mean nothing."""
    for text in (
        SECRET,
        f"a{TOKEN}b",
        urllib.parse.quote(SIGNATURE),
        base64.b64encode(b"x" + SECRET.encode()).decode(),
    ):
        assert found_in(text)


@pytest.mark.parametrize("secret", [SECRET, "wrong"])
def test_the_command_line_shows_none(desk, secret):
    """Good keys or bad ones: nothing of them in output, table, store."""
    desk.write(0, references("viapi/TaggingImage"))
    desk.emulator.faults.set(())
    env = {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret}
    process = desk.start(env=env)
    assert process.wait() == (0 if secret == SECRET else 3), process.stderr
    left = [process.stdout, process.stderr]
    left += [path.read_bytes() for path in desk.folder.rglob("*") if path.is_file() and path != desk.source]
    assert [found_in(data) for data in left if found_in(data)] == []
