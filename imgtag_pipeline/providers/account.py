"""Whose quota a call counts for. Telling it fetches nothing: a plan needs neither keys nor a network."""

from __future__ import annotations

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers.credentials import Credentials


def account_of(credentials: Credentials) -> str:
    """The account's short name; "unknown" where there are no keys, or none before a vendor's chain is asked for them.

    `prepare` asks, before the first call, and says what is missing.
    """
    if not getattr(credentials, "is_at_hand", True):
        return "unknown"
    try:
        return credentials.keys().account
    except ConfigError:
        return "unknown"
