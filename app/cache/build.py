"""The configured cache. Redis is imported only where a configuration asks for it."""

from __future__ import annotations

from importlib import import_module

from app.cache.codec import Codec
from app.cache.memory import MemoryStore
from app.cache.shared import Relay
from app.cache.tiers import AnswerCache
from app.config import caching
from backends.clock import Clock

MOST_CONNECTIONS = 64


def build(config: caching.Cache, clock: Clock) -> AnswerCache | None:
    """A cache as configured, None where there is none; nothing is connected yet.

    Raises: StartupError for a URL that cannot be one, or keys without the library that uses them.
    """
    if isinstance(config, caching.CacheOff):
        return None
    if isinstance(config, caching.MemoryCache):
        codec = Codec(config.max_value_bytes, compress=config.compress)
        return AnswerCache(clock, codec, MemoryStore(clock, config.max_bytes))
    keys = [caching.encryption_key(text) for text in config.encryption_keys]
    codec = Codec(config.max_value_bytes, compress=config.compress, keys=keys)
    timeout_s = config.timeout_ms / 1000
    client = import_module("app.redis").Client(config.url, timeout_s, MOST_CONNECTIONS, "the cache's URL")
    far = import_module("app.cache.redis").RedisStore(clock, client, timeout_s, config.key_prefix)
    near = MemoryStore(clock, config.memory_max_bytes) if config.memory_max_bytes else None
    return AnswerCache(clock, codec, near, far, config.memory_ttl_s)


def relay_of(answers: AnswerCache) -> Relay | None:
    """Leases on the cache's Redis, if it has one."""
    if answers.far is None:
        return None
    relay: Relay = import_module("app.cache.relaying").RedisRelay(answers.far)
    return relay
