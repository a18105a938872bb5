"""Identical requests at several gateways on one Redis: one generation, and what happens when its process goes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config.caching import RedisCache
from app.flights import Flight
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, running, scripted_config, until
from tests.integration.test_caching import CHAT, body, said
from tests.servers import RedisServer, redis_server

WORDS = tuple(f"w{place} " for place in range(30))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server("valkey") as started:
        yield started


async def gateway(stack: AsyncExitStack, folder: Path, url: str, backend: ScriptedBackend, prefix: str) -> Running:
    folder.mkdir(exist_ok=True)
    cache = RedisCache(type="redis", url=url, timeout_ms=1000, key_prefix=prefix)
    return await stack.enter_async_context(running(scripted_config(folder, [backend], cache=cache), [backend]))


def flying(at: Running) -> list[Flight]:
    """The generations that its requests read."""
    caching = at.gateway.service._caching
    assert caching is not None
    assert caching.flights is not None
    return list(caching.flights._flying.values())


async def ask(client: httpx.AsyncClient, at: Running, **fields: Any) -> httpx.Response:
    return await client.post(f"{at.url}{CHAT}", json=body(max_tokens=100, **fields))


@pytest.mark.parametrize("stream", [True, False])
async def test_several_gateways_one_generation_every_client_whole(
    tmp_path: Path, server: RedisServer, stream: bool
) -> None:
    backends = [ScriptedBackend("a", scripts=[Script(words=WORDS, delay_s=0.02)]) for _ in range(4)]
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=500))
        )
        gateways = [
            await gateway(stack, tmp_path / str(place), server.url, backend, f"all{stream}")
            for place, backend in enumerate(backends)
        ]
        answers = await asyncio.gather(*(ask(client, gateways[place % 4], stream=stream) for place in range(200)))
    assert {said(answer) for answer in answers} == {"".join(WORDS)}
    assert sum(len(backend.requests) for backend in backends) == 1
    results = [answer.headers["x-turnout-cache"] for answer in answers]
    assert (results.count("miss"), results.count("coalesced")) == (1, 199)


async def test_a_follower_streams_while_the_holder_generates(tmp_path: Path, server: RedisServer) -> None:
    gate = asyncio.Event()
    ours, theirs = ScriptedBackend("a", scripts=[Script(words=WORDS, hang_before=10, gate=gate)]), ScriptedBackend("a")
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        first = await gateway(stack, tmp_path / "1", server.url, ours, "live")
        second = await gateway(stack, tmp_path / "2", server.url, theirs, "live")
        leading = asyncio.create_task(ask(client, first, stream=True))
        await until(lambda: bool(ours.requests))
        request = client.build_request("POST", f"{second.url}{CHAT}", json=body(max_tokens=100, stream=True))
        following = await client.send(request, stream=True)
        seen = ""
        pieces = following.aiter_text()
        async with asyncio.timeout(5):
            while "w9" not in seen:
                seen += await anext(pieces)
        gate.set()
        async for piece in pieces:
            seen += piece
        assert seen.endswith("data: [DONE]\n\n")
        assert said(await leading) == "".join(WORDS)
    assert theirs.requests == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_holder_that_leaves_hands_over(tmp_path: Path, server: RedisServer, stream: bool) -> None:
    """Its only client goes, so it stops; what followers had heard is passed over in the new generation."""
    ours = ScriptedBackend("a", scripts=[Script(words=WORDS, hang_before=10)])
    theirs = ScriptedBackend("a", scripts=[Script(words=WORDS)])
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        first = await gateway(stack, tmp_path / "1", server.url, ours, f"over{stream}")
        second = await gateway(stack, tmp_path / "2", server.url, theirs, f"over{stream}")
        leading = asyncio.create_task(ask(client, first, stream=stream))
        await until(lambda: bool(ours.requests))
        following = asyncio.create_task(ask(client, second, stream=stream))
        await until(lambda: any(flight.source is not None for flight in flying(second)))
        leading.cancel()
        answer = await following
    assert said(answer) == "".join(WORDS)
    assert len(theirs.requests) == 1


async def test_without_redis_each_generates_for_itself(tmp_path: Path) -> None:
    with redis_server("valkey") as server:
        backends = [ScriptedBackend("a", scripts=[Script(words=WORDS)]) for _ in range(2)]
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
            gateways = [
                await gateway(stack, tmp_path / str(place), server.url, backend, "gone")
                for place, backend in enumerate(backends)
            ]
            server.process.kill()
            server.process.wait()
            answers = await asyncio.gather(*(ask(client, each) for each in gateways))
        assert [said(answer) for answer in answers] == ["".join(WORDS)] * 2
        assert [len(backend.requests) for backend in backends] == [1, 1]
