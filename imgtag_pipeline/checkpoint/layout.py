"""Where things lie in a tag store: one folder per identity, its manifest, and the names of parts and segments."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from imgtag_pipeline.checkpoint.frames import FORMAT
from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.urls import redact

MANIFEST: Final = "manifest.json"
PARTS: Final = "parts"
JOURNAL: Final = "journal"
PART_SUFFIX: Final = ".parquet"
_VERSIONS: Final = {"format": FORMAT, "schema": schema.VERSION}


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose answers a folder holds: the provider's address and the options that change results."""

    options: Mapping[str, Any]
    text: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Identity:
        """Checked: it must be JSON data."""
        try:
            text = json.dumps(options, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"an identity must be JSON data, and {redact(repr(options))} is not: {error}") from None
        return cls(json.loads(text), text)

    @property
    def address(self) -> str:
        """The provider's address."""
        return str(self.options.get("address") or self.options.get("provider") or "unnamed")

    @property
    def prefix(self) -> str:
        """How the folder names of this provider begin."""
        return re.sub(r"[^A-Za-z0-9_.]+", "-", self.address).strip("-.") or "unnamed"

    @property
    def slug(self) -> str:
        """The folder's name: readable, and one for each identity and format version."""
        whole = json.dumps({"identity": self.text, **_VERSIONS}, sort_keys=True)
        return f"{self.prefix}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"

    @property
    def seed(self) -> int:
        """What the CRC of this identity's journal frames starts from."""
        return zlib.crc32(self.text.encode())


def manifest_of(identity: Identity, now: datetime) -> bytes:
    """The manifest's text."""
    facts = {
        **_VERSIONS,
        "identity": identity.options,
        "made_by": f"imgtag_pipeline {package_version()}",
        "made_at": now.isoformat(timespec="seconds"),
    }
    return (json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def read_manifest(data: bytes, where: str) -> dict[str, Any]:
    """The manifest's facts; a text that is no manifest is refused."""
    try:
        facts = json.loads(data)
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or "format" not in facts or not isinstance(facts.get("identity"), dict):
        raise ConfigError(f"{where}/{MANIFEST} is no manifest of a tag store; restore it, or use another checkpoint")
    return facts


def problem_of(facts: Mapping[str, Any]) -> str | None:
    """Why this version cannot read a folder, or None."""
    found = {name: facts.get(name) for name in _VERSIONS}
    if found == _VERSIONS:
        return None
    return f"it is in {_spoken(found)}; this version reads {_spoken(_VERSIONS)}"


def check_manifest(facts: Mapping[str, Any], identity: Identity, where: str) -> None:
    """Refuse a folder that holds something else than `identity` in this version's format; both are named."""
    problem = problem_of(facts)
    if problem:
        raise ConfigError(f"the tag store {where} cannot be used: {problem}; use another checkpoint folder")
    other = Identity.of(facts["identity"])
    if other.text != identity.text:
        raise ConfigError(
            f"the tag store {where} was made with {redact(other.text)}, and this run has {redact(identity.text)}; "
            "use another checkpoint folder, or the same settings"
        )


def _spoken(versions: Mapping[str, Any]) -> str:
    return f"format version {versions['format']} (schema {versions['schema']})"


def package_version() -> str:
    """The version of this package."""
    try:
        return version("imgtag_pipeline")
    except PackageNotFoundError:
        return "unknown"


def new_token(now: datetime) -> str:
    """A name for one process's use of a store: sorts by time, and no two are alike."""
    return f"{now:%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(5)}"


def token_of(name: str) -> str:
    """The token that a segment's or part's name begins with."""
    return name.rpartition("-")[0]


def local_path(url: str) -> Path | None:
    """The folder on this machine's disk that the URL means, or None when it lies elsewhere."""
    if "://" not in url:
        return Path(url).expanduser()
    parts = urlsplit(url)
    if parts.scheme in ("file", "local"):
        path = unquote(parts.path)
        return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)
    return None
