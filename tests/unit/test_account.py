"""Whose quota a call counts for."""

import pytest

from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.providers.toolkit.account import account_of

KEYS = Keys("key-id", "secret")


@pytest.mark.parametrize("endpoint", [None, "https://imagerecog-vpc.cn-shanghai.aliyuncs.com"])
def test_an_account_at_the_vendor_is_one_account(endpoint):
    """Whichever of the vendor's addresses is called, the vendor counts for the account."""
    assert account_of(KEYS, endpoint) == KEYS.account


@pytest.mark.parametrize("address", ["viapi/TaggingImage", "tencent_v1", "tencent_v2", "oss_labels"])
def test_two_emulators_are_two_clouds(address):
    """Runs against one do not use up, or raise, the quota of the other, nor that of the real account."""
    keys = {
        get(address, credentials=KEYS, region="cn-shanghai", endpoint=endpoint).quota.key
        if address == "oss_labels"
        else get(address, credentials=KEYS, endpoint=endpoint).quota.key
        for endpoint in ("http://127.0.0.1:1001", "http://127.0.0.1:1002", "https://example.aliyuncs.com")
    }
    assert len(keys) == 3


def test_temporary_keys_stay_one_account():
    """Their ids change every hour; quota, caps and ledger go on under the same name."""
    first, second = (Keys(f"STS.{number}", "secret", security_token="t") for number in range(2))
    assert first.account == second.account != KEYS.account
