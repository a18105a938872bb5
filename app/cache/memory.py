"""In this process: least recently used goes first, bounded by the bytes of what is kept."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import Any

from backends.clock import Clock

ENTRY_OVERHEAD_BYTES = 280
"""What an entry takes beside its value: key, expiry, object headers and table slots, measured on CPython 3.11."""

_EXPIRY = struct.Struct(">q")


class MemoryStore:
    """One object an entry, its expiry in front of the value: a tuple and a number more would be 80 bytes."""

    def __init__(self, clock: Clock, max_bytes: int) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self.used_bytes = 0
        self.evicted = 0

    def find(self, key: bytes) -> bytes | None:
        """The value, at once."""
        kept = self._entries.get(key)
        if kept is None:
            return None
        if self._clock.now_ns() >= _EXPIRY.unpack_from(kept)[0]:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return kept[_EXPIRY.size :]

    def put(self, key: bytes, value: bytes, keep_s: float) -> None:
        """Keep a value for so long, at once; one that is longer than all that may be kept is not."""
        if key in self._entries:
            self._drop(key)
        if len(value) + ENTRY_OVERHEAD_BYTES > self._max_bytes:
            return
        self._entries[key] = _EXPIRY.pack(self._clock.now_ns() + round(keep_s * 1e9)) + value
        self.used_bytes += len(value) + ENTRY_OVERHEAD_BYTES
        while self.used_bytes > self._max_bytes:
            self._drop(next(iter(self._entries)))
            self.evicted += 1

    def drop(self, key: bytes) -> None:
        """Forget it, if it is there."""
        if key in self._entries:
            self._drop(key)

    def empty(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.used_bytes = 0

    async def get(self, key: bytes) -> bytes | None:
        return self.find(key)

    async def set(self, key: bytes, value: bytes, keep_s: float) -> None:
        self.put(key, value, keep_s)

    async def delete(self, key: bytes) -> None:
        self.drop(key)

    async def clear(self) -> bool:
        self.empty()
        return True

    async def ping(self) -> bool:
        return True

    async def stats(self) -> dict[str, Any]:
        return {
            "entries": len(self._entries),
            "used_bytes": self.used_bytes,
            "max_bytes": self._max_bytes,
            "evicted": self.evicted,
        }

    async def aclose(self) -> None:
        self.empty()

    def _drop(self, key: bytes) -> None:
        kept = self._entries.pop(key)
        self.used_bytes -= len(kept) - _EXPIRY.size + ENTRY_OVERHEAD_BYTES
