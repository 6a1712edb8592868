"""A book of calls in Redis, for all hosts: one Lua script that replaces what is there unless somebody was quicker.

Relies on Redis keeping what it was told (`appendonly yes`); hosts' clocks may differ by a few seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from imgtag_pipeline.caps.state import State
from imgtag_pipeline.errors import ConfigError, StoreError

T = TypeVar("T")
LEASE: Final = 20.0  # seconds after which a process that was not seen counts as dead
_KEPT_MS: Final = 40 * 86_400_000
_TRIES: Final = 1000
_SCRIPT: Final = """
local found = redis.call('GET', KEYS[1]) or ''
if ARGV[2] ~= '' and found == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return {1, ARGV[2]}
end
return {0, found}
"""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(State).decode


class RedisBook:
    """The book under the key `imgtag:caps:NAME`. A process that was not seen for `LEASE` seconds counts as dead."""

    beat = LEASE / 4

    def __init__(self, url: str, name: str, *, key: str = "", address: str = "") -> None:
        try:
            from redis import asyncio as client
        except ImportError:
            raise ConfigError("redis_url= needs the package redis; pip install 'imgtag_pipeline[redis]'") from None
        self._redis: Any = client.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0)
        self._script: Any = self._redis.register_script(_SCRIPT)
        self._name = f"imgtag:caps:{name}"
        self._fresh = State(key, address)
        self._turn = asyncio.Lock()
        self._known = b""

    async def visit(self, change: Callable[[State], T]) -> T:
        """Usually one round trip: what was written last is tried first."""
        async with self._turn:
            for _ in range(_TRIES):
                state = _decode(self._known) if self._known else msgspec.json.decode(_encode(self._fresh), type=State)
                result = change(state)
                is_written, found = await self._run(self._known, _encode(state))
                self._known = found
                if is_written:
                    return result
        raise StoreError("the book of calls in Redis was changed by others all the time, so caps cannot be kept")

    async def _run(self, expected: bytes, new: bytes) -> tuple[bool, bytes]:
        from redis.exceptions import RedisError

        failure = ""
        try:
            is_written, found = await self._script(keys=[self._name], args=[expected, new, _KEPT_MS])
        except (RedisError, OSError) as error:
            failure = type(error).__name__
        if failure:
            raise StoreError(f"Redis does not answer ({failure}), so caps cannot be kept; start it, and run again")
        return bool(is_written), found

    def appear(self, token: str) -> None:
        """The visits show it."""

    def vanish(self, token: str) -> None:
        """Nothing to clear away."""

    def is_alive(self, token: str, seen: float) -> bool:
        """Whether it was seen lately."""
        return time.time() - seen < LEASE

    async def close(self) -> None:
        """Let go of the connection."""
        await self._redis.aclose()
