"""The configured cache. Redis is imported only where a configuration asks for it."""

from __future__ import annotations

from importlib import import_module

from app.cache.base import ResponseCache
from app.cache.memory import MemoryCache
from app.cache.off import NoCache
from app.config import models
from backends.clock import Clock


def build(config: models.Cache, clock: Clock) -> ResponseCache:
    """A cache as configured; nothing is connected yet.

    Raises: StartupError for a URL that cannot be one.
    """
    if isinstance(config, models.CacheOff):
        return NoCache()
    if isinstance(config, models.MemoryCache):
        return MemoryCache(clock, config.ttl_s, config.max_bytes, config.max_value_bytes)
    cache: ResponseCache = import_module("app.cache.redis").RedisCache(
        clock, config.url, config.timeout_ms / 1000, config.key_prefix, config.ttl_s, config.max_value_bytes
    )
    return cache
