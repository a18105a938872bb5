"""The cache as the service sees it: memory in front, Redis behind where there is one.

What is found in Redis is kept in memory for a while, at most `memory_ttl_s`: for so long a process may give what
another one has removed since. `turnout cache flush` is heard of sooner: at most once a second a process asks how often
the cache was emptied.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, NamedTuple

from app.cache.base import CachedAnswer, SharedStore
from app.cache.codec import Codec
from app.cache.memory import MemoryStore
from backends.clock import Clock

LISTEN_NS = 1_000_000_000

Tier = Literal["memory", "redis"]


class Found(NamedTuple):
    """An answer given before, and whether it is past its time."""

    key: bytes
    answer: CachedAnswer
    tier: Tier
    stale: bool
    age_s: float


class AnswerCache:
    """Answers by their keys. Nothing here raises for a fault of a store."""

    def __init__(
        self,
        clock: Clock,
        codec: Codec,
        near: MemoryStore | None,
        far: SharedStore | None = None,
        near_ttl_s: float = 60.0,
    ) -> None:
        self._clock = clock
        self._codec = codec
        self.near = near
        self.far = far
        self._near_ttl_s = near_ttl_s
        self._listen_at_ns = 0
        self._listening: asyncio.Task[None] | None = None
        self._emptied: int | None = None
        self._counts = {"found_in_memory": 0, "found_in_redis": 0, "not_found": 0}

    def find(self, key: bytes) -> Found | None:
        """What memory holds, at once."""
        if self.near is None:
            return None
        if self.far is not None:
            self._listen(self.far)
        value = self.near.find(key)
        return None if value is None else self._found(key, value, "memory")

    async def fetch(self, key: bytes) -> Found | None:
        """What Redis holds; memory holds it from then on."""
        if self.far is None:
            return None
        value = await self.far.get(key)
        found = None if value is None else self._found(key, value, "redis")
        if found is not None and value is not None and self.near is not None:
            self.near.put(key, value, min(self._near_ttl_s, self._left_s(found.answer)))
        return found

    async def get(self, key: bytes) -> Found | None:
        """What either holds."""
        found = self.find(key) or await self.fetch(key)
        self._counts["not_found" if found is None else f"found_in_{found.tier}"] += 1
        return found

    async def set(self, key: bytes, answer: CachedAnswer) -> None:
        """Keep an answer until its time is over; one that is too long is not kept."""
        value, left_s = self._codec.encode(key, answer), self._left_s(answer)
        if value is None or left_s <= 0:
            return
        if self.near is not None:
            self.near.put(key, value, left_s if self.far is None else min(self._near_ttl_s, left_s))
        if self.far is not None:
            await self.far.set(key, value, left_s)

    async def delete(self, key: bytes) -> None:
        """Forget an answer here and in Redis; other processes may give it for `memory_ttl_s` more."""
        if self.near is not None:
            self.near.drop(key)
        if self.far is not None:
            await self.far.delete(key)

    async def clear(self) -> bool:
        """Forget everything, in other processes too; whether that was done."""
        if self.near is not None:
            self.near.empty()
        return self.far is None or await self.far.clear()

    async def ping(self) -> bool:
        """Whether the farthest tier answers."""
        return self.far is None or await self.far.ping()

    async def stats(self) -> dict[str, Any]:
        """What each tier holds, and how look-ups in this process went."""
        return {
            "lookups": dict(self._counts),
            "memory": None if self.near is None else await self.near.stats(),
            "redis": None if self.far is None else await self.far.stats(),
        }

    async def aclose(self) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        for store in (self.near, self.far):
            if store is not None:
                await store.aclose()

    def _found(self, key: bytes, value: bytes, tier: Tier) -> Found | None:
        answer = self._codec.decode(key, value)
        if answer is None:
            return None
        now_ns = self._clock.wall_ns()
        if now_ns >= answer.gone_wall_ns:
            return None
        age_s = max(0, now_ns - answer.stored_wall_ns) / 1e9
        return Found(key, answer, tier, now_ns >= answer.fresh_until_wall_ns, age_s)

    def _left_s(self, answer: CachedAnswer) -> float:
        return (answer.gone_wall_ns - self._clock.wall_ns()) / 1e9

    def _listen(self, far: SharedStore) -> None:
        now_ns = self._clock.now_ns()
        if now_ns < self._listen_at_ns:
            return
        self._listen_at_ns = now_ns + LISTEN_NS
        self._listening = asyncio.get_running_loop().create_task(self._hear(far))

    async def _hear(self, far: SharedStore) -> None:
        emptied = await far.times_emptied()
        if emptied is None or self.near is None:
            return
        if self._emptied is not None and emptied != self._emptied:
            self.near.empty()
        self._emptied = emptied
