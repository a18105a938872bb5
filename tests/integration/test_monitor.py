"""A gateway that looks after `turnout emulate` servers: what they report, and that they have gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from tests.gateways import running
from tests.upstreams import MODEL, emulating, live_config

MONITOR = "{metrics_url: 'URL/metrics', interval_s: 0.1, timeout_s: 1}"


async def test_what_the_engine_reports_is_known_and_shown(tmp_path: Path) -> None:
    async with (
        emulating(time_scale=1.0) as up,
        running(live_config(tmp_path, {"up": up.url}, monitor=MONITOR)) as at,
        httpx.AsyncClient(base_url=at.admin_url, timeout=10) as client,
    ):
        state = at.gateway.fleet.state

        async def until_running(count: int) -> None:
            async with asyncio.timeout(10):
                while "up" not in state.scraped or state.scraped["up"].running != count:
                    await asyncio.sleep(0.01)

        await until_running(0)
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5000, "ignore_eos": True}
        # Not through the gateway: its own count does not know of it.
        async with client.stream("POST", f"{up.url}/v1/chat/completions", json={**body, "stream": True}):
            await until_running(1)
            assert state.load("up").sequences == 0
            assert 0 < (state.scraped["up"].kv_used_ratio or 0) < 1
            (backend,) = (await client.get("/admin/backends")).json()["backends"]
            assert backend["monitor"]["reported"]["running"] == 1
            assert backend["monitor"]["ping"]["ok"] is True
            assert backend["monitor"]["scrape"]["stale"] is False
            text = (await client.get("/metrics")).text
            assert 'turnout_backend_up{backend="up",substrate="gpu"} 1.0' in text
            assert 'turnout_state_age_seconds{backend="up",signal="scrape"} 0.' in text
        await until_running(0)


async def test_a_service_that_is_not_there_is_down_and_the_gateway_ready(tmp_path: Path) -> None:
    config = live_config(tmp_path, {"gone": "http://127.0.0.1:9"}, monitor=MONITOR)
    async with running(config) as at, httpx.AsyncClient(base_url=at.admin_url, timeout=10) as client:
        async with asyncio.timeout(10):
            while at.gateway.metrics.monitor_failures.total() < 4:
                await asyncio.sleep(0.01)
        assert 'turnout_backend_up{backend="gone",substrate="gpu"} 0.0' in (await client.get("/metrics")).text
        (backend,) = (await client.get("/admin/backends")).json()["backends"]
        assert "no connection to gone" in backend["monitor"]["ping"]["error"]
        assert backend["monitor"]["scrape"]["ok"] is False
        assert (await client.get(f"{at.url}/readyz")).status_code == 200


async def test_a_reload_can_begin_and_end_it(tmp_path: Path) -> None:
    async with emulating() as up:
        with_it = live_config(tmp_path, {"up": up.url}, monitor=MONITOR)
        without = live_config(tmp_path, {"up": up.url})
        async with running(without, read=lambda: with_it) as at, httpx.AsyncClient(base_url=at.admin_url) as client:
            assert (await client.get("/admin/backends")).json()["backends"][0]["monitor"] is None
            done = (await client.post("/admin/config/reload")).json()
            assert (done["backends"]["changed"], done["backends"]["rebuilt"]) == (["up"], [])
            async with asyncio.timeout(10):
                while "up" not in at.gateway.fleet.state.scraped:
                    await asyncio.sleep(0.01)
