"""`imgtag doctor` against the emulator: each thing that can be wrong is told apart, with at most one call."""

import socket
from pathlib import Path

import pytest
import skimage
from typer.testing import CliRunner

from imgtag_pipeline.cli import app
from imgtag_pipeline.cli.doctor import Doctor
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.testing import put_object, running_emulator

GOOD = Keys("emulator", "emulator", app_id="1000001")
FAMILIES = ["viapi/TaggingImage", "tencent_v1", "tencent_v2"]


def examined(provider, **words):
    """The exit code and what was said."""
    said = []
    code = Doctor(provider, said.append, **words).examine()
    return code, "\n".join(said)


@pytest.mark.parametrize("address", FAMILIES)
def test_a_good_key_is_told_for_one_call(emulator, address):
    """The call is announced with its price before it is made, and it is the only one."""
    code, said = examined(get(address, endpoint=emulator.url, credentials=GOOD))
    assert (code, emulator.ledger.calls) == (0, 1)
    assert said.index("one call will be made to 127.0.0.1") < said.index("accepted")
    assert "BAD" not in said


def test_an_object_of_mine_is_asked_about(emulator, picture):
    """OSS needs an object; without one the mistake is said before any call."""
    provider = get("oss_tagimage", endpoint=emulator.url, credentials=GOOD, region="cn-hangzhou")
    with pytest.raises(ConfigError, match="--image"):
        examined(provider)
    assert emulator.ledger.calls == 0
    url = put_object(emulator, "mine", "a.jpg", picture())
    code, said = examined(provider, image=url)
    assert (code, "the call was answered" in said) == (0, True)


@pytest.mark.parametrize("address", FAMILIES)
@pytest.mark.parametrize(("keys", "advice"), [(("emulator", "wrong"), "secret"), (("nobody", "emulator"), "key")])
def test_a_wrong_key_is_told_apart(emulator, address, keys, advice):
    """The secret or the key id; one call, nothing of the key in what is said."""
    code, said = examined(get(address, endpoint=emulator.url, credentials=Keys(*keys, app_id="1000001")))
    assert (code, emulator.ledger.calls) == (3, 1)
    refused = next(line for line in said.splitlines() if line.startswith("BAD"))
    assert advice in refused or "account" in refused  # Tencent has one code for an unknown key and an unpaid bill
    assert "wrong" not in said


@pytest.mark.emulator(clock_offset=7200)
def test_a_clock_that_is_off_is_measured(emulator):
    """How far, and in which direction; no second call with a corrected time."""
    code, said = examined(get("viapi/TaggingImage", endpoint=emulator.url, credentials=GOOD))
    assert (code, emulator.ledger.calls) == (3, 1)
    assert "s behind of the vendor's" in said


def test_an_endpoint_where_nobody_listens():
    """The address is named, and what to check."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    code, said = examined(get("viapi/TaggingImage", endpoint=f"http://127.0.0.1:{port}", credentials=GOOD))
    assert code == 3
    assert f"127.0.0.1:{port} was not reached: nobody listens" in said


def test_an_endpoint_that_is_something_else(emulator):
    """A web server that is not the vendor's API is not taken for a good key."""
    code, said = examined(get("tencent_v1", endpoint=emulator.url, path="/other", credentials=GOOD))
    assert code == 3
    assert "endpoint" in said


@pytest.mark.parametrize(
    ("refusal", "advice"), [("InvalidApi.NotPurchase", "activate"), ("InvalidAccessKeyId.Inactive", "disabled")]
)
def test_an_action_that_was_not_bought(refusal, advice):
    """What to do in the vendor's console."""
    with running_emulator(accounts=(Account(refusal=refusal),)) as emulator:
        code, said = examined(get("viapi/TaggingImage", endpoint=emulator.url, credentials=GOOD))
    assert code == 3
    assert refusal in said
    assert advice in said


def test_without_a_call(emulator):
    """`--no-call` looks at what can be seen from here and says what stays unproven."""
    code, said = examined(get("viapi/TaggingImage", endpoint=emulator.url, credentials=GOOD), makes_call=False)
    assert (code, emulator.ledger.calls) == (0, 0)
    assert "not proven" in said


def test_local_needs_nothing():
    """No key and no call."""
    code, said = examined(get("local"))
    assert code == 0
    assert "none is needed" in said


def test_command_line(emulator, emulator_environment):
    """The verb, its exit codes, and a mistake in one sentence."""
    run = CliRunner().invoke
    base = ["doctor", "--provider", "viapi/TaggingImage"]
    assert run(app, [*base, "--endpoint", emulator.url]).exit_code == 0
    assert run(app, [*base, "--endpoint", emulator.url, "--no-call"]).exit_code == 0
    wrong = run(app, ["doctor", "--provider", "viapi/Nothing"])
    assert wrong.exit_code == 2
    no_keys = run(app, [*base, "--endpoint", emulator.url], env={"ALIBABA_CLOUD_ACCESS_KEY_SECRET": ""})
    assert no_keys.exit_code == 2
    assert "ALIBABA_CLOUD_ACCESS_KEY_SECRET" in no_keys.output


def test_a_model_on_this_machine_is_told_by_what_it_is():
    """Its hash, engine, words and speed; no word of credentials. With --image, what it tells of it."""
    code, said = examined(get("local"))
    assert code == 0
    assert "EfficientNet-Lite0" in said
    assert "images a second on one core" in said
    assert "credential" not in said
    cup = Path(skimage.__file__).parent / "data" / "coffee.png"
    assert "cup 0.9" in examined(get("local"), image=str(cup))[1]
    assert examined(get("local"), image="/no/such.png")[0] == 3


def test_providers_and_plan_on_the_command_line(tmp_path):
    """A required option is listed; a plan of the default says that nothing is called."""
    listed = CliRunner().invoke(app, ["providers"]).output
    assert "(needs certificate_type=)" in listed
    (tmp_path / "in.csv").write_text("url\nhttps://a.example/1.jpg\nhttps://a.example/2.jpg\n")
    told = CliRunner().invoke(app, ["plan", str(tmp_path / "in.csv")]).output
    assert "no calls, 2 images computed here" in told
