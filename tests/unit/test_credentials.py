"""Keys: where they come from, that they do not leak, and that temporary ones are fetched again in time."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers.toolkit import credentials
from imgtag_pipeline.providers.toolkit.credentials import (
    AlibabaChain,
    AlibabaDefault,
    Credentials,
    Environment,
    Fetched,
    Keys,
    from_env,
    renewed,
)

START = datetime(2024, 1, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def no_environment(monkeypatch):
    """No key is set."""
    for sets in credentials.VARIABLES.values():
        for names in sets:
            for name in names.values():
                monkeypatch.delenv(name, raising=False)


def test_keys_show_nothing_of_themselves():
    """Neither repr nor the account's name holds the id, the secret or the token."""
    keys = Keys("canary-id", "canary-secret", "canary-token")
    assert "canary" not in repr(keys)
    assert "canary" not in keys.account
    keys = Keys("canary-id", "canary-secret")
    assert "canary" not in keys.account
    assert keys.account == Keys("canary-id", "other").account != Keys("other-id", "canary-secret").account


def test_keys_are_a_source_of_themselves_and_refuse_to_be_pickled():
    """They can be handed to a provider as they are, copied in memory, but not put on a wire."""
    keys = Keys("id", "secret")
    assert isinstance(keys, Credentials)
    assert keys.keys() is keys
    assert copy.deepcopy(keys) is copy.copy(keys) is keys
    with pytest.raises(ConfigError, match="not put into a pickle"):
        pickle.dumps(keys)


@pytest.mark.parametrize("wrong", ["", "a b", "a\n", "ключ"])
def test_keys_that_cannot_be_keys_are_refused(wrong):
    """The message does not repeat them."""
    with pytest.raises(ConfigError, match="access_key_secret") as caught:
        Keys("id", wrong)
    assert not wrong or wrong not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "environ", "expected"),
    [
        (
            "alibaba",
            {"ALIBABA_CLOUD_ACCESS_KEY_ID": " a ", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b"},
            Keys("a", "b"),
        ),
        (
            "alibaba",
            {
                "ALIBABA_CLOUD_ACCESS_KEY_ID": "a",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b",
                "ALIBABA_CLOUD_SECURITY_TOKEN": "t",
            },
            Keys("a", "b", "t"),
        ),
        (
            "oss",
            {
                "OSS_ACCESS_KEY_ID": "o",
                "OSS_ACCESS_KEY_SECRET": "p",
                "OSS_SESSION_TOKEN": "t",
                "ALIBABA_CLOUD_ACCESS_KEY_ID": "a",
                "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b",
            },
            Keys("o", "p", "t"),
        ),
        (
            "oss",
            {"ALIBABA_CLOUD_ACCESS_KEY_ID": "a", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b"},
            Keys("a", "b"),
        ),
        (
            "tencent",
            {"TENCENT_APP_ID": "1", "TENCENT_SECRET_ID": "a", "TENCENT_SECRET_KEY": "b"},
            Keys("a", "b", app_id="1"),
        ),
    ],
)
def test_keys_come_from_the_environment(family, environ, expected):
    """The vendor's variables; OSS falls back to Alibaba's."""
    assert from_env(family, environ) == expected


@pytest.mark.parametrize(
    ("family", "environ", "said"),
    [
        ("alibaba", {}, "ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        ("alibaba", {"ALIBABA_CLOUD_ACCESS_KEY_ID": "canary"}, "not ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
        ("oss", {}, "OSS_ACCESS_KEY_ID, OSS_ACCESS_KEY_SECRET (or ALIBABA_CLOUD"),
        ("oss", {"OSS_ACCESS_KEY_SECRET": "canary"}, "not OSS_ACCESS_KEY_ID"),
        ("tencent", {}, "TENCENT_APP_ID, TENCENT_SECRET_ID, TENCENT_SECRET_KEY"),
        ("tencent", {"TENCENT_SECRET_ID": "canary", "TENCENT_SECRET_KEY": "x"}, "not TENCENT_APP_ID"),
    ],
)
def test_missing_variables_are_named(family, environ, said):
    """And never what the others hold."""
    with pytest.raises(ConfigError) as caught:
        from_env(family, environ)
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


def test_nothing_is_read_before_it_is_needed(no_environment):
    """A source can be built, shown and pickled where there are no keys; asking it is the mistake."""
    source = Environment("tencent")
    assert pickle.loads(pickle.dumps(source)) == source
    assert repr(source) == "Environment('tencent')"
    with pytest.raises(ConfigError, match="TENCENT_APP_ID"):
        source.keys()


def test_the_environment_is_read_again_on_request(no_environment, monkeypatch):
    """After an expiry: True when other keys are there now."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "b")
    source = Environment("alibaba")
    assert source.keys() == Keys("a", "b")
    assert not renewed(source)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "c")
    assert source.keys() == Keys("a", "b")
    assert renewed(source)
    assert source.keys() == Keys("a", "c")


def test_the_environment_comes_before_the_chain(no_environment, monkeypatch):
    """With variables set, the vendor's library is not asked."""
    monkeypatch.setattr(credentials, "_chain_client", lambda: pytest.fail("asked the chain"))
    monkeypatch.setenv("OSS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("OSS_ACCESS_KEY_SECRET", "b")
    assert AlibabaDefault("oss").keys() == Keys("a", "b")


def test_without_variables_the_chain_is_asked(no_environment, monkeypatch):
    """When the library is installed."""
    pytest.importorskip("alibabacloud_credentials")
    monkeypatch.setattr(credentials, "_chain_client", lambda: client_of("a", "b", "t"))
    keys = AlibabaDefault().keys()
    assert (keys.access_key_id, keys.security_token) == ("a", "t")


def test_without_library_the_extra_is_named(no_environment, monkeypatch):
    """The message says what to set and what to install."""
    monkeypatch.setattr(credentials, "_CHAIN", "no_such_library")
    with pytest.raises(ConfigError, match=r"imgtag_pipeline\[oss\]"):
        AlibabaDefault().keys()


def client_of(*found):
    return SimpleNamespace(
        get_credential=lambda: SimpleNamespace(
            access_key_id=found[0], access_key_secret=found[1], security_token=found[2]
        )
    )


def test_a_chain_without_keys_says_what_to_do():
    """The library's own text, which may quote replies, is not repeated."""

    def fail():
        raise RuntimeError("canary: metadata said no")

    for client in (SimpleNamespace(get_credential=fail), client_of(None, None, None)):
        with pytest.raises(ConfigError, match="credentials chain gave no keys") as caught:
            AlibabaChain(client=client).keys()
        assert "canary" not in str(caught.value)
        assert caught.value.__cause__ is None


ASK_THE_CHAIN = """
import socket
from imgtag_pipeline.providers.toolkit.credentials import AlibabaDefault

def refuse(*_):
    raise OSError("nobody is to be asked over the network")

socket.socket.connect = socket.socket.connect_ex = refuse
print(AlibabaDefault().keys().access_key_id)
"""


def test_the_real_chain_reads_a_profile(tmp_path):
    """The vendor's library finds its profile file, in a process of its own: it reads its variables when imported."""
    pytest.importorskip("alibabacloud_credentials")
    profile = tmp_path / "credentials"
    profile.write_text("[default]\ntype = access_key\naccess_key_id = profile-id\naccess_key_secret = profile-secret\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALIBABA_", "OSS_"))}
    where = {
        "ALIBABA_CLOUD_CREDENTIALS_FILE": str(profile),
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK_THE_CHAIN], env=kept | where, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("profile-id", "")


def test_temporary_keys_are_fetched_again_before_they_run_out():
    """The old ones serve until the new ones are there; nobody waits for that."""
    clock, fetched, came = Clock(), [], threading.Event()

    def fetch():
        fetched.append(Keys(f"id-{len(fetched)}", "secret", "token", clock() + timedelta(hours=1)))
        if len(fetched) > 1:
            came.set()
        return fetched[-1]

    source = Fetched(fetch, now=clock)
    assert [source.keys().access_key_id for _ in range(3)] == ["id-0"] * 3
    clock.time += timedelta(minutes=56)
    assert source.keys().access_key_id in ("id-0", "id-1")
    assert came.wait(5)
    clock.time += timedelta(hours=2)
    assert source.keys().access_key_id == "id-2"
    assert len(fetched) == 3


def test_a_source_that_has_no_keys_any_more_keeps_the_old_ones(no_environment, monkeypatch):
    """The run ends with the vendor's refusal of them, not with another error in its place."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")
    source = Environment("alibaba")
    keys = source.keys()
    monkeypatch.delenv("ALIBABA_CLOUD_ACCESS_KEY_ID")
    assert not renewed(source)
    assert source.keys() is keys


def test_a_failed_refresh_in_the_background_keeps_the_old_keys():
    """They still hold; the next question tries again."""
    clock, tried = Clock(), threading.Event()
    answers = [Keys("first", "secret", "token", START + timedelta(hours=1))]

    def fetch():
        if answers:
            return answers.pop()
        tried.set()
        raise ConfigError("no network")

    source = Fetched(fetch, now=clock)
    source.keys()
    clock.time += timedelta(minutes=57)
    assert source.keys().access_key_id == "first"
    assert tried.wait(5)
    assert source.keys().access_key_id == "first"
    clock.time += timedelta(hours=1)
    with pytest.raises(ConfigError, match="no network"):
        source.keys()


def test_a_chain_travels_without_what_it_fetched():
    """A pickle of the default source holds its kind only."""
    assert b"secret" not in pickle.dumps(AlibabaDefault("oss"))
    assert isinstance(pickle.loads(pickle.dumps(AlibabaChain())), AlibabaChain)
    with pytest.raises(ConfigError, match="not put into a pickle"):
        pickle.dumps(Fetched(lambda: Keys("a", "b")))


NO_KEYS = """
import sys, time
from alibabacloud_credentials import provider
host = "_EcsRamRoleCredentialsProvider__metadata_service_host"
build = provider.EcsRamRoleCredentialsProvider.__init__

def at_loopback(self, **words):
    build(self, **words)
    setattr(self, host, "127.0.0.1:1")

provider.EcsRamRoleCredentialsProvider.__init__ = at_loopback
from imgtag_pipeline.cli import main
sys.argv = ["imgtag", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "command",
    [["doctor", "--provider", "viapi/TaggingImage"], ["label", "in.csv", "--out", "o.csv"]],
    ids=lambda one: one[0],
)
@pytest.mark.parametrize("is_disabled", ["true", "false"])
def test_without_keys_nothing_but_our_sentence_is_printed(tmp_path, command, is_disabled):
    """The vendor's library prints no traceback and no log line; the sentence says where keys were looked for."""
    pytest.importorskip("alibabacloud_credentials")
    (tmp_path / "in.csv").write_text("url\nhttps://a.example/1.jpg\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALIBABA", "OSS_"))}
    env = {**kept, "HOME": str(tmp_path), "ALIBABA_CLOUD_ECS_METADATA_DISABLED": is_disabled}
    words = [*command, "--provider", "viapi/TaggingImage"] if command[0] == "label" else command
    argv = [sys.executable, "-c", NO_KEYS, *words]
    ended = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    lines = [line for line in ended.stderr.splitlines() if "no --checkpoint" not in line]
    assert len(lines) == 1, ended.stderr
    assert "tried: the environment's variables, ~/.aliyun/config.json, ~/.alibabacloud/credentials" in lines[0]
    assert ("metadata" in lines[0]) == (is_disabled == "false")
    assert "Traceback" not in ended.stdout + ended.stderr
