"""Secrets and signed parameters are planted where a run has them, and looked for wherever a run leaves something."""

import base64
import contextlib
import io
import json
import logging
import pickle
import sys
import tempfile
import traceback
import urllib.parse
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from imgtag_pipeline import enrich, label, plan
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.emulator.faults import parse_all
from imgtag_pipeline.errors import ConfigError, ImgtagError
from imgtag_pipeline.pipeline.stores import compact, ledger, status
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.run.retry_policy import RetryPolicy
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
    f"?sign=q-sign-algorithm%3Dsha1%26q-ak%3Da%26q-signature%3D{SIGNATURE}&x-cos-security-token={TOKEN}",
    f"?sv=2022-11-02&sr=b&se=2030-01-01&skoid={TOKEN}&sig={SIGNATURE}",
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


def told_by(data):
    """A file's bytes; of a Parquet file also its rows and its schema's metadata, which compression hides."""
    if not (data.startswith(b"PAR1") and data.endswith(b"PAR1")):
        return data
    table = pq.read_table(io.BytesIO(data))
    fields = [field.metadata for field in table.schema]
    return b"\n".join([data, *(str(part).encode() for part in (table.to_pylist(), table.schema.metadata, fields))])


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
    todo, seen = [error], set()
    while todo:
        error = todo.pop()
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        todo += [error.__cause__, error.__context__]
        shown.write(f"{error!r} {error} {vars(error)!r}\n")
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if Path(frame.f_code.co_filename) != Path(__file__):  # the caller's own variables are the caller's
                shown.write("".join(f"{name}={value!r}\n" for name, value in frame.f_locals.items()))
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
            yield path.name, told_by(path.read_bytes())
            yield "name of a file", str(path)
    if error is not None:
        yield "error", f"{error!r} {error} {vars(error).keys()}"
        yield "pickle of the error", pickle.dumps(error)
        yield "report of the error", repr(error.report) + json.dumps(error.report.to_dict())
        yield "traceback", traced(error)
        table = error.partial
    if table is not None:
        yield "long table", table.to_csv() + repr(table.attrs)
        yield "long table in a notebook", table._repr_html_()


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


@pytest.mark.parametrize("where", ["served", "unreachable", "not allowed"])
def test_images_downloaded_by_signed_urls_leave_no_signature(emulator, tmp_path, figure, capfd, where):
    """What the tagger here reads by signed URLs, found, missing or refused: 0 found."""
    home = "http://127.0.0.1:9" if where == "unreachable" else f"{emulator.url}/_emulator/images"
    urls = [f"{home}/{number}.jpg{SIGNED[number % len(SIGNED)]}" for number in range(10)]
    proxied = [f"{home}/proxy?w=1&url={urllib.parse.quote(url, safe='')}" for url in urls]
    with logged() as log:
        table = label(
            pd.DataFrame({"url": urls + proxied}),
            checkpoint=str(tmp_path / "store"),
            policy=QUICK,
            allow_private=where != "not allowed",
        )
    assert set(table["status"]) == {"failed"}
    seen = [("log", log.getvalue()), ("output", "".join(capfd.readouterr()))]
    seen += list(places(None, get("local"), table, tmp_path))
    assert {name: found_in(data) for name, data in seen if found_in(data)} == {}
    figure("signed URLs of images that are read here", "{count} runs", "0 found in {worst} places at most", len(seen))


def test_the_canaries_are_found_where_they_are():
    """The search itself works, or the zeros above would mean nothing."""
    for text in (
        SECRET,
        f"a{TOKEN}b",
        urllib.parse.quote(SIGNATURE),
        base64.b64encode(b"x" + SECRET.encode()).decode(),
    ):
        assert found_in(text)


@pytest.mark.parametrize("place", ["error", "metadata"])
def test_the_canaries_are_found_in_a_compressed_part(place):
    """Where zstd hides a secret from a search of the bytes, and in the metadata, it is found all the same."""
    errors = [f"image {number} of {number * number}" for number in range(999)]
    table = pa.table({"error": [*errors, f"a{SECRET}b"] if place == "error" else errors})
    table = table.replace_schema_metadata({"imgtag": f"a{SECRET}b"} if place == "metadata" else None)
    part = io.BytesIO()
    pq.write_table(table, part, compression="zstd", use_dictionary=False, write_statistics=False)
    assert place == "metadata" or found_in(part.getvalue()) == [], "this part hides nothing"
    assert found_in(told_by(part.getvalue())) == [SECRET]


@pytest.mark.parametrize("secret", [SECRET, "wrong"])
def test_the_command_line_shows_none(desk, secret):
    """Good keys or bad ones: nothing of them in output, table, store."""
    desk.write(0, references("viapi/TaggingImage"))
    desk.emulator.faults.set(())
    env = {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": secret}
    process = desk.start(env=env)
    assert process.wait() == (0 if secret == SECRET else 3), process.stderr
    left = [process.stdout, process.stderr]
    left += [told_by(path.read_bytes()) for path in desk.folder.rglob("*") if path.is_file() and path != desk.source]
    assert [found_in(data) for data in left if found_in(data)] == []


class Telltale(MemoryFileSystem):
    """A store whose library shows, in its exceptions, what it signed and with what; `fails` names what fails."""

    protocol = "telltale"
    cachable = False
    fails = frozenset()

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("telltale://", "memory://"))

    def _refuse(self, what):
        if what in self.fails:
            url = f"https://bkt.example/a{SIGNED[0]}"
            raise OSError(f"403 for {url}, Authorization: OSS id:{SIGNATURE}, x-oss-security-token: {TOKEN}")

    def info(self, path, **words):
        self._refuse("info")
        return super().info(path, **words)

    def find(self, path, **words):
        self._refuse("find")
        return super().find(path, **words)

    def _open(self, path, *args, **words):
        self._refuse("open")
        return super()._open(path, *args, **words)

    def pipe_file(self, path, value, **words):
        self._refuse("put")
        super().pipe_file(path, value, **words)

    def put_file(self, here, there, **words):
        self._refuse("put")
        super().put_file(here, there, **words)


fsspec.register_implementation("telltale", Telltale, clobber=True)
VERBS = {
    "label": lambda home, provider, options: label(
        pd.DataFrame({"url": references("viapi")}),
        provider=provider,
        checkpoint="telltale://bkt/store",
        storage_options=options,
        policy=QUICK,
    ),
    "enrich in": lambda home, provider, options: enrich(
        "telltale://bkt/*.csv", str(home / "out.csv"), provider=provider, storage_options=options, overwrite=True
    ),
    "enrich out": lambda home, provider, options: enrich(
        str(home / "in.csv"), "telltale://bkt/out/", provider=provider, storage_options=options, overwrite=True
    ),
    "enrich out file": lambda home, provider, options: enrich(
        str(home / "in.csv"), "telltale://bkt/out.csv", provider=provider, storage_options=options, overwrite=True
    ),
    "plan": lambda home, provider, options: plan("telltale://bkt/in.csv", provider=provider, storage_options=options),
    "accessor": lambda home, provider, options: pd.DataFrame({"url": ["a"]}).imgtag.label(
        col="no such column", provider=provider, storage_options=options
    ),
    "bad option": lambda home, provider, options: label(
        pd.DataFrame({"url": ["a"]}), provider=provider, storage_options=options, qps=-1
    ),
    "redis": lambda home, provider, options: label(
        pd.DataFrame({"url": ["https://img.example/a.jpg"]}),
        provider=provider,
        redis_url=f"redis://:{SECRET}@127.0.0.1:9/0",
    ),
    "status": lambda home, provider, options: status("telltale://bkt/store", storage_options=options),
    "ledger": lambda home, provider, options: ledger("telltale://bkt/store", storage_options=options),
    "compact": lambda home, provider, options: compact("telltale://bkt/store", storage_options=options),
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Everything that a run leaves on this machine, spool, quota books and temporary files too, lies in here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "in.csv").write_text("url\n" + "".join(f"https://img.example/{n}.jpg\n" for n in range(5)))
    store = fsspec.filesystem("telltale")
    store.pipe_file("/bkt/in.csv", (tmp_path / "in.csv").read_bytes())
    yield tmp_path
    Telltale.fails = frozenset()
    store.rm("/bkt", recursive=True)


@pytest.mark.parametrize("fails", ["nothing", "info", "find", "open", "put"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_talkative_storage_library_tells_nothing_through_us(emulator, home, figure, capfd, monkeypatch, verb, fails):
    """Storage options, a library's exceptions, the spool, the books: 0 found, in any chain, frame, file or name."""
    monkeypatch.setattr(Telltale, "fails", frozenset([fails]))
    options = {"key": "id", "secret": SECRET, "token": TOKEN, "endpoint": "https://bkt.example"}
    seen = []
    with logged() as log:
        try:
            result = VERBS[verb](home, provider_of(emulator, "viapi/TaggingImage"), options)
            seen.append(("result", repr(result) + getattr(result, "_repr_html_", str)() + repr(vars(result))))
        except ImgtagError as error:
            seen += [("error", str(error)), ("pickle", pickle.dumps(error)), ("traceback", traced(error))]
        except TypeError:  # a list has no attributes
            seen.append(("result", repr(result)))
    seen += [("log", log.getvalue()), ("output", "".join(capfd.readouterr()))]
    for path in home.rglob("*"):
        seen.append((f"name of {path.name}", str(path)))
        if path.is_file():
            seen.append((path.name, told_by(path.read_bytes())))
    monkeypatch.undo()
    store = fsspec.filesystem("telltale")
    seen += [(name, name.encode() + told_by(store.cat_file(name))) for name in store.find("/bkt")]
    assert {name: found_in(data) for name, data in seen if found_in(data)} == {}
    figure(
        "secrets of a store whose library shows them", "{count} runs", "0 found in {worst} places at most", len(seen)
    )


def handled_while_enriching(folder):
    """The error of a run that is started while another exception is handled."""
    try:
        raise LookupError("the caller's")
    except LookupError:
        enrich(str(folder / "none.csv"), str(folder / "out.csv"))


def test_an_error_keeps_what_the_caller_was_handling(tmp_path):
    """Only what lies behind our error is cut off, not what was the caller's own before."""
    with pytest.raises(ConfigError) as caught:
        handled_while_enriching(tmp_path)
    assert str(caught.value.__context__) == str(LookupError("the caller's"))


WATCHED = frozenset(("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn"))
STARTED = []
sys.addaudithook(lambda event, args: STARTED.append(event) if event in WATCHED else None)


def test_no_child_process_is_started(emulator, tmp_path):
    """What no process is started with, `ps` cannot show."""
    STARTED.clear()
    label(
        pd.DataFrame({"url": references("viapi")}),
        provider=provider_of(emulator, "viapi/TaggingImage"),
        checkpoint=str(tmp_path / "store"),
        qps=1000,
    )
    assert STARTED == []


def test_ps_shows_no_secret(desk):
    """The command line and its keys: these are in the environment, which only their owner may read."""
    desk.write(200)
    process = desk.start(qps=20, env={"ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET})
    seen = []
    while process.is_running():
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                seen.append(path.read_bytes())
        process.signal()
    assert seen
    assert [found_in(data) for data in seen if found_in(data)] == []
