"""What is kept of an answer, and what keeps bytes. No store's operation ever raises for a fault of the store.

The contract suite (`tests/contract/test_cache.py`) runs over every store: what was set is got back until its time has
passed; a key never sees another key's value; an outage is a miss within the time limit.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from backends.types import FinishReason, Usage


class CachedCall(NamedTuple):
    """A tool call, whole."""

    call_id: str
    name: str
    arguments: str


class CachedChoice(NamedTuple):
    """One choice, whole; `stop` is the sequence that ended it, `reasoning` what was thought before it."""

    text: str
    finish_reason: FinishReason
    stop: str | None = None
    calls: tuple[CachedCall, ...] = ()
    reasoning: str = ""
    signature: str = ""


class CachedAnswer(NamedTuple):
    """A complete answer, what producing it cost (None = unknown), and until when it may be given: as fresh until the
    first wall-clock time, as stale (which is said) until the second."""

    choices: tuple[CachedChoice, ...]
    usage: Usage
    model: str
    backend: str
    substrate: str
    stored_wall_ns: int
    cost_nusd: int | None
    fresh_until_wall_ns: int
    gone_wall_ns: int


class Store(Protocol):
    """Values by keys that are digests (`app.cache.keys`)."""

    async def get(self, key: bytes) -> bytes | None: ...

    async def set(self, key: bytes, value: bytes, keep_s: float) -> None: ...

    async def delete(self, key: bytes) -> None: ...

    async def clear(self) -> bool:
        """Forget everything; whether that was done."""
        ...

    async def ping(self) -> bool:
        """Whether it can be reached."""
        ...

    async def stats(self) -> dict[str, Any]:
        """What it holds and how it fares, for people."""
        ...

    async def aclose(self) -> None: ...


class SharedStore(Store, Protocol):
    """One that other processes have too."""

    async def times_emptied(self) -> int | None:
        """How often it was emptied, here or elsewhere; None if nobody can tell."""
        ...
