"""No cache: nothing is found, nothing is kept."""

from __future__ import annotations

from app.cache.base import CachedAnswer


class NoCache:
    """Stands in where `cache.type: off`."""

    remote = False

    async def get(self, key: bytes) -> CachedAnswer | None:
        return None

    async def set(self, key: bytes, answer: CachedAnswer) -> None:
        return None

    async def ping(self) -> bool:
        return True

    async def aclose(self) -> None:
        return None
