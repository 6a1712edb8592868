"""Completes a provider that computes here: without a vendor there is no quota, no price, nothing to sign or check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Call, Price, Quota, Reply, Request
from imgtag_pipeline.providers.contract import Embedded, Provider

_FREE: Final = Price(tiers=((None, 0),))


@dataclass(frozen=True, slots=True)
class WithoutVendor:
    """The provider with what it lacks; everything else is its own."""

    embedded: Embedded

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "embedded":  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.embedded, name)

    @property
    def quota(self) -> Quota:
        """No limit."""
        return Quota(self.embedded.address, None)

    @property
    def price(self) -> Price:
        """Nothing."""
        return _FREE

    def sign(self, request: Request, moment: Any) -> Request:
        """There is nobody to sign for. Raises `ConfigError`."""
        raise ConfigError(f"{self.embedded.address!r} makes a call, so it needs sign, check, quota and price")

    def check(self, call: Call, reply: Reply) -> None:
        """There is nobody who replies. Raises `ConfigError`."""
        raise ConfigError(f"{self.embedded.address!r} makes a call, so it needs sign, check, quota and price")


def completed(provider: Provider | Embedded) -> Provider:
    """The provider itself, or one without a vendor made whole."""
    if isinstance(provider, Provider):
        return provider
    whole: Any = WithoutVendor(provider)
    found: Provider = whole
    return found
