"""Finding providers by address: what is known, what is said of a mistake, and what a foreign package adds."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from imgtag_pipeline import providers
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Keys, registry
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS
from imgtag_pipeline.providers.local import Local
from imgtag_pipeline.providers.without_vendor import completed

KEYS = Keys("key-id", "secret", app_id="1000001")


def test_all_sixteen_operations_and_two_local_ones_are_found():
    """Five families, twelve actions; nothing else in the folder is taken for a provider."""
    cloud = ["oss_labels", "oss_tagimage", "tencent_v1", "tencent_v2", *(f"viapi/{action}" for action in ACTIONS)]
    assert providers.names() == sorted(["local", "onnx", *cloud])
    assert len(cloud) == 16


@pytest.mark.parametrize("address", [*(name for name in registry.names() if "Certificate" not in name)])
def test_an_address_gives_its_provider(address):
    """The provider says the address it was asked by."""
    options = {"local": {}, "onnx": {"model": "m.onnx"}}.get(address, {"credentials": KEYS})
    assert providers.get(address, **options).address == address


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("viapi/TagingImage", "did you mean 'viapi/TaggingImage'"),
        ("oss_label", "did you mean 'oss_labels'"),
        ("viapi", "known: local"),
        ("local/Anything", "known: local"),
        ("contract", "known: local"),
        ("credentials", "known: local"),
        ("../local", "known: local"),
        ("", "known: local"),
    ],
)
def test_an_unknown_address_is_a_mistake_that_names_the_known_ones(address, said):
    """Also where a file of that name is in the folder but holds no provider."""
    with pytest.raises(ConfigError, match="unknown provider") as caught:
        providers.get(address)
    assert said in str(caught.value)
    assert "viapi/TaggingImage" in str(caught.value)


def test_an_unknown_option_names_those_that_this_address_takes():
    """Options of other actions are not offered."""
    with pytest.raises(ConfigError, match="color_cuont") as caught:
        providers.get("viapi/RecognizeImageColor", color_cuont=5)
    assert "did you mean 'color_count'" in str(caught.value)
    assert "certificate_type" not in str(caught.value)


def test_options_of_a_command_line_become_numbers():
    """`--option color_count=5` comes as text."""
    provider = providers.get("viapi/RecognizeImageColor", color_count="5", qps="2.5", credentials=KEYS)
    assert (provider.color_count, provider.qps) == (5, 2.5)


@pytest.mark.parametrize(
    ("address", "options", "said"),
    [
        ("viapi/RecognizeImageColor", {"color_count": "many"}, "is 'many'; allowed: a whole number"),
        ("viapi/RecognizeImageColor", {"color_count": 11}, "from 1 to 10"),
        ("viapi/RecognizeImageColor", {"color_count": 2.5}, "a whole number"),
        ("viapi/RecognizeImageColor", {"color_count": True}, "a whole number"),
        ("viapi/TaggingImage", {"color_count": 3}, "RecognizeImageColor only"),
        ("viapi/TaggingImage", {"batch_size": 3}, "RecognizeLogo only"),
        ("viapi/RecognizeLogo", {"batch_size": 101}, "from 1 to 100"),
        ("viapi/EvaluateCertificateQuality", {}, "IDCard, BusinessLicense"),
        ("viapi/EvaluateCertificateQuality", {"certificate_type": "Passport"}, "Passport"),
        ("viapi/TaggingImage", {"image_mode": "path"}, "url, bytes"),
        ("viapi/TaggingImage", {"signature": "v4"}, "rpc, acs3"),
        ("viapi/TaggingImage", {"region": "Shanghai!"}, "such as cn-shanghai"),
        ("viapi/TaggingImage", {"qps": 0}, "qps is 0"),
        ("viapi/TaggingImage", {"endpoint": "ftp://host"}, "http(s)://host"),
        ("viapi/TaggingImage", {"endpoint": "http://user:pass@host"}, "http(s)://host"),
        ("viapi/TaggingImage", {"endpoint": "http://host:99999"}, "http(s)://host"),
        ("viapi/TaggingImage", {"credentials": "key"}, "credentials"),
        ("oss_labels", {"threshold": 101}, "from 0 to 100"),
        ("oss_labels", {"signature": "v2"}, "v4, v1"),
        ("oss_labels", {"domain": "img.example.com"}, "belong together"),
        ("oss_labels", {"domain": "http://img.example.com", "bucket": "photos"}, "host name"),
        ("oss_labels", {"domain": "img.example.com", "bucket": "Photos"}, "3 to 63"),
        ("tencent_v1", {"path": "v1"}, "allowed: a path"),
        ("local", {"color_count": "11"}, "10"),
    ],
)
def test_a_wrong_option_is_one_clear_sentence(address, options, said):
    """Said when the provider is built: what was wrong and what is allowed."""
    with pytest.raises(ConfigError) as caught:
        providers.get(address, **options)
    assert said in str(caught.value)
    assert "pass" not in str(caught.value)


def test_every_provider_describes_itself_without_keys(monkeypatch):
    """Titles, documentation, scale, limits and price are there for all; no environment is needed."""
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "OSS_ACCESS_KEY_ID", "TENCENT_SECRET_ID"):
        monkeypatch.delenv(name, raising=False)
    described = providers.describe()
    assert [one.address for one in described] == providers.names()
    for one in described:
        assert one.facts.title
        assert one.facts.docs
        assert one.facts.confidence
        assert one.facts.price
        assert one.facts.qps
        assert one.facts.formats
        assert "credentials" not in one.options


def test_a_foreign_package_adds_a_provider_by_entry_point(monkeypatch):
    """The entry point's name is the address; its object is a class or a factory with typed options."""
    point = EntryPoint("acme", "imgtag_pipeline.providers.local:Local", registry.GROUP)
    monkeypatch.setattr(registry, "_foreign", lambda: {"acme": point})
    assert "acme" in providers.names()
    assert providers.get("acme", color_count="4") == completed(Local(color_count=4))
    assert [one.facts.title for one in providers.describe() if one.address == "acme"] == [Local().facts.title]


def test_a_foreign_address_with_an_action_hands_the_action_on(monkeypatch):
    """`acme/Detect` is asked of the entry point `acme`."""
    point = EntryPoint("acme", "imgtag_pipeline.providers.alibaba_viapi.viapi:Viapi", registry.GROUP)
    monkeypatch.setattr(registry, "_foreign", lambda: {"acme": point})
    assert providers.get("acme/RecognizeFood", credentials=KEYS).address == "viapi/RecognizeFood"


def test_a_foreign_provider_that_cannot_be_loaded_is_a_clear_error(monkeypatch):
    """And does not hide the others."""
    point = EntryPoint("acme", "no_such_module:Thing", registry.GROUP)
    monkeypatch.setattr(registry, "_foreign", lambda: {"acme": point})
    with pytest.raises(ConfigError, match="cannot be loaded"):
        providers.get("acme")
    assert "acme" not in [one.address for one in providers.describe()]


def test_classes_are_handed_out_by_name():
    """`providers.Viapi` is the class of viapi.py; a name without a file is an AttributeError."""
    assert providers.Viapi.__module__ == "imgtag_pipeline.providers.alibaba_viapi.viapi"
    assert providers.OssTagimage.__name__ == "OssTagimage"
    with pytest.raises(AttributeError, match="Nothing"):
        _ = providers.Nothing


def test_a_provider_travels_in_a_pickle_without_secrets(monkeypatch):
    """On the other side the keys come from that environment; keys given as an object stay at home."""
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "canary-id")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canary-secret")
    provider = providers.get("viapi/TaggingImage", qps=5)
    provider.prepare()
    data = pickle.dumps(provider)
    assert b"canary" not in data
    assert "canary" not in repr(provider)
    assert pickle.loads(data) == provider
    assert pickle.loads(data).credentials.keys().access_key_secret == "canary-secret"
    with pytest.raises(ConfigError, match="not put into a pickle"):
        pickle.dumps(providers.get("viapi/TaggingImage", credentials=KEYS))


def test_importing_the_registry_imports_no_provider():
    """Files are read when they are asked for."""
    ends = "('providers.viapi', 'providers.local')"
    code = f"import sys, imgtag_pipeline.providers as p; print([m for m in sys.modules if m.endswith({ends})])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
