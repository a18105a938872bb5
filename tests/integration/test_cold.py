"""Backends that are scaled to zero when idle, through a gateway: admin port, commands, metrics, receipts, reload."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from app.cli import main
from app.config.load import LoadedConfig, load
from app.config.models import ColdStartConfig, TokenPricing
from backends import errors
from backends.clock import VirtualClock
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, running, scripted_config
from tests.upstreams import emulating, live_config

CHAT = "/v1/chat/completions"
S = 1_000_000_000
LOOSE = {"x-slo-e2e-ms": "300000", "x-slo-ttft-ms": "200000"}
COLD = ColdStartConfig(warm_up_s=90, idle_after_s=600)


def body(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi there"}], **fields}


def cold_config(
    folder: Path, backends: Sequence[ScriptedBackend], cold_start: ColdStartConfig | None = COLD, **sections: Any
) -> LoadedConfig:
    """The first of two backends is cold, and a tenth as dear."""
    loaded = scripted_config(folder, backends, **sections)
    first, second = loaded.config.backends
    assert isinstance(second.pricing, TokenPricing)
    dear = second.pricing.model_copy(update={"usd_per_million_prompt": Decimal(10)})
    listed = (first.model_copy(update={"cold_start": cold_start}), second.model_copy(update={"pricing": dear}))
    return replace(loaded, config=loaded.config.model_copy(update={"backends": listed}))


async def turnout(at: Running, *arguments: str) -> tuple[int, str]:
    """A command against the admin port, from another thread: the gateway is in this one."""
    command = [*arguments, "--admin-url", at.admin_url]
    done = await asyncio.to_thread(CliRunner().invoke, main, command, catch_exceptions=False)
    return done.exit_code, done.stdout + done.stderr


async def warmth(client: httpx.AsyncClient, at: Running, name: str = "a") -> Any:
    listed = (await client.get(f"{at.admin_url}/admin/backends")).json()["backends"]
    return next(each["warmth"] for each in listed if each["name"] == name)


async def gauge(client: httpx.AsyncClient, at: Running, name: str) -> list[str]:
    text = (await client.get(f"{at.admin_url}/metrics")).text
    return [line for line in text.splitlines() if line.startswith(f"{name}{{")]


async def test_what_an_operator_sees_of_it_and_can_do(tmp_path: Path) -> None:
    clock, backends = VirtualClock(S), [ScriptedBackend("a"), ScriptedBackend("b")]
    async with (
        running(cold_config(tmp_path, backends), backends, clock) as at,
        httpx.AsyncClient(base_url=at.url) as client,
    ):
        assert await warmth(client, at) == {"state": "cold", "warm_in_s": 90.0}
        assert await warmth(client, at, "b") is None
        assert await gauge(client, at, "turnout_backend_warmth") == ['turnout_backend_warmth{backend="a"} 0.0']
        status = (await client.get(f"{at.admin_url}/admin/status")).json()["backends"]
        assert (status["cold"], status["warming"]) == (["a"], [])
        assert "cold: a" in (await turnout(at, "status"))[1]

        assert await turnout(at, "backends", "warm", "a") == (0, "a: warming (warm in 90 s), 0 in flight\n")
        assert backends[0].warmed == 1
        await clock.advance_to(61 * S)
        assert await warmth(client, at) == {"state": "warming", "warm_in_s": 30.0}
        assert await gauge(client, at, "turnout_backend_warmth") == ['turnout_backend_warmth{backend="a"} 1.0']
        assert "warming: a" in (await turnout(at, "status"))[1]
        assert (await client.post(f"{at.admin_url}/admin/backends/a/warm")).json()["warmth"]["state"] == "warming"
        assert backends[0].warmed == 1, "once is enough"

        await clock.advance_to(91 * S)
        assert await gauge(client, at, "turnout_backend_warmth") == ['turnout_backend_warmth{backend="a"} 2.0']
        assert (await client.post(CHAT, json=body())).headers["x-turnout-backend"] == "a"
        await clock.advance_to(691 * S)
        assert (await warmth(client, at))["state"] == "cold"

        code, said = await turnout(at, "backends", "warm", "b")
        assert (code, "never cold" in said) == (1, True)
        refused = await client.post(f"{at.admin_url}/admin/backends/b/warm")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "never_cold")
        missing = await client.post(f"{at.admin_url}/admin/backends/nobody/warm")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "backend_not_found")


async def test_the_receipt_and_explain_say_what_warming_up_adds(tmp_path: Path) -> None:
    clock, backends = VirtualClock(), [ScriptedBackend("a"), ScriptedBackend("b")]
    async with (
        running(cold_config(tmp_path, backends), backends, clock) as at,
        httpx.AsyncClient(base_url=at.url) as client,
    ):
        answer = await client.post(CHAT, json=body())
        assert answer.headers["x-turnout-backend"] == "b", "an interactive promise does not allow for it"
        receipt = (await client.get(f"{at.admin_url}/admin/decisions/{answer.headers['x-turnout-decision']}")).json()
        predicted = {each["backend"]: each["predicted"] for each in receipt["candidates"]}
        assert (predicted["a"]["warm_up_s"], predicted["b"]["warm_up_s"]) == (90.0, 0.0)
        assert predicted["a"]["ttft_s"] > 90.0
        code, said = await turnout(at, "explain", "--id", answer.headers["x-turnout-decision"])
        assert (code, "warm up for 90 s" in " ".join(said.replace("│", " ").split())) == (0, True), said
        loose = await client.post(CHAT, json=body(), headers=LOOSE)
        assert loose.headers["x-turnout-backend"] == "a"
        assert (await warmth(client, at))["state"] == "warm", "its first token has come"
        assert at.gateway.fleet.state.corrections("a m").ttft.pool.samples == 0


async def test_one_that_refuses_while_it_warms_up_is_left_and_no_breaker_opens(tmp_path: Path) -> None:
    refuses = Script(fail_after=0, error=lambda: errors.Unavailable("503"))
    clock, backends = VirtualClock(), [ScriptedBackend("a", scripts=[refuses]), ScriptedBackend("b")]
    async with (
        running(cold_config(tmp_path, backends), backends, clock) as at,
        httpx.AsyncClient(base_url=at.url) as client,
    ):
        for _ in range(8):
            assert (await client.post(CHAT, json=body(), headers=LOOSE)).headers["x-turnout-backend"] == "b"
        assert len(backends[0].requests) == 1
        look = at.gateway.fleet.health.look("a", clock.now_ns())
        assert (look.breaker, look.gate, look.opens_in_s) == ("closed", "cold", 10.0)
        assert await gauge(client, at, "turnout_backend_gated") == [
            'turnout_backend_gated{backend="a",reason="cold"} 1.0'
        ]


async def test_a_reload_keeps_what_is_known_and_declares_anew(tmp_path: Path) -> None:
    clock, backends = VirtualClock(), [ScriptedBackend("a"), ScriptedBackend("b")]
    declared: list[ColdStartConfig | None] = [COLD, None, ColdStartConfig(warm_up_s=5, starts="warm")]
    editions = [cold_config(tmp_path, backends, each) for each in declared]
    async with (
        running(editions[0], backends, clock, lambda: editions.pop(0)) as at,
        httpx.AsyncClient() as client,
    ):
        editions.pop(0)
        await client.post(f"{at.admin_url}/admin/backends/a/warm")
        for expected in (None, {"state": "warm", "warm_in_s": 0.0}):
            told = await client.post(f"{at.admin_url}/admin/config/reload")
            assert told.json()["backends"]["changed"] == ["a"], told.text
            assert await warmth(client, at) == expected


async def test_caps_show_what_is_allowed_and_used(tmp_path: Path) -> None:
    gate = asyncio.Event()
    backends = [ScriptedBackend("a", scripts=[Script(hang_before=1, gate=gate)]), ScriptedBackend("b")]
    loaded = scripted_config(tmp_path, backends)
    first, second = loaded.config.backends
    listed = (first.model_copy(update={"max_in_flight": 3}), second)
    loaded = replace(loaded, config=loaded.config.model_copy(update={"backends": listed}))
    async with (
        running(loaded, backends) as at,
        httpx.AsyncClient(base_url=at.url) as client,
        client.stream("POST", CHAT, json=body(stream=True)) as answer,
    ):
        assert answer.headers["x-turnout-backend"] == "a"
        assert await gauge(client, at, "turnout_backend_slots") == [
            'turnout_backend_slots{backend="a",kind="allowed"} 3.0',
            'turnout_backend_slots{backend="a",kind="used"} 1.0',
        ]
        gate.set()
        await answer.aread()


@pytest.mark.parametrize("stream", [True, False])
async def test_a_live_service_that_answers_late_because_it_warms_up_is_waited_for(tmp_path: Path, stream: bool) -> None:
    """Its first byte comes after more than `first_byte_s` and `whole_s`, but within what is declared."""
    limits = "{connect_s: 1, first_byte_s: 0.2, idle_s: 5, whole_s: 0.2}"
    async with emulating(time_scale=0.03) as service:
        loaded = live_config(tmp_path, {"first": service.url}, timeouts=limits)
        (only,) = loaded.config.backends
        codes = []
        for cold_start in (None, ColdStartConfig(warm_up_s=5)):
            listed = (only.model_copy(update={"cold_start": cold_start}),)
            config = replace(loaded, config=loaded.config.model_copy(update={"backends": listed}))
            async with running(config) as at, httpx.AsyncClient(base_url=at.url, timeout=10) as client:
                asked = body(model="small", stream=stream, max_tokens=4)
                codes.append((await client.post(CHAT, json=asked, headers=LOOSE)).status_code)
        assert codes == [504, 200]


async def test_an_emulated_backend_takes_its_time_in_wall_time_once(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(
        "version: 1\nextends: shipped\ncache: {type: off}\nmodels: {llama-3.1-8b: {}}\n"
        f"ledger: {{path: {tmp_path / 'ledger.sqlite3'}}}\nbackends:\n"
        "  - {name: a, kind: gpu, chip: h100, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],\n"
        "     cold_start: {warm_up_s: 0.5},\n"
        "     pricing: {type: chip_hours, usd_per_chip_hour: 2.0, source: test, confidence: assumed}}\n"
    )
    now_s = asyncio.get_running_loop().time
    async with running(load(path)) as at, httpx.AsyncClient(base_url=at.url) as client:
        began_s = now_s()
        for at_least_s in (0.5, 0.0):
            answer = await client.post(CHAT, json=body(model="llama-3.1-8b", max_tokens=2))
            assert answer.status_code == 200
            assert now_s() - began_s >= at_least_s
            assert await warmth(client, at) == {"state": "warm", "warm_in_s": 0.0}, "it has answered"
        made = at.gateway.fleet.receipts.latest(2)
        assert [each.chosen.prediction.warm_up_s for each in made if each.chosen is not None] == [0.0, 0.5]
