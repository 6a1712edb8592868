"""What the environment's variables say of storage, the spool and logging. Keys of providers are read elsewhere."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_OSS_KEYS: Final = (
    ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"),
    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"),
)


def oss_storage() -> dict[str, str]:
    """`key`, `secret` and `token` for ossfs; empty where the environment has no pair of keys."""
    for key, secret, token in _OSS_KEYS:
        if os.environ.get(key) and os.environ.get(secret):
            found = {"key": os.environ[key], "secret": os.environ[secret]}
            return found | ({"token": os.environ[token]} if os.environ.get(token) else {})
    return {}


def spool_root() -> Path:
    """Where answers on their way to remote stores lie: IMGTAG_SPOOL, else the user's cache folder (XDG_CACHE_HOME)."""
    if chosen := os.environ.get("IMGTAG_SPOOL"):
        return Path(chosen).expanduser()
    old = Path.home() / ".cache"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or old)
    return cache / "imgtag_pipeline" / "spool"


def log_format() -> str | None:
    """IMGTAG_LOG: "json" or "text"; None where it is not set."""
    return os.environ.get("IMGTAG_LOG", "").strip().lower() or None
