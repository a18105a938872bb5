"""Eight real gateway processes share a cap over a real Redis: never exceeded, and back soon after kill -9 of one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateways import gateway_processes, listening
from tests.servers import RedisServer, redis_server

CAP, PROCESSES, CLIENTS, LEASE_S = 16, 8, 6, 1.0
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi there"}]}
CONFIG = """
version: 1
extends: shipped
models: {{m: {{}}}}
aliases: {{}}
cache: {{type: "off"}}
ledger: {{path: ledger.sqlite3}}
sharing: {{type: redis, url: "{redis}", interval_s: 0.05, row_ttl_s: {lease_s}, timeout_ms: 500}}
backends:
  - name: service
    mode: live
    kind: hosted
    url: {upstream}
    max_in_flight: {cap}
    profile: {{ttft_ms: 50, tpot_ms: 5}}
    deployments: [{{model: m, context_tokens: 8192}}]
    pricing: {{type: tokens, usd_per_million_prompt: 1, usd_per_million_completion: 1, source: t, confidence: assumed}}
"""
ANSWER = json.dumps(
    {
        "id": "1", "object": "chat.completion", "created": 7, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()  # fmt: skip


class Service:
    """An upstream that counts how many requests it has at a time."""

    def __init__(self) -> None:
        self.now = self.most = self.answered = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.25)
        finally:
            self.now -= 1
        self.answered += 1
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": ANSWER})


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(request.param) as made:
        yield made


async def ask(client: httpx.AsyncClient, url: str, statuses: list[int]) -> None:
    while True:
        try:
            statuses.append((await client.post(f"{url}/v1/chat/completions", json=BODY)).status_code)
        except httpx.TransportError:
            return  # its gateway was killed
        if statuses[-1] != 200:
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def load(urls: list[str]) -> AsyncIterator[list[int]]:
    statuses: list[int] = []
    async with httpx.AsyncClient(timeout=20) as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(client, url, statuses)) for url in urls for _ in range(CLIENTS)]
        try:
            yield statuses
        finally:
            for task in tasks:
                task.cancel()


async def full(service: Service, within_s: float) -> float:
    """Seconds until the whole cap is in use at once."""
    began_s = asyncio.get_running_loop().time()
    async with asyncio.timeout(within_s):
        while service.now < CAP:
            await asyncio.sleep(0.001)
    return asyncio.get_running_loop().time() - began_s


async def test_the_cap_holds_over_eight_processes_and_survives_kill_9(server: RedisServer, tmp_path: Path) -> None:
    service = Service()
    async with listening(service) as upstream:
        config = CONFIG.format(redis=server.url, upstream=upstream, cap=CAP, lease_s=LEASE_S)
        with contextlib.ExitStack() as stack:
            started = await asyncio.to_thread(stack.enter_context, gateway_processes(tmp_path, config, PROCESSES))
            async with load([url for url, _, _ in started]) as statuses:
                await full(service, 20)
                held = service.answered
                while service.answered < held + 64:
                    await asyncio.sleep(0.01)
                started[0][2].kill()
                await asyncio.sleep(0.4)  # its requests at the service end
                back_s = await full(service, 5 * LEASE_S)
                print(f"\nthe whole cap is in use again {0.4 + back_s:.2f} s after kill -9 (lease {LEASE_S} s)")
                assert back_s <= LEASE_S + 3
                seen = service.answered
                while service.answered < seen + 64:
                    await asyncio.sleep(0.01)
            assert service.most == CAP
            assert set(statuses) == {200, 429}
