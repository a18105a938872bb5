"""In this process: least recently used goes first, bounded by the bytes of what is kept."""

from __future__ import annotations

from collections import OrderedDict

from app.cache import codec
from app.cache.base import CachedAnswer
from backends.clock import Clock

ENTRY_OVERHEAD_BYTES = 200
"""What an entry takes beside its value: key, tuple and table slots, measured on CPython 3.11."""


class MemoryCache:
    """Keeps encoded values, so that its bound is in real bytes and nobody can change what is kept."""

    remote = False

    def __init__(self, clock: Clock, ttl_s: float, max_bytes: int, max_value_bytes: int) -> None:
        self._clock = clock
        self._ttl_ns = round(ttl_s * 1e9)
        self._max_bytes = max_bytes
        self._max_value_bytes = max_value_bytes
        self._entries: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        self.used_bytes = 0

    async def get(self, key: bytes) -> CachedAnswer | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires_ns, value = entry
        if self._clock.now_ns() >= expires_ns:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return codec.decode(value)

    async def set(self, key: bytes, answer: CachedAnswer) -> None:
        value = codec.encode(answer)
        if len(value) > self._max_value_bytes:
            return
        if key in self._entries:
            self._drop(key)
        self._entries[key] = (self._clock.now_ns() + self._ttl_ns, value)
        self.used_bytes += len(value) + ENTRY_OVERHEAD_BYTES
        while self.used_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))

    async def ping(self) -> bool:
        return True

    async def aclose(self) -> None:
        self._entries.clear()
        self.used_bytes = 0

    def _drop(self, key: bytes) -> None:
        _, value = self._entries.pop(key)
        self.used_bytes -= len(value) + ENTRY_OVERHEAD_BYTES
