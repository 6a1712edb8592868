"""Alibaba's places for keys, asked one after the other through `alibabacloud-credentials`; the network comes last.

The library's own chain asks the metadata service before the credentials URI, waits for it for seconds, and prints its
tracebacks; so its single providers are used here, in our order, with a short time limit, and silently.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

METADATA_CONNECT_MS: Final = 500
METADATA_READ_MS: Final = 1000
_LOGGER: Final = "credentials"  # the library's, for all of its modules


@dataclass(frozen=True, slots=True)
class Found:
    """Keys as the library's client gives them."""

    access_key_id: str | None
    access_key_secret: str | None = field(repr=False)
    security_token: str | None = field(repr=False)


@dataclass(slots=True)
class Chain:
    """The first place that has keys is kept and asked again later. `tried` names the places of the last search."""

    places: list[tuple[str, Callable[[], Any]]]
    tried: list[str] = field(default_factory=list)
    _last: Any = None

    def get_credential(self) -> Found:
        """The keys. Raises `LookupError` where no place has any."""
        if self._last is not None:
            return _found(self._last.get_credentials())
        self.tried = []
        for name, build in self.places:
            self.tried.append(name)
            try:
                place = build()
                found = _found(place.get_credentials())
            except Exception:  # noqa: S112 (each place raises kinds of its own, and says no more than that it has none)
                continue
            if found.access_key_id and found.access_key_secret:
                self._last = place
                return found
        raise LookupError("no place has keys")


def _found(credentials: Any) -> Found:
    return Found(credentials.get_access_key_id(), credentials.get_access_key_secret(), credentials.get_security_token())


def alibaba_chain() -> Chain:
    """The chain of this process: environment, OIDC role, profiles, credentials URI, and the ECS role last."""
    from alibabacloud_credentials import provider
    from alibabacloud_credentials.http import HttpOptions
    from alibabacloud_credentials.utils import auth_util

    _silence()
    places: list[tuple[str, Callable[[], Any]]] = [
        ("the environment's variables", provider.EnvironmentVariableCredentialsProvider)
    ]
    if auth_util.enable_oidc_credential:
        places.append(("the OIDC role of this pod", provider.OIDCRoleArnCredentialsProvider))
    places.append(("~/.aliyun/config.json", provider.CLIProfileCredentialsProvider))
    places.append(("~/.alibabacloud/credentials", provider.ProfileCredentialsProvider))
    if auth_util.environment_credentials_uri:
        places.append(("ALIBABA_CLOUD_CREDENTIALS_URI", provider.URLCredentialsProvider))
    if auth_util.environment_ecs_metadata_disabled.lower() != "true":
        limits = HttpOptions(connect_timeout=METADATA_CONNECT_MS, read_timeout=METADATA_READ_MS)
        places.append(
            (
                "the ECS role (metadata service)",
                lambda: provider.EcsRamRoleCredentialsProvider(http_options=limits, async_update_enabled=False),
            )
        )
    return Chain(places)


def _silence() -> None:
    """Take away the handlers that the library gives itself, and keep Python's last resort from printing instead."""
    logger = logging.getLogger(_LOGGER)
    for name, module in list(sys.modules.items()):
        if name.startswith("alibabacloud_credentials."):
            logger.removeHandler(getattr(module, "ch", None))  # type: ignore[arg-type]
    logger.addHandler(logging.NullHandler())
