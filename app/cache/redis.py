"""In Redis or Valkey, shared between gateways. Slow is worse than dead, so both cost at most one time limit.

Every operation has a hard limit. A failure opens a breaker: for a while nothing is asked (each look-up is a miss at
no cost), then one operation probes. One log line when it goes away, one when it is back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.cache import codec
from app.cache.base import CachedAnswer
from app.redis import FAULTS, client
from backends.clock import Clock

T = TypeVar("T")

RETRY_AFTER_NS = 1_000_000_000
KEY_VERSION = b"1"
MOST_CONNECTIONS = 256

log = logging.getLogger("turnout.cache")


class RedisCache:
    """One key a response: `<prefix>:1:<digest>`."""

    remote = True

    def __init__(
        self, clock: Clock, url: str, timeout_s: float, key_prefix: str, ttl_s: float, max_value_bytes: int
    ) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._prefix = key_prefix.encode() + b":" + KEY_VERSION + b":"
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._max_value_bytes = max_value_bytes
        self._client = client(url, timeout_s, MOST_CONNECTIONS, "the cache's URL")
        self._down_until_ns: int | None = None
        self._probing = False

    async def get(self, key: bytes) -> CachedAnswer | None:
        value = await self._ask(lambda: self._client.get(self._prefix + key))
        return codec.decode(value) if isinstance(value, bytes) else None

    async def set(self, key: bytes, answer: CachedAnswer) -> None:
        value = codec.encode(answer)
        if len(value) <= self._max_value_bytes:
            await self._ask(lambda: self._client.set(self._prefix + key, value, px=self._ttl_ms))

    async def ping(self) -> bool:
        return bool(await self._ask(self._client.ping))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """The reply, or None if there is none to be had within the time limit."""
        probe = self._down_until_ns is not None
        if self._down_until_ns is not None:
            if self._probing or self._clock.now_ns() < self._down_until_ns:
                return None
            self._probing = True
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await operation()
        except FAULTS as error:
            if self._down_until_ns is None:
                log.warning("response cache unreachable (%s): going on without it", str(error) or type(error).__name__)
            self._down_until_ns = self._clock.now_ns() + RETRY_AFTER_NS
            return None
        finally:
            if probe:
                self._probing = False
        if self._down_until_ns is not None:
            self._down_until_ns = None
            log.warning("response cache is back")
        return reply
