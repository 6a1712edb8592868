"""A book of calls in Redis, for all hosts: one Lua script that replaces what is there unless somebody was quicker.

Relies on Redis keeping what it was told (`appendonly yes`). Signs of life are told and judged by the server's clock, so
hosts' clocks may differ as they like.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from imgtag_pipeline.core.shielded import shielded
from imgtag_pipeline.errors import ConfigError, StoreError
from imgtag_pipeline.spend.state import State
from imgtag_pipeline.urls import redact

T = TypeVar("T")
LEASE: Final = 20.0  # seconds after which a process that was not seen counts as dead
_KEPT_MS: Final = 400 * 86_400_000
_TRIES: Final = 1000
_TIMEOUT: Final = 3.0
_REPEATS: Final = 4
_DOWN_SECONDS: Final = 2.0  # for which nobody asks again, once all repetitions were in vain
# The client repeats a request whose reply was lost: each writer's last number tells a repetition from a new one.
_SCRIPT: Final = """
local time = redis.call('TIME')
local found = redis.call('HGET', KEYS[1], 'book') or ''
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return {1, found, time[1], time[2]}
end
if found ~= ARGV[3] then
  return {0, found, time[1], time[2]}
end
redis.call('HSET', KEYS[1], 'book', ARGV[4], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return {1, ARGV[4], time[1], time[2]}
"""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(State).decode


class RedisRecord:
    """The book under the key `imgtag:calls:NAME`. A process that was not seen for `LEASE` seconds counts as dead."""

    beat = LEASE / 4

    def __init__(self, url: str, name: str, *, key: str = "", address: str = "") -> None:
        try:
            from redis import asyncio as client
            from redis.asyncio.retry import Retry
            from redis.backoff import ExponentialBackoff
        except ImportError:
            raise ConfigError("redis_url= needs the package redis; pip install 'imgtag_pipeline[redis]'") from None
        again = Retry(ExponentialBackoff(cap=0.5, base=0.05), _REPEATS)
        self._redis: Any = client.Redis.from_url(
            url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=again
        )
        self._script: Any = self._redis.register_script(_SCRIPT)
        self.where = f"{name} in the Redis at {redact(url)}"
        self._name = f"imgtag:calls:{name}"
        self._writer = f"writer:{secrets.token_hex(8)}"
        self._number = 0
        self._key, self._address = key, address
        self._turn = asyncio.Lock()
        self._known = b""
        self._ahead: float | None = None  # seconds that the server's clock is ahead of ours
        self._failure = ""
        self._down_until = float("-inf")

    async def update(self, change: Callable[[State], T]) -> T:
        """Usually one round trip: what was written last is tried first."""
        return await shielded(self._update(change))

    async def _update(self, change: Callable[[State], T]) -> T:
        async with self._turn:
            if self._ahead is None:  # before the first moment is told
                self._learn(*await self._asked(self._redis.time))
            for _ in range(_TRIES):
                state = self._read(self._known)
                result = change(state)
                state.version += 1
                self._number += 1
                is_written, self._known = await self._swap(_encode(state))
                if is_written:
                    return result
        raise StoreError(
            f"the book of calls {self.where} was changed by others all the time, so caps cannot be kept; "
            "run fewer processes at once"
        )

    def _read(self, data: bytes) -> State:
        if not data:
            return State(self._key, self._address)
        try:
            return _decode(data)
        except msgspec.MsgspecError:
            raise StoreError(
                f"the book of calls {self.where} cannot be read, so caps cannot be kept; "
                f"use the newer version of this package, or delete the key {self._name}"
            ) from None

    async def _swap(self, new: bytes) -> tuple[bool, bytes]:
        arguments = [self._writer, str(self._number), self._known, new, _KEPT_MS]
        reply = await self._asked(partial(self._script, keys=[self._name], args=arguments))
        is_written, found, seconds, microseconds = reply
        self._learn(seconds, microseconds)
        return bool(is_written), found

    def _learn(self, seconds: Any, microseconds: Any) -> None:
        self._ahead = int(seconds) + int(microseconds) / 1e6 - time.time()

    def now(self, here: float) -> float:
        """The moment on the server's clock."""
        return here + (self._ahead or 0.0)

    async def _asked(self, question: Callable[[], Any]) -> Any:
        from redis.exceptions import RedisError

        if time.monotonic() < self._down_until:
            raise self._down()
        try:
            return await question()
        except (RedisError, OSError, TimeoutError) as error:
            self._failure = type(error).__name__
        self._down_until = time.monotonic() + _DOWN_SECONDS
        raise self._down()

    def _down(self) -> StoreError:
        return StoreError(
            f"the book of calls {self.where} cannot be reached ({self._failure}), so caps cannot be kept and nothing "
            "is sent; start it, and run again"
        )

    def announce(self, token: str) -> None:
        """The visits show it."""

    def withdraw(self, token: str) -> None:
        """Nothing to clear away."""

    def is_alive(self, token: str, seen: float) -> bool:
        """Whether it was seen lately."""
        return self.now(time.time()) - seen < LEASE

    async def close(self) -> None:
        """Let go of the connection."""
        try:
            if self._known and time.monotonic() >= self._down_until:
                await self._asked(partial(self._redis.hdel, self._name, self._writer))
        finally:
            self._known = b""
            await self._redis.aclose()
