"""Completes a provider that computes here: without a vendor there is no quota, no price, nothing to sign or check."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Call, Price, Quota, Reply, Request
from imgtag_pipeline.providers.contract import Embedded, Provider

_FREE: Final = Price(tiers=((None, 0),))


@dataclass(frozen=True)
class WithoutVendor:
    """What a provider without a vendor lacks; `completed` adds what it has."""

    embedded: Embedded

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

    def __reduce__(self) -> tuple[Any, ...]:
        return completed, (self.embedded,)


def completed(provider: Provider | Embedded) -> Provider:
    """The provider itself, or one without a vendor made whole."""
    if isinstance(provider, Provider):
        return provider
    own = frozenset(name for name in dir(provider) if not name.startswith("_") and not hasattr(WithoutVendor, name))
    whole: Provider = _class_with(own)(provider)
    return whole


@cache
def _class_with(names: frozenset[str]) -> Any:
    """The class that hands these names on. They stand on it, as Python's check of protocols looks at the class."""
    return type("WithoutVendor", (WithoutVendor,), {name: _handed_on(name) for name in names})


def _handed_on(name: str) -> property:
    return property(lambda self: getattr(self.embedded, name))
