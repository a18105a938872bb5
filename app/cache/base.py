"""What a response cache is. Neither `get` nor `set` ever raises for a fault of the cache.

The contract suite (`tests/contract/test_cache.py`) runs over every implementation: what was set is got back until its
TTL has passed; a key never sees another key's answer; values past `max_value_bytes` are not kept; a corrupt value is
a miss; an outage is a miss within the time limit.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from backends.types import FinishReason, Usage


class CachedChoice(NamedTuple):
    """One choice, whole."""

    text: str
    finish_reason: FinishReason


class CachedAnswer(NamedTuple):
    """A complete answer, and what producing it cost (None = unknown)."""

    choices: tuple[CachedChoice, ...]
    usage: Usage
    model: str
    backend: str
    substrate: str
    stored_wall_ns: int
    cost_nusd: int | None


class ResponseCache(Protocol):
    """Keys are digests (`app.cache.keys`). `remote` tells whether an operation may wait for a network."""

    remote: bool

    async def get(self, key: bytes) -> CachedAnswer | None: ...

    async def set(self, key: bytes, answer: CachedAnswer) -> None: ...

    async def ping(self) -> bool:
        """Whether the cache can be reached."""
        ...

    async def aclose(self) -> None: ...
