"""One suite over every provider that is found, built-in or installed."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Mapping
from typing import Any

import pytest

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers import Provider, describe, get, names
from imgtag_pipeline.providers.contract import Preparing
from imgtag_pipeline.tagger.objects.engine import PATH as NETWORK
from imgtag_pipeline.testing.provider import CANARY, ProviderContract

REQUIRED: Mapping[str, Mapping[str, Any]] = {
    "viapi/EvaluateCertificateQuality": {"certificate_type": "IDCard"},
    "onnx": {"model": str(NETWORK)},
}
NEED_NO_KEYS = {"local", "onnx"}


def with_canary(address: str) -> Provider:
    keys = {} if address in NEED_NO_KEYS else {"credentials": CANARY}
    if address == "onnx":
        pytest.importorskip("onnxruntime")
    return get(address, **keys, **REQUIRED.get(address, {}))


@pytest.fixture(params=names())
def provider(request) -> Provider:
    return with_canary(request.param)


class TestEveryProvider(ProviderContract):
    """All addresses that the registry knows."""


@pytest.mark.parametrize("option", [{"image_mode": "bytes"}, {"signature": "acs3"}])
class TestWaysOfVIAPI(ProviderContract):
    """The upload path and the other signature."""

    @pytest.fixture
    def provider(self, option) -> Provider:
        return get("viapi/TaggingImage", credentials=CANARY, **option)


def test_it_is_frozen_and_travels_without_keys(provider):
    """A provider cannot be changed; one whose keys come from the environment can be pickled."""
    field = dataclasses.fields(provider)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(provider, field, None)
    plain = get(provider.address, **REQUIRED.get(provider.address, {}))
    assert pickle.loads(pickle.dumps(plain)) == plain


def test_one_that_needs_keys_says_so_before_the_first_call(provider, monkeypatch):
    """Without an environment, `prepare` is a mistake that names the variables."""
    if provider.address in NEED_NO_KEYS:
        return
    assert isinstance(provider, Preparing)
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "OSS_ACCESS_KEY_ID", "TENCENT_APP_ID", "TENCENT_SECRET_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("imgtag_pipeline.providers.toolkit.credentials._CHAIN", "no_such_library")
    with pytest.raises(ConfigError, match="_ID"):
        get(provider.address, **REQUIRED.get(provider.address, {})).prepare()
    provider.prepare()
    assert provider.refresh() is False


def test_described_is_what_is_found():
    """`imgtag providers` and the README list the same."""
    assert [one.address for one in describe()] == names()
