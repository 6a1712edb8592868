"""The public-network-only guard for images that we download: which hosts and addresses may be connected to.

Names are judged by the very addresses that the connection then uses, so a name that changes its address between a
check and the connection (rebinding) gains nothing. Literal addresses must be spelled the plain way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[[str], Awaitable[Sequence[str]]]

# IANA's special-purpose registries (RFC 6890 and updates) and what clouds put beside them.
_NOT_PUBLIC_V4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; Alibaba's metadata service is 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent, on an address that looks public
        "169.254.0.0/16",  # link-local; the metadata service of most clouds is 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; Oracle's metadata service is 192.0.0.192
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
# All outside global unicast is refused: loopback, mapped, compatible, unique local, link-local, multicast.
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarking, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries any IPv4 address
        "3fff::/20",
    )
)
# What a name of the IPv4 internet resolves to in a network that has IPv6 only (DNS64, RFC 6052): it ends in the IPv4
# address that the gateway connects to.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_ENDS_IN_NUMBER: Final = re.compile(r"(?i)(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")


class AddressNotPublic(Exception):
    """The host, or every address that it has, is refused."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host[:100]!r} is not an address of the public network")


def is_public(address: Address) -> bool:
    """True for an address of the public internet. Of the IPv6 forms that carry an IPv4 address only NAT64's may be."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_V4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return is_public(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    if address not in _GLOBAL_V6:
        return False
    return not any(address in network for network in _NOT_PUBLIC_V6)


async def system_lookup(host: str) -> Sequence[str]:
    """The addresses that the system's resolver gives for a name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for _, _, _, _, address in found]


@dataclass(frozen=True, slots=True)
class Guard:
    """Which addresses may be connected to, and how names become addresses."""

    is_allowed: Callable[[Address], bool] = is_public
    lookup: Lookup = system_lookup

    def check(self, host: str) -> None:
        """Raise `AddressNotPublic` for a literal address that is refused or oddly spelled, and for localhost names.

        Numbers in other spellings (2130706433, 0x7f.1, 0177.0.0.1, 127.1) are refused whatever they stand for.
        """
        name = host.lower().rstrip(".")
        is_literal = ":" in host or "%" in host or _ENDS_IN_NUMBER.search(name) is not None
        if is_literal:
            if not self._allows(host):
                raise AddressNotPublic(host)
        elif not name or name == "localhost" or name.endswith((".localhost", ".localdomain")):
            raise AddressNotPublic(host)

    async def addresses(self, host: str) -> list[Address]:
        """The addresses of a name that may be connected to, at least one; raises `AddressNotPublic` or `OSError`."""
        found = await self.lookup(host)
        if not found:
            raise OSError("the name has no address")
        allowed = [ipaddress.ip_address(text) for text in found if self._allows(text)]
        if not allowed:
            raise AddressNotPublic(host)
        return allowed

    def _allows(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        return self.is_allowed(address)


class GuardedResolver:
    """What aiohttp asks for addresses, in the form that it wants them; gives allowed ones only."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_UNSPEC) -> list[dict[str, Any]]:
        """aiohttp's `AbstractResolver.resolve`."""
        self._guard.check(host)
        kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            {
                "hostname": host,
                "host": str(address),
                "port": port,
                "family": kinds[address.version],
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            }
            for address in await self._guard.addresses(host)
            if family in (socket.AF_UNSPEC, kinds[address.version])
        ]

    async def close(self) -> None:
        """Nothing is held."""
