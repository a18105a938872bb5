"""Rows, tokens and leases in Redis or Valkey. Scripts make each operation atomic and one round trip.

<prefix>:processes:<kind>    sorted set: process -> when its row ends, by the server's clock in ms
<prefix>:<kind>:<process>    the row, with its time to live
<prefix>:token:<name>        who holds it
<prefix>:cap:<name>          sorted set: process -> when its lease ends; <prefix>:slots:<name>  hash: how many slots
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from app.config.models import RedisSharing
from app.fleet.sharing.store import Found, Grant, StoreError
from app.redis import FAULTS, client

T = TypeVar("T")

KINDS = ("load", "learned")
MOST_CONNECTIONS = 4
NOW = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

EXCHANGE = (
    NOW
    + """
local set, prefix, id, row, ttl = KEYS[1], ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
redis.call('SET', prefix .. id, row, 'PX', ttl)
redis.call('ZADD', set, now + ttl, id)
redis.call('ZREMRANGEBYSCORE', set, '-inf', now)
local found = {}
for _, each in ipairs(redis.call('ZRANGE', set, 0, -1)) do
  local value = redis.call('GET', prefix .. each)
  if value then
    found[#found + 1] = each
    found[#found + 1] = value
    found[#found + 1] = ttl - redis.call('PTTL', prefix .. each)
  end
end
return found
"""
)

HOLD = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0
"""

LEASE = (
    NOW
    + """
local ends, slots, wanted = KEYS[1], KEYS[2], KEYS[3]
local id, cap, want, used, ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
for _, each in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now)) do
  redis.call('ZREM', ends, each)
  redis.call('HDEL', slots, each)
end
local held = tonumber(redis.call('HGET', slots, id) or 0)
local others = -held
for _, each in ipairs(redis.call('HVALS', slots)) do others = others + tonumber(each) end
local got = math.max(math.min(want, cap - others), math.min(used, held), 0)
if got < want then redis.call('SET', wanted, id, 'PX', 1000) end
if got > 0 then
  redis.call('ZADD', ends, now + ttl, id)
  redis.call('HSET', slots, id, got)
else
  redis.call('ZREM', ends, id)
  redis.call('HDEL', slots, id)
end
redis.call('PEXPIRE', ends, ttl * 2)
redis.call('PEXPIRE', slots, ttl * 2)
local who = redis.call('GET', wanted)
return {got, (who and who ~= id) and 1 or 0}
"""
)


class RedisStore:
    """One connection for one loop; nobody else waits for it."""

    def __init__(self, config: RedisSharing) -> None:
        """Raises: StartupError for a URL that no connection can be made from."""
        self._timeout_s = config.timeout_ms / 1000
        self._prefix = config.key_prefix
        self._client = client(config.url, self._timeout_s, MOST_CONNECTIONS, "sharing.url")
        self._exchange = self._client.register_script(EXCHANGE)
        self._token = self._client.register_script(HOLD)
        self._lease = self._client.register_script(LEASE)

    async def exchange(self, kind: str, process: str, row: bytes, ttl_s: float) -> dict[str, Found]:
        keys = [f"{self._prefix}:processes:{kind}"]
        arguments: list[str | bytes | int] = [f"{self._prefix}:{kind}:", process, row, _ms(ttl_s)]
        flat: list[Any] = await self._ask(lambda: self._exchange(keys, arguments))
        triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        return {each.decode(errors="replace"): Found(value, max(0, age_ms) / 1000) for each, value, age_ms in triples}

    async def withdraw(self, process: str) -> None:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.zrem(f"{self._prefix}:processes:load", process)
        pipeline.delete(f"{self._prefix}:load:{process}")
        await self._ask(pipeline.execute)

    async def token(self, name: str, process: str, ttl_s: float) -> bool:
        key = f"{self._prefix}:token:{name}"
        return bool(await self._ask(lambda: self._token([key], [process, _ms(ttl_s)])))

    async def lease(self, name: str, process: str, cap: int, want: int, used: int, lease_s: float) -> Grant:
        keys = [f"{self._prefix}:{kind}:{name}" for kind in ("cap", "slots", "wanted")]
        slots, wanted = await self._ask(lambda: self._lease(keys, [process, cap, want, used, _ms(lease_s)]))
        return Grant(int(slots), bool(wanted))

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _ask(self, operation: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await operation()
        except FAULTS as error:
            raise StoreError(str(error) or type(error).__name__) from error


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
