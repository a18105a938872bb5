"""Gateways that share over a real Redis and a real Valkey: they see each other's load, and do without."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config.models import RedisSharing
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, running, scripted_config, until
from tests.servers import RedisServer, _await_ready, redis_server

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi there"}]}
MUST = {**BODY, "priority": 1}
"""To be served, however late: else one beside two that never end might be shed."""


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    with redis_server(request.param) as made:
        yield made


def config(server: RedisServer) -> RedisSharing:
    return RedisSharing(type="redis", url=server.url, interval_s=0.02, row_ttl_s=0.5, timeout_ms=500)


def up(gateway: Running) -> tuple[bool, int]:
    status = gateway.gateway.sharer.status()
    assert status is not None
    return status.up, status.processes


@contextlib.contextmanager
def restarted(server: RedisServer) -> Iterator[subprocess.Popen[bytes]]:
    """A server that was killed, anew on the same port, knowing nothing."""
    again = subprocess.Popen(server.process.args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield again
    finally:
        again.kill()
        again.wait()


async def test_two_gateways_see_each_others_load_and_forget_who_left(server: RedisServer, tmp_path: Path) -> None:
    gate = asyncio.Event()
    slow = ScriptedBackend("a", scripts=[Script(("one", " two"), hang_before=1, gate=gate)])
    loaded = scripted_config(tmp_path, [slow], sharing=config(server))
    async with running(loaded, [slow]) as one, running(loaded, [ScriptedBackend("a")]) as two:
        await until(lambda: up(one) == up(two) == (True, 2))
        async with httpx.AsyncClient(timeout=20) as client:
            asked = [asyncio.create_task(client.post(one.url + CHAT, json=MUST)) for _ in range(3)]
            load = two.gateway.fleet.state.load("a")
            await until(lambda: load.others.sequences == 3)
            assert load.sequences == 0
            assert one.gateway.fleet.state.load("a").others.sequences == 0, "the own load is not another's"
            page = (await client.get(two.admin_url + "/metrics")).text
            assert "turnout_shared_state_up 1.0" in page
            assert "turnout_shared_state_processes 2.0" in page
            shown = (await client.get(two.admin_url + "/admin/status")).json()["sharing"]
            assert (shown["up"], shown["processes"]) == (True, 2)
            gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
            await until(lambda: load.others.sequences == 0)


async def test_redis_gone_and_back_fails_no_request(server: RedisServer, tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    loaded = scripted_config(tmp_path, [backend], sharing=config(server))
    statuses: list[int] = []
    async with running(loaded, [backend]) as one, httpx.AsyncClient() as client:

        async def traffic() -> None:
            while True:
                statuses.append((await client.post(one.url + CHAT, json=BODY)).status_code)

        await until(lambda: up(one)[0])
        asking = asyncio.create_task(traffic())
        await until(lambda: len(statuses) > 20)
        server.process.kill()
        server.process.wait()
        await until(lambda: not up(one)[0])
        assert "turnout_shared_state_up 0.0" in (await client.get(one.admin_url + "/metrics")).text
        seen = len(statuses)
        await until(lambda: len(statuses) > seen + 50)
        with restarted(server) as again:
            await asyncio.to_thread(_await_ready, server.port, again)
            await until(lambda: up(one)[0])
            assert "turnout_shared_state_up 1.0" in (await client.get(one.admin_url + "/metrics")).text
            asking.cancel()
            assert set(statuses) == {200}


async def test_when_redis_is_back_everybody_knows_the_others_load_again(server: RedisServer, tmp_path: Path) -> None:
    """Row: Redis outage, convergence. Meanwhile each goes by its own count, and what runs goes on."""
    gate = asyncio.Event()
    slow = ScriptedBackend("a", scripts=[Script(("one", " two"), hang_before=1, gate=gate)])
    loaded = scripted_config(tmp_path, [slow], sharing=config(server))
    async with (
        running(loaded, [slow]) as one,
        running(loaded, [ScriptedBackend("a")]) as two,
        httpx.AsyncClient(timeout=20) as client,
    ):
        asked = [asyncio.create_task(client.post(one.url + CHAT, json=MUST)) for _ in range(3)]
        load = two.gateway.fleet.state.load("a")
        await until(lambda: load.others.sequences == 3)
        server.process.kill()
        server.process.wait()
        await until(lambda: load.others.sequences == 0 and not up(one)[0] and not up(two)[0])
        with restarted(server) as again:
            await asyncio.to_thread(_await_ready, server.port, again)
            await until(lambda: up(one) == up(two) == (True, 2))
            await until(lambda: load.others.sequences == 3)
            gate.set()
            assert {answer.status_code for answer in await asyncio.gather(*asked)} == {200}
            await until(lambda: load.others.sequences == 0)
