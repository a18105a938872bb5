"""What a response cache is: one suite over memory, a real Redis and a real Valkey; then what happens in an outage."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from app.cache import codec
from app.cache.base import CachedAnswer, CachedChoice, ResponseCache
from app.cache.memory import MemoryCache
from app.cache.redis import RedisCache
from backends.clock import SystemClock, VirtualClock
from backends.types import Usage
from tests.servers import RedisServer, redis_server

TTL_S = 1.0
MAX_VALUE_BYTES = 5000
TIMEOUT_S = 0.05
AMPLE_S = 5.0
"""Where it is not about outages: a busy machine is none."""


def answer(text: str = "hello") -> CachedAnswer:
    choices = (CachedChoice(text, "stop"), CachedChoice("", "length"))
    return CachedAnswer(choices, Usage(3, 1, 2, 0), "m", "b", "gpu", 123, 456)


def redis_cache(url: str, ttl_s: float = TTL_S, timeout_s: float = TIMEOUT_S) -> RedisCache:
    return RedisCache(SystemClock(), url, timeout_s, "test", ttl_s, MAX_VALUE_BYTES)


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(request.param) as started:
        yield started


@pytest.fixture(params=["memory", "redis", "valkey"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[ResponseCache]:
    if request.param == "memory":
        made: ResponseCache = MemoryCache(SystemClock(), TTL_S, 100_000, MAX_VALUE_BYTES)
        yield made
        await made.aclose()
        return
    with redis_server(request.param) as started:
        made = redis_cache(started.url, timeout_s=AMPLE_S)
        yield made
        await made.aclose()


async def test_what_is_set_is_got_back_whole(cache: ResponseCache) -> None:
    assert await cache.get(b"k" * 32) is None
    await cache.set(b"k" * 32, answer())
    assert await cache.get(b"k" * 32) == answer()
    assert await cache.ping()


async def test_keys_do_not_see_each_other(cache: ResponseCache) -> None:
    await cache.set(b"a" * 32, answer("for a"))
    await cache.set(b"b" * 32, answer("for b"))
    assert (await cache.get(b"a" * 32)) == answer("for a")
    assert await cache.get(b"c" * 32) is None


async def test_the_last_write_wins(cache: ResponseCache) -> None:
    await cache.set(b"k" * 32, answer("old"))
    await cache.set(b"k" * 32, answer("new"))
    assert await cache.get(b"k" * 32) == answer("new")


async def test_an_entry_is_gone_after_its_ttl(cache: ResponseCache) -> None:
    await cache.set(b"k" * 32, answer())
    deadline_s = time.monotonic() + 5
    while await cache.get(b"k" * 32) is not None:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


async def test_a_value_that_is_too_large_is_not_kept(cache: ResponseCache) -> None:
    await cache.set(b"k" * 32, answer("x" * MAX_VALUE_BYTES))
    assert await cache.get(b"k" * 32) is None


async def test_memory_is_bounded_by_bytes_and_forgets_the_least_recently_used() -> None:
    clock = VirtualClock()
    memory = MemoryCache(clock, 60, 2000, 1000)
    for name in b"abc":
        await memory.set(bytes([name]) * 32, answer("x" * 300))
    await memory.get(b"a" * 32)
    for name in b"de":
        await memory.set(bytes([name]) * 32, answer("x" * 300))
        assert memory.used_bytes <= 2000
    assert await memory.get(b"a" * 32) is not None
    assert await memory.get(b"b" * 32) is None
    await memory.aclose()
    assert memory.used_bytes == 0


@pytest.mark.parametrize("mangle", [lambda v: v[:-1], lambda v: b"XXXX" + v[4:], lambda v: v[:9] + b"!" + v[10:]])
async def test_a_corrupt_value_in_redis_is_a_miss(server: RedisServer, mangle: object) -> None:
    assert callable(mangle)
    cache = redis_cache(server.url, ttl_s=60, timeout_s=AMPLE_S)
    key = b"z" * 32
    await cache.set(key, answer())
    name = b"test:1:" + key
    value = await cache._client.get(name)
    assert isinstance(value, bytes)
    assert codec.decode(value) == answer()
    await cache._client.set(name, mangle(value))
    assert await cache.get(key) is None
    await cache._client.set(name, b"not ours at all")
    assert await cache.get(key) is None
    await cache.aclose()


async def timed(cache: ResponseCache) -> float:
    began_s = time.perf_counter()
    assert await cache.get(b"k" * 32) is None
    return time.perf_counter() - began_s


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_hung_server_costs_one_time_limit_then_nothing_and_comes_back(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(kind) as server, caplog.at_level(logging.INFO, "turnout.cache"):
        cache = redis_cache(server.url, ttl_s=60)
        await cache.set(b"k" * 32, answer())
        assert await cache.get(b"k" * 32) == answer()
        server.process.send_signal(signal.SIGSTOP)
        try:
            assert await timed(cache) < TIMEOUT_S + 0.05
            later = [await timed(cache) for _ in range(20)]
            assert sum(later) < TIMEOUT_S + 0.05, "the breaker should spare the others the wait"
        finally:
            server.process.send_signal(signal.SIGCONT)
        deadline_s = time.monotonic() + 10
        while await cache.get(b"k" * 32) is None:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)
        await cache.aclose()
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "response cache unreachable",
        "response cache is back",
    ]


async def test_a_dead_server_is_a_miss_for_reads_and_writes(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("valkey") as server, caplog.at_level(logging.INFO, "turnout.cache"):
        cache = redis_cache(server.url)
        await cache.set(b"k" * 32, answer())
        server.process.kill()
        server.process.wait()
        assert await timed(cache) < TIMEOUT_S + 0.05
        await cache.set(b"k" * 32, answer())
        assert not await cache.ping()
        await cache.aclose()
    assert len(caplog.records) == 1
