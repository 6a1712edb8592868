"""The window in Redis, shared by hosts. One Lua script on the server's clock replaces it if nobody else did.

An update leases permits for the next moments, so that round trips to Redis do not limit the pace.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import ConfigError, ImgtagError, StoreError
from imgtag_pipeline.limiter.clock_offset import Offsets
from imgtag_pipeline.limiter.codec import pack_whole, unknown, unpack_whole
from imgtag_pipeline.limiter.window import SlidingWindow
from imgtag_pipeline.urls import redact

T = TypeVar("T")
logger = logging.getLogger("imgtag_pipeline")

_SWAP = """
local time = redis.call('TIME')
local version = redis.call('HGET', KEYS[1], 'version') or ''
if ARGV[1] == version and ARGV[2] ~= '' then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], 'book', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  return {1, time[1], time[2]}
end
return {0, time[1], time[2], version, redis.call('HGET', KEYS[1], 'book') or ''}
"""
_EPOCH = "redis"
_KEPT_MS = 3_600_000  # an idle quota is forgotten after an hour
_TIMEOUT = 3.0
LOST_AFTER = 30.0  # seconds for which a Redis that is gone is waited for
_NAPS = (0.1, 0.2, 0.4, 0.8, 1.0)
_LEASE = 0.1  # seconds, and two visits more, that are leased in advance,
_LONGEST_LEASE = 1.0
_PASSING = {"ConnectionError", "TimeoutError", "OSError", "ReadOnlyError", "ClusterDownError", "TryAgainError"}
_REFUSED = {"AuthenticationError", "AuthorizationError"}


class _Trouble(Exception):
    """Redis did not answer or cannot be written just now; or it refuses, which does not pass."""

    def __init__(self, what: str, *, is_passing: bool) -> None:
        super().__init__(what)
        self.is_passing = is_passing


class _Reply(NamedTuple):
    is_mine: bool
    now: float  # on the server's clock,
    was_set: bool  # which somebody has set since the last reply
    version: bytes = b""
    book: bytes = b""


class RedisRecord:
    """The window of one quota key in a Redis (7 or older; one server, or a primary with replicas).

    Nothing is sent without a place that Redis has confirmed, so whatever happens to it, the quota is not passed:

    - Not there at the start: `ConfigError`.
    - Lost in the middle, read-only after a failover, or slower than 3 s: it is tried again for 30 s, during which
      nothing new is sent, and one warning says so; then `StoreError`, and all further visits end likewise.
    - Slow: places are leased further in advance, up to a second; a grant that comes too late is not used.
    - It has lost its memory (restarted, failed over, flushed, the key evicted): nobody sends until nothing that may
      have been sent before counts any more, 2.5 s at one call a second or more. The same holds for a key that is not
      there at the start, since nobody can tell whether it was there a moment ago.
    - It refuses the script (no permission, out of memory): `StoreError` at once.
    """

    patience = 0.025

    def __init__(self, url: str, key: str, told: float, clock: Clock, *, lost_after: float = LOST_AFTER) -> None:
        self._where = redact(url)
        self._url = url
        self._key = f"imgtag:quota:2:{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        self._told = told
        self._clock = clock
        self._lost_after = lost_after
        self._client: Any = None
        self._version = b""
        self._book: SlidingWindow | None = None  # as it is in Redis, as far as is known
        self._offsets = Offsets()
        self._lasted = 0.0
        self._was_joined = False
        self._lost_since: float | None = None
        self._naps = 0
        self._failure: ImgtagError | None = None

    @property
    def late(self) -> float:
        """The newest comparisons of the clocks agree that the server's is so far ahead at least."""
        return self._offsets.late

    @property
    def early(self) -> float:
        """And at most so far."""
        return self._offsets.early

    @property
    def horizon(self) -> float:
        """The slower Redis is, the longer are the leases."""
        return min(_LONGEST_LEASE, _LEASE + 2 * self._lasted)

    async def update(self, change: Callable[[SlidingWindow, float], T]) -> T:
        """Run `change` on the newest book; again when another host was quicker, or Redis was away."""
        if self._failure is not None:
            raise self._failure
        while True:
            try:
                if self._client is None:
                    await self._join()
                now = self._clock.monotonic() + self.late
                book, self._book = unknown(self._told, now) if self._book is None else self._book, None
                result = change(book, now)
                if await self._swap(book):
                    self._lost_since = None
                    return result
                continue
            except _Trouble as error:
                trouble = error
            await self._wait(trouble)

    async def close(self) -> None:
        """Leave the server."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):  # whatever the client library calls it: nobody is there any more
                await client.aclose()

    async def _join(self) -> None:
        self._client = self._connected()
        try:
            up_for = float((await self._ask(self._client.info("server")))["uptime_in_seconds"])
        except (_Trouble, KeyError, ValueError) as error:  # not everybody may know that
            if isinstance(error, _Trouble) and error.is_passing:
                raise
            up_for = 0.0 if self._was_joined else math.inf
        reply = await self._run(b"", b"")
        self._open_newest(reply).block_unknown(reply.now - up_for)
        self._was_joined = True

    async def _swap(self, book: SlidingWindow) -> bool:
        mine, began = uuid.uuid4().hex.encode(), self._clock.monotonic()
        reply = await self._run(mine, pack_whole(book, _EPOCH))
        self._lasted = self._clock.monotonic() - began
        if not reply.is_mine:
            self._open_newest(reply)
            return False
        self._version, self._book = mine, book
        book.changed.clear()
        if reply.was_set:  # somebody has set the server's clock: none of the book's times can be relied on
            book.block_unknown(reply.now)
        return not reply.was_set

    def _open_newest(self, reply: _Reply) -> SlidingWindow:
        book = unpack_whole(reply.book, _EPOCH, self._told)
        self._version = reply.version
        self._book = book = unknown(self._told, reply.now) if book is None else book
        if reply.was_set:
            book.block_unknown(reply.now)
        return book

    async def _run(self, mine: bytes, data: bytes) -> _Reply:
        before = self._clock.monotonic()
        is_mine, seconds, micros, *stored = await self._ask(
            self._client.eval(_SWAP, 1, self._key, self._version, mine, data, str(_KEPT_MS))
        )
        server = int(seconds) + int(micros) / 1e6
        was_set = self._offsets.add(before, server, self._clock.monotonic())
        return _Reply(bool(is_mine), server, was_set, *stored)

    async def _ask(self, question: Awaitable[Any]) -> Any:
        try:
            return await asyncio.wait_for(question, 2 * _TIMEOUT)
        except Exception as error:  # whatever the client library calls it
            names = {each.__name__ for each in type(error).__mro__}
            is_passing = names & _PASSING and not names & _REFUSED
            problem = type(error).__name__
        raise _Trouble(problem, is_passing=bool(is_passing))

    async def _wait(self, trouble: _Trouble) -> None:
        """Nobody answers: wait a moment, for a while."""
        await self.close()
        self._book = None
        now = self._clock.monotonic()
        if self._lost_since is None:
            self._lost_since, self._naps = now, 0
        self._failure = self._given_up(trouble, now - self._lost_since)
        if self._failure is not None:
            raise self._failure
        if self._naps == 0:
            words = "event=quota_redis_lost redis=%s error=%s: nothing is sent until it is back, for %g s at most"
            logger.warning(words, self._where, trouble, self._lost_after)
        await self._clock.sleep(_NAPS[min(self._naps, len(_NAPS) - 1)])
        self._naps += 1

    def _given_up(self, trouble: _Trouble, lost_for: float) -> ImgtagError | None:
        if not self._was_joined:
            return ConfigError(
                f"the Redis at {self._where} cannot be used ({trouble}); start it, correct redis_url, or leave it out "
                "to share the quota on this host only"
            )
        if not trouble.is_passing:
            return StoreError(
                f"the Redis at {self._where} refuses to share the quota ({trouble}); nothing more is sent, for the "
                "quota could be passed: allow EVAL on keys imgtag:*, or make room, and start again"
            )
        if lost_for > self._lost_after:
            return StoreError(
                f"the Redis at {self._where} that shares the quota is lost ({trouble}); nothing more is sent, for the "
                "quota could be passed: bring it back and start again"
            )
        return None

    def _connected(self) -> Any:
        try:
            import redis.asyncio as client
        except ImportError:
            raise ConfigError("sharing the quota through Redis needs: pip install 'imgtag_pipeline[redis]'") from None
        with contextlib.suppress(ValueError):
            return client.Redis.from_url(
                self._url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT, retry=None
            )
        raise ConfigError(
            f"redis_url {self._where!r} is not an address of a Redis; allowed is redis://host:6379/0 (or rediss://)"
        )
