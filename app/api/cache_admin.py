"""The response cache on the admin port: what it holds, emptying it, forgetting one answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from app.cache.tiers import AnswerCache
from app.errors import BadRequest, CacheUnreachable, Conflict


def add_cache_routes(api: FastAPI, cache: Callable[[], AnswerCache | None]) -> None:
    """`cache` is asked anew each time, since a reload replaces it."""

    @api.get("/admin/cache")
    async def stats() -> dict[str, Any]:
        return await _there(cache()).stats()

    @api.delete("/admin/cache")
    async def flush() -> dict[str, Any]:
        answers = _there(cache())
        if not await answers.clear():
            raise CacheUnreachable("memory is emptied, but Redis cannot be reached: its answers stay")
        return await answers.stats()

    @api.delete("/admin/cache/{entry}")
    async def forget(entry: str) -> dict[str, Any]:
        try:
            key = bytes.fromhex(entry)
        except ValueError:
            raise BadRequest("an entry is named in hexadecimal digits", param="entry", code="invalid_value") from None
        await _there(cache()).delete(key)
        return {"entry": entry, "forgotten": True}


def _there(cache: AnswerCache | None) -> AnswerCache:
    if cache is None:
        raise Conflict("there is no cache: cache.type is off", code="no_cache")
    return cache
