"""The book in Redis: hosts share their quotas. One Lua script on the server's clock swaps the book if nobody else did.

A visit leases the slots of the next moments, so that round trips to Redis do not limit the pace.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from imgtag_pipeline.clock import Clock
from imgtag_pipeline.errors import ConfigError, ImgtagError, StoreError
from imgtag_pipeline.limiter.book import Book
from imgtag_pipeline.limiter.stored import pack, unknown, unpack
from imgtag_pipeline.urls import redact

T = TypeVar("T")

_SWAP = """
local time = redis.call('TIME')
local version = redis.call('HGET', KEYS[1], 'version') or '0'
if ARGV[1] == version then
  version = redis.call('HINCRBY', KEYS[1], 'version', 1)
  redis.call('HSET', KEYS[1], 'book', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, tostring(version), time[1], time[2], ''}
end
return {0, version, time[1], time[2], redis.call('HGET', KEYS[1], 'book') or ''}
"""
_EPOCH = "redis"
_KEPT_MS = 3_600_000  # an idle quota is forgotten after an hour
_TIMEOUT = 3.0
_OFFSETS = 32  # the newest comparisons of the clocks
_DRIFT = 0.0005  # seconds by which two clocks may part while that many comparisons are made


class RedisShelf:
    """The book of one quota key in a Redis."""

    horizon = 0.1
    patience = 0.01

    def __init__(self, url: str, key: str, told: float, clock: Clock) -> None:
        self._where = redact(url)
        self._url = url
        self._key = f"imgtag:quota:1:{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        self._told = told
        self._clock = clock
        self._client: Any = None
        self._version = "none"
        self._data = b""
        self._offsets: deque[tuple[float, float]] = deque(maxlen=_OFFSETS)
        self._failure: ImgtagError | None = None

    @property
    def late(self) -> float:
        """The newest comparisons of the clocks agree that the server's is so far ahead at least."""
        return self._bounds()[0]

    @property
    def early(self) -> float:
        """And at most so far."""
        return self._bounds()[1]

    async def visit(self, change: Callable[[Book, float], T]) -> T:
        """Run `change` on the newest book; again when another host was quicker."""
        if self._failure is not None:
            raise self._failure
        if self._client is None:
            await self._connect()
        while True:
            now = self._clock.monotonic() + self.late
            book = unpack(self._data, _EPOCH, now) if self._data else Book(self._told, now)
            if book is None:
                book = unknown(self._told, now)
            result = change(book, now)
            data = pack(book, _EPOCH)
            if await self._swap(self._version, data):
                self._data = data
                return result

    async def close(self) -> None:
        """Leave the server."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _connect(self) -> None:
        try:
            import redis.asyncio as client
        except ImportError:
            raise ConfigError("sharing the quota through Redis needs: pip install 'imgtag_pipeline[redis]'") from None
        try:
            self._client = client.Redis.from_url(
                self._url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
            )
        except ValueError:
            self._failure = ConfigError(
                f"redis_url {self._where!r} is not an address of a Redis; allowed is redis://host:6379/0 (or rediss://)"
            )
        if self._failure is not None:
            raise self._failure
        await self._swap(self._version, b"")

    async def _swap(self, version: str, data: bytes) -> bool:
        is_first = not self._offsets
        before = self._clock.monotonic()
        problem = ""
        try:
            reply = await asyncio.wait_for(
                self._client.eval(_SWAP, 1, self._key, version, data, str(_KEPT_MS)), 2 * _TIMEOUT
            )
        except Exception as error:  # whatever the client library calls it: Redis is gone
            problem = type(error).__name__
        if problem:
            self._failure = self._lost(problem, is_first)
            raise self._failure
        after = self._clock.monotonic()
        is_mine, newest, seconds, micros, stored = reply
        server = int(seconds) + int(micros) / 1e6
        self._compare(server - after, server - before)
        if not is_mine:
            self._data = bytes(stored)
            if newest == b"0" and version not in ("none", "0"):  # it was there and is gone: Redis has lost its memory
                self._data = pack(unknown(self._told, server), _EPOCH)
        self._version = newest.decode()
        return bool(is_mine)

    def _lost(self, problem: str, is_first: bool) -> ImgtagError:
        if is_first:
            return ConfigError(
                f"the Redis at {self._where} cannot be used ({problem}); start it, correct redis_url, or leave it out "
                "to share the quota on this host only"
            )
        return StoreError(
            f"the Redis at {self._where} that shares the quota is lost ({problem}); nothing more is sent, "
            "for the quota could be passed: bring it back and start again"
        )

    def _compare(self, least: float, most: float) -> None:
        if self._offsets:
            late, early = self._bounds()
            if least > early + _DRIFT or most < late - _DRIFT:
                self._offsets.clear()  # somebody has set the server's clock
        self._offsets.append((least, most))

    def _bounds(self) -> tuple[float, float]:
        if not self._offsets:
            return 0.0, 0.0
        late = max(least for least, _ in self._offsets)
        early = min(most for _, most in self._offsets)
        return min(late, early) - _DRIFT, max(late, early) + _DRIFT
