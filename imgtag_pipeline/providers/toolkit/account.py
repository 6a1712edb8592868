"""Whose quota a call counts for. Telling it fetches nothing: a plan needs neither keys nor a network."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers.toolkit.credentials import Credentials

VENDORS: Final = (".aliyuncs.com", ".aliyun.com", ".myqcloud.com", ".tencentcloudapi.com", ".tencent-cloud.com")


def account_of(credentials: Credentials, endpoint: str | None = None) -> str:
    """The account's short name; "unknown" where there are no keys, or none before a vendor's chain is asked for them.

    `prepare` asks, before the first call, and says what is missing. An account at an endpoint that is not the vendor's
    (an emulator) is another account than that of the same name elsewhere.
    """
    place = urlsplit(endpoint or "")
    is_own = not place.netloc or (place.hostname or "").endswith(VENDORS)
    return _name(credentials) if is_own else f"{_name(credentials)}@{place.netloc}"


def _name(credentials: Credentials) -> str:
    if not getattr(credentials, "is_at_hand", True):
        return "unknown"
    try:
        return credentials.keys().account
    except ConfigError:
        return "unknown"
