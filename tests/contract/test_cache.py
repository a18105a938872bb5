"""What a response cache is: one suite over memory, a real Redis and a real Valkey; then what happens in an outage."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from app.cache.base import Store
from app.cache.memory import MemoryStore
from app.cache.redis import RedisStore
from app.redis import Client
from backends.clock import SystemClock, VirtualClock
from tests.servers import RedisServer, redis_server

TTL_S = 1.0
TIMEOUT_S = 0.05
AMPLE_S = 5.0
"""Where it is not about outages: a busy machine is none."""

KEY = b"k" * 32


def redis_store(url: str, timeout_s: float = TIMEOUT_S, prefix: str = "test") -> RedisStore:
    return RedisStore(SystemClock(), Client(url, timeout_s, 16, "the test's URL"), timeout_s, prefix)


@pytest.fixture(scope="module", params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(request.param) as started:
        yield started


@pytest.fixture(params=["memory", "redis", "valkey"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        made: Store = MemoryStore(SystemClock(), 100_000)
        yield made
        await made.aclose()
        return
    with redis_server(request.param) as started:
        made = redis_store(started.url, timeout_s=AMPLE_S)
        yield made
        await made.aclose()


async def test_what_is_set_is_got_back(store: Store) -> None:
    assert await store.get(KEY) is None
    await store.set(KEY, b"\x00value\xff", TTL_S * 60)
    assert await store.get(KEY) == b"\x00value\xff"
    assert await store.ping()


async def test_keys_do_not_see_each_other(store: Store) -> None:
    await store.set(b"a" * 32, b"for a", 60)
    await store.set(b"b" * 32, b"for b", 60)
    got = await asyncio.gather(*(store.get(bytes([name]) * 32) for name in b"abcab"))
    assert got == [b"for a", b"for b", None, b"for a", b"for b"]


async def test_the_last_write_wins_and_what_is_deleted_is_gone(store: Store) -> None:
    await store.set(KEY, b"old", 60)
    await store.set(KEY, b"new", 60)
    assert await store.get(KEY) == b"new"
    await store.delete(KEY)
    await store.delete(KEY)
    assert await store.get(KEY) is None


async def test_an_entry_is_gone_after_its_time(store: Store) -> None:
    await store.set(KEY, b"v", TTL_S)
    deadline_s = time.monotonic() + 5
    while await store.get(KEY) is not None:
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


async def test_it_can_be_counted_and_emptied(store: Store) -> None:
    for name in range(5):
        await store.set(bytes([name]) * 32, b"v", 60)
    assert (await store.stats())["entries"] == 5
    await store.clear()
    assert (await store.stats())["entries"] == 0
    assert await store.get(b"\x01" * 32) is None


async def test_memory_is_bounded_by_bytes_and_forgets_the_least_recently_used() -> None:
    memory = MemoryStore(VirtualClock(), 2000)
    for name in b"abc":
        memory.put(bytes([name]) * 32, b"x" * 300, 60)
    memory.find(b"a" * 32)
    for name in b"de":
        memory.put(bytes([name]) * 32, b"x" * 300, 60)
        assert memory.used_bytes <= 2000
    assert memory.find(b"a" * 32) is not None
    assert memory.find(b"b" * 32) is None
    memory.put(b"z" * 32, b"x" * 3000, 60)
    assert memory.find(b"z" * 32) is None
    await memory.aclose()
    assert memory.used_bytes == 0


async def test_a_million_entries_stay_within_the_bound() -> None:
    memory = MemoryStore(VirtualClock(), 500_000)
    for number in range(1_000_000):
        memory.put(number.to_bytes(32, "big"), b"value", 60)
    assert memory.used_bytes <= 500_000
    assert memory.evicted > 990_000


async def test_another_prefix_is_another_cache(server: RedisServer) -> None:
    ours, theirs = (redis_store(server.url, AMPLE_S, prefix) for prefix in ("a*", "ab"))
    await ours.set(KEY, b"ours", 60)
    await theirs.set(KEY, b"theirs", 60)
    await ours.clear()
    assert await ours.get(KEY) is None
    assert await theirs.get(KEY) == b"theirs"
    assert (await ours.times_emptied(), await theirs.times_emptied()) == (1, 0)
    await ours.aclose()
    await theirs.aclose()


async def test_look_ups_at_the_same_time_are_one_round_trip(server: RedisServer) -> None:
    store = redis_store(server.url, AMPLE_S, "trips")
    await store.set(KEY, b"v", 60)
    before = (await store.client.info("stats"))["total_commands_processed"]
    got = await asyncio.gather(*(store.get(KEY if place % 2 else b"n" * 32) for place in range(100)))
    after = (await store.client.info("stats"))["total_commands_processed"]
    assert got == [None, b"v"] * 50
    assert after - before == 2  # the look-up, and this question
    await store.aclose()


async def timed(store: Store) -> float:
    began_s = time.perf_counter()
    assert await store.get(KEY) is None
    return time.perf_counter() - began_s


@pytest.mark.parametrize("kind", ["redis", "valkey"])
async def test_a_hung_server_costs_one_time_limit_then_nothing_and_comes_back(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis_server(kind) as server, caplog.at_level(logging.INFO, "turnout.cache"):
        store = redis_store(server.url)
        await store.set(KEY, b"v", 60)
        assert await store.get(KEY) == b"v"
        server.process.send_signal(signal.SIGSTOP)
        try:
            assert await timed(store) < TIMEOUT_S + 0.05
            later = [await timed(store) for _ in range(20)]
            assert sum(later) < 0.05, "the breaker should spare the others the wait"
        finally:
            server.process.send_signal(signal.SIGCONT)
        deadline_s = time.monotonic() + 10
        while await store.get(KEY) is None:
            assert time.monotonic() < deadline_s
            await asyncio.sleep(0.05)
        await store.aclose()
    assert [record.message.split(" (")[0] for record in caplog.records] == [
        "response cache unreachable",
        "response cache is back",
    ]


async def test_a_dead_server_is_a_miss_for_reads_and_writes(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("valkey") as server, caplog.at_level(logging.INFO, "turnout.cache"):
        store = redis_store(server.url)
        await store.set(KEY, b"v", 60)
        server.process.kill()
        server.process.wait()
        assert await timed(store) < TIMEOUT_S + 0.05
        await store.set(KEY, b"v", 60)
        assert not await store.ping()
        assert (await store.stats())["reachable"] is False
        await store.aclose()
    assert len(caplog.records) == 1


async def test_a_full_or_read_only_server_refuses_and_goes_on_to_be_asked(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("valkey") as server, caplog.at_level(logging.INFO, "turnout.cache"):
        store = redis_store(server.url, AMPLE_S)
        await store.set(KEY, b"v", 60)
        await store.client.config_set("maxmemory", 1)
        for _ in range(50):
            await store.set(b"n" * 32, b"v" * 1000, 60)
        assert await store.get(KEY) == b"v"
        assert not store.breaker.open
        assert store.breaker.refusals == 50
        await store.client.config_set("maxmemory", 0)
        await store.client.replicaof("127.0.0.1", 1)
        await store.set(b"n" * 32, b"v", 60)
        assert await store.get(KEY) == b"v"
        await store.aclose()
    assert len(caplog.records) == 1
