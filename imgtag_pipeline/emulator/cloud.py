"""What the families of one emulator share: accounts, the clock, used nonces, and the pixels they answer about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.emulator.ledger import Ledger
from imgtag_pipeline.emulator.options import Account, EmulatorOptions
from imgtag_pipeline.emulator.pictures import Pictures
from imgtag_pipeline.emulator.vision import Sights


class Nonces:
    """Nonces seen lately; one is good once."""

    def __init__(self, kept_seconds: float) -> None:
        self._kept = kept_seconds
        self._fresh: set[tuple[str, str]] = set()
        self._old: set[tuple[str, str]] = set()
        self._turned = 0.0

    def use(self, key_id: str, nonce: str, now: float) -> bool:
        """Whether this key has not used the nonce within the time that signatures are good for; it is used now."""
        if now - self._turned > self._kept:
            self._fresh, self._old, self._turned = set(), self._fresh, now
        key = (key_id, nonce)
        if key in self._fresh or key in self._old:
            return False
        self._fresh.add(key)
        return True


class Cloud:
    """The services behind every gateway; a family is built with one and asks it, it keeps no state of its own socket.

    `pictures` are the bytes behind image references, `sights` what is seen in them.
    """

    def __init__(self, options: EmulatorOptions, clock: Clock, ledger: Ledger) -> None:
        self.options = options
        self.clock = clock
        self.ledger = ledger
        self.nonces = Nonces(2 * options.clock_tolerance)
        self.pictures = Pictures(options.images)
        self.sights = Sights(self.pictures, fixtures=options.fixtures, is_synthetic=options.is_synthetic)
        self._by_key_id = {account.key_id: account for account in options.accounts}

    @property
    def url(self) -> str:
        """The emulator's own address, without a slash at the end; empty until it listens."""
        return self.pictures.own_url

    def listens_at(self, url: str) -> None:
        """The server tells where it listens."""
        self.pictures.own_url = url

    def account(self, key_id: str) -> Account | None:
        """The account of a key id, None when unknown."""
        return self._by_key_id.get(key_id)

    def now(self) -> datetime:
        """The emulator's wall clock, `clock_offset` included."""
        return self.clock.now().astimezone(UTC) + timedelta(seconds=self.options.clock_offset)

    def is_in_time(self, stamp: datetime) -> bool:
        """Whether a signature of this time is near enough to the emulator's clock (15 minutes by default)."""
        return abs((self.now() - stamp).total_seconds()) <= self.options.clock_tolerance

    async def close(self) -> None:
        """Close what the services opened."""
        await self.pictures.close()
        self.sights.close()
