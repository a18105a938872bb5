"""In Redis or Valkey, shared between gateways. Slow is worse than dead, so both cost at most one time limit.

Look-ups that come at the same time go out together, in one round trip. Every operation has a hard limit; a failure
opens a breaker (`app.cache.breaker`) and from then on each look-up is a miss at no cost, until a probe beside the
requests' way finds the server back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from app.cache.breaker import Breaker
from app.redis import FAULTS, REFUSALS, Client
from backends.clock import Clock

T = TypeVar("T")

log = logging.getLogger("turnout.cache")

KEY_VERSION = b"2"
MOST_COUNTED = 1_000_000
SCAN_COUNT = 1000
PATIENCE_S = 30.0
"""For what an operator asks: counting and emptying."""


class RedisStore:
    """One key a value: `<prefix>:2:<digest>`; `<prefix>:2` counts how often it was emptied."""

    def __init__(self, clock: Clock, client: Client, timeout_s: float, key_prefix: str) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._counter = key_prefix.encode() + b":" + KEY_VERSION
        self._prefix = self._counter + b":"
        self.client = client
        self._wanted: dict[bytes, list[asyncio.Future[bytes | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.breaker = Breaker("response cache")

    def named(self, name: bytes) -> bytes:
        """The full name of a key beside the values."""
        return self._counter + name

    async def get(self, key: bytes) -> bytes | None:
        if self._is_open():
            return None
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes | None] = loop.create_future()
        if not self._wanted:
            loop.call_soon(self._send)
        self._wanted.setdefault(key, []).append(future)
        return await future

    async def set(self, key: bytes, value: bytes, keep_s: float) -> None:
        await self.ask(lambda: self.client.set(self._prefix + key, value, px=max(1, round(keep_s * 1000))))

    async def delete(self, key: bytes) -> None:
        await self.ask(lambda: self.client.delete(self._prefix + key))

    async def clear(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_S):
                found: list[bytes] = []
                async for name in self._names():
                    found.append(name)
                    if len(found) >= SCAN_COUNT:
                        await self.client.unlink_all(found)
                        found = []
                await self.client.unlink_all(found)
                await self.client.incr(self._counter)
        except FAULTS as error:
            log.warning("the response cache could not be emptied: %s", str(error)[:200] or type(error).__name__)
            return False
        return True

    async def ping(self) -> bool:
        return bool(await self.ask(self.client.ping))

    async def times_emptied(self) -> int | None:
        """How often the cache was emptied, here or elsewhere; None if nobody can tell."""
        told = await self.ask(lambda: self.client.get(self._counter))
        if self.breaker.open:
            return None
        return int(told) if isinstance(told, bytes) and told.isdigit() else 0

    async def stats(self) -> dict[str, Any]:
        entries = None
        try:
            entries = 0
            async with asyncio.timeout(PATIENCE_S):
                async for _ in self._names():
                    entries += 1
                    if entries >= MOST_COUNTED:
                        break
        except FAULTS:
            entries = None
        return {"entries": entries, "reachable": entries is not None, "outages": self.breaker.outages}

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.aclose()

    async def ask(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """The reply, or None if there is none to be had within the time limit."""
        if self._is_open():
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await operation()
        except REFUSALS as error:  # full, read-only, not allowed: it answers, and goes on to be asked
            self.breaker.refused(self._clock.now_ns(), str(error)[:200])
            return None
        except FAULTS as error:
            self._failed(error)
            return None

    def _names(self) -> AsyncIterator[bytes]:
        """The full names of all values."""
        names: AsyncIterator[bytes] = self.client.scan_iter(match=_literally(self._prefix) + b"*", count=SCAN_COUNT)
        return names

    def _send(self) -> None:
        """All that is wanted by now goes out."""
        wanted, self._wanted = self._wanted, {}
        self._begin(self._fetch(wanted))

    async def _fetch(self, wanted: dict[bytes, list[asyncio.Future[bytes | None]]]) -> None:
        values: list[bytes | None] = [None] * len(wanted)
        try:
            found = await self.ask(lambda: self.client.many([self._prefix + key for key in wanted]))
            values = found or values
        finally:  # whatever happens, nobody waits for ever
            for value, futures in zip(values, wanted.values(), strict=True):
                for future in futures:
                    if not future.done():
                        future.set_result(value)

    def _is_open(self) -> bool:
        if not self.breaker.open:
            return False
        if self.breaker.due(self._clock.now_ns()):
            self._begin(self._probe())
        return True

    async def _probe(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self.client.ping()
        except FAULTS as error:
            self._failed(error)
        else:
            self.breaker.succeeded()

    def _failed(self, error: Exception) -> None:
        self.breaker.failed(self._clock.now_ns(), str(error)[:200] or type(error).__name__)

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _literally(text: bytes) -> bytes:
    """A pattern that matches this text alone."""
    return b"".join(b"\\" + bytes((byte,)) if byte in b"*?[]^\\-" else bytes((byte,)) for byte in text)
