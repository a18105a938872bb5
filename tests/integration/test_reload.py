"""Another configuration while requests are in flight: what began with the old one ends with it, and none fails."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config.deciding import RoutingConfig
from app.config.load import LoadedConfig, load
from app.config.models import ServerConfig
from app.errors import ReloadError
from app.wiring import build
from backends.base import Backend
from backends.errors import Unavailable
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, listening, running, scripted_config, until

WORDS = ("one", " two", " three")
TURNS = RoutingConfig(default_policy="round-robin")
"""The first request goes to the first backend."""

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


def with_backends(loaded: LoadedConfig, *names: str, **sections: Any) -> LoadedConfig:
    """The same configuration with only these backends."""
    listed = tuple(each for each in loaded.config.backends if each.name in names)
    config = loaded.config.model_copy(update={"backends": listed, **sections})
    return replace(loaded, config=config, hash="-".join(["hash", *names]))


def seeded(loaded: LoadedConfig) -> LoadedConfig:
    """The same configuration with another seed."""
    routing = TURNS.model_copy(update={"seed": 7})
    return replace(loaded, config=loaded.config.model_copy(update={"routing": routing}))


@dataclass
class Bench:
    """A gateway over scripted backends, and the configuration that its next reload finds."""

    at: Running
    client: httpx.AsyncClient
    first: LoadedConfig
    next: LoadedConfig

    async def reload(self, **query: int) -> httpx.Response:
        return await self.client.post(f"{self.at.admin_url}/admin/config/reload", params=query)

    async def ask(self, **fields: Any) -> httpx.Response:
        return await self.client.post(f"{self.at.url}/v1/chat/completions", json={**BODY, **fields})

    async def metric(self, name: str) -> float:
        text = (await self.client.get(f"{self.at.admin_url}/metrics")).text
        return float(next(line for line in text.splitlines() if line.startswith(name)).rpartition(" ")[2])


@contextlib.asynccontextmanager
async def bench(folder: Path, *backends: ScriptedBackend, **sections: Any) -> AsyncIterator[Bench]:
    first = scripted_config(folder, backends, **{"routing": TURNS, **sections})
    holder: list[Bench] = []
    async with (
        running(first, backends, read=lambda: holder[0].next) as at,
        httpx.AsyncClient(timeout=10) as client,
    ):
        holder.append(Bench(at, client, first, first))
        yield holder[0]


async def test_a_stream_in_flight_ends_on_the_backend_that_is_gone(tmp_path: Path) -> None:
    gate = asyncio.Event()
    a, b = ScriptedBackend("a", scripts=[Script(WORDS, hang_before=1, gate=gate)]), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        at.next = with_backends(at.first, "b")
        url = f"{at.at.url}/v1/chat/completions"
        async with at.client.stream("POST", url, json={**BODY, "stream": True}) as stream:
            lines = stream.aiter_lines()
            assert '"content":""' in await anext(lines)
            done = (await at.reload()).json()
            assert (done["changed"], done["from"], done["config"]) == (True, at.first.hash, "hash-b")
            assert done["backends"] == {"added": [], "removed": ["a"], "changed": [], "rebuilt": []}
            after = await at.ask()
            assert after.headers["x-turnout-backend"] == "b"
            assert after.headers["x-turnout-config"] == "hash-b"
            assert not a.closed
            gate.set()
            rest = [line async for line in lines]
        assert stream.headers["x-turnout-config"] == at.first.hash
        assert stream.headers["x-turnout-backend"] == "a"
        assert rest[-2] == "data: [DONE]"
        await until(lambda: a.closed)
        assert not b.closed
        assert len(a.requests) == 1
        assert at.at.gateway.fleet.state.load("a").sequences == 0
        assert at.at.gateway.metrics.requests.total() == 2
        assert [each.request.model for each in at.at.gateway.fleet.receipts.latest(9)] == ["m", "m"]


async def test_a_removed_backend_without_requests_closes_and_gets_nothing_new(tmp_path: Path) -> None:
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        at.next = with_backends(at.first, "b")
        await at.reload()
        for _ in range(5):
            assert (await at.ask()).headers["x-turnout-backend"] == "b"
        assert not a.requests
        await until(lambda: a.closed)
        names = [each["name"] for each in (await at.client.get(f"{at.at.admin_url}/admin/backends")).json()["backends"]]
        assert names == ["b"]
        assert (await at.client.post(f"{at.at.admin_url}/admin/backends/a/drain")).status_code == 404


async def test_requests_all_along_never_fail(tmp_path: Path) -> None:
    slow = Script(WORDS, delay_s=0.005)
    backends = [ScriptedBackend(name, scripts=[slow]) for name in ("a", "b", "c")]
    async with bench(tmp_path, *backends) as at:
        codes: list[int] = []

        async def client() -> None:
            while len(codes) < 200:
                codes.append((await at.ask(stream=True)).status_code)

        asking = asyncio.gather(*(client() for _ in range(8)))
        for round_number in range(10):
            at.next = with_backends(at.first, *("ab", "bc", "ca")[round_number % 3])
            assert (await at.reload()).status_code == 200
        await asking
        assert set(codes) == {200}
        assert all(load.sequences == 0 for load in at.at.gateway.fleet.state.loads.values())


async def test_backends_that_stay_keep_what_was_counted_and_learned(tmp_path: Path) -> None:
    a, b = ScriptedBackend("a", scripts=[Script(WORDS)]), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        fleet = at.at.gateway.fleet
        assert (await at.ask()).headers["x-turnout-backend"] == "a"
        samples = fleet.state.learned["a m"].ttft.pool.samples
        fleet.state.corrections("b m")
        assert samples == 1
        at.next = with_backends(at.first, "a")
        await at.reload()
        assert at.at.gateway.fleet.state is fleet.state
        assert fleet.state.learned["a m"].ttft.pool.samples == 1
        assert "b m" not in fleet.state.learned
        assert a.started
        assert at.at.gateway.fleet.backends["a"] is a
        assert await at.metric('turnout_config_info{hash="hash-a"}') == 1
        assert (await at.ask()).json()["usage"]["completion_tokens"] == 3
        assert await at.metric("turnout_tokens_total") > 0


async def test_what_the_gone_backend_still_shows_teaches_nobody(tmp_path: Path) -> None:
    gate = asyncio.Event()
    a, b = ScriptedBackend("a", scripts=[Script(WORDS, hang_before=0, gate=gate)]), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        at.next = with_backends(at.first, "b")
        asking = asyncio.create_task(at.ask())
        await until(lambda: a.running == 1)
        await at.reload()
        gate.set()
        assert (await asking).status_code == 200
        assert "a m" not in at.at.gateway.fleet.state.learned


async def test_a_backend_that_was_mended_is_asked_at_once(tmp_path: Path) -> None:
    """What its breaker held against it was said of another."""
    down = Script(fail_after=0, error=lambda: Unavailable("no such service"))
    broken, mended, b = ScriptedBackend("a", scripts=[down]), ScriptedBackend("a"), ScriptedBackend("b")
    first = scripted_config(tmp_path, [broken, b], routing=TURNS)
    one, *others = first.config.backends
    listed = (one.model_copy(update={"chips": 2}), *others)
    second = replace(first, config=first.config.model_copy(update={"backends": listed}), hash="second")
    backends: dict[str, Backend] = {"a": broken, "b": b}
    gateway = build(first, None, backends, lambda: second)
    async with (
        gateway.running(),
        listening(gateway.app) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        for _ in range(20):
            assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
        health = gateway.fleet.health
        assert health.look("a", time.monotonic_ns()).breaker == "open"
        asked = len(broken.requests)
        backends["a"] = mended
        await gateway.reloader.reload()
        assert health.look("a", time.monotonic_ns())[:2] == ("closed", None)
        served = [(await client.post("/v1/chat/completions", json=BODY)).headers["x-turnout-backend"] for _ in range(8)]
        assert set(served) == {"a", "b"}
        assert len(broken.requests) == asked
        assert len(mended.requests) == 4, "it has its turn, and need not be probed"


async def test_past_the_drain_timeout_what_is_left_is_cut(tmp_path: Path) -> None:
    a, b = ScriptedBackend("a", scripts=[Script(WORDS, hang_before=1, gate=asyncio.Event())]), ScriptedBackend("b")
    async with bench(tmp_path, a, b, server=ServerConfig(drain_timeout_s=0.05)) as at:
        at.next = with_backends(at.first, "b")
        async with at.client.stream(
            "POST", f"{at.at.url}/v1/chat/completions", json={**BODY, "stream": True}
        ) as stream:
            assert '"content":""' in await anext(stream.aiter_lines())
            await at.reload()
            await until(lambda: a.closed)


async def test_an_edition_before_the_last_holds_its_backends_too(tmp_path: Path) -> None:
    gate = asyncio.Event()
    a, b = ScriptedBackend("a", scripts=[Script(WORDS, hang_before=0, gate=gate)]), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        asking = asyncio.create_task(at.ask())
        await until(lambda: a.running == 1)
        at.next = seeded(at.first)
        assert (await at.reload()).json()["routing"] == ["seed"]
        at.next = with_backends(at.first, "b")
        await at.reload()
        await at.ask()
        assert not a.closed
        gate.set()
        assert (await asking).status_code == 200
        await until(lambda: a.closed)


async def test_a_dry_run_only_tells(tmp_path: Path) -> None:
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        at.next = with_backends(at.first, "b")
        told = (await at.reload(dry_run=1)).json()
        assert (told["dry_run"], told["config"], told["backends"]["removed"]) == (True, "hash-b", ["a"])
        assert (await at.ask()).headers["x-turnout-config"] == at.first.hash
        assert list(at.at.gateway.fleet.backends) == ["a", "b"]
        assert at.at.gateway.metrics.reloads.total() == 0


async def test_what_needs_a_restart_refuses_all_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path, ScriptedBackend("a"), ScriptedBackend("b")) as at:
        at.next = with_backends(at.first, "b", server=ServerConfig(port=9999))
        refused = await at.reload()
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "invalid_config"
        assert len(refused.json()["problems"]) == 1
        assert "server.port: cannot change without a restart" in refused.json()["problems"][0]
        assert list(at.at.gateway.fleet.backends) == ["a", "b"]
        assert await at.metric("turnout_config_last_reload_successful") == 0
        assert await at.metric('turnout_config_reloads_total{result="invalid"}') == 1


async def test_a_backend_that_cannot_start_changes_nothing(tmp_path: Path) -> None:
    class Dead(ScriptedBackend):
        async def start(self) -> None:
            raise Unavailable("no such service")

    a, b, dead = ScriptedBackend("a"), ScriptedBackend("b"), Dead("dead")
    first = with_backends(scripted_config(tmp_path, [a, b, dead]), "a")
    both = with_backends(scripted_config(tmp_path, [a, b, dead]), "a", "b", "dead")
    async with running(first, [a, b, dead], read=lambda: both) as at_a, httpx.AsyncClient() as client:
        refused = await client.post(f"{at_a.admin_url}/admin/config/reload")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "cannot_reload")
        assert b.started
        assert b.closed
        assert not a.closed
        assert list(at_a.gateway.fleet.backends) == ["a"]
        with pytest.raises(ReloadError, match="no such service"):
            await at_a.gateway.reloader.reload()


async def test_drained_by_hand_stays_drained_until_the_file_says_otherwise(tmp_path: Path) -> None:
    a, b = ScriptedBackend("a"), ScriptedBackend("b")
    async with bench(tmp_path, a, b) as at:
        await at.client.post(f"{at.at.admin_url}/admin/backends/a/drain")
        at.next = seeded(at.first)
        await at.reload()
        assert (await at.ask()).headers["x-turnout-backend"] == "b"
        first, *others = at.first.config.backends
        listed = (first.model_copy(update={"drained": True}), *others)
        at.next = replace(at.first, config=at.first.config.model_copy(update={"backends": listed}))
        await at.reload()
        at.next = at.first
        done = (await at.reload()).json()["backends"]
        assert (done["changed"], done["rebuilt"]) == (["a"], [])
        assert at.at.gateway.fleet.drained() == []
        assert not a.closed


CONFIG = """
version: 1
extends: shipped
server: {port: 0, admin_port: 0, admin_token: '${TOKEN:-%s}'}
cache: {type: off}
ledger: {path: %s}
models: {llama-3.1-8b: {reference_backend: h100-8b}}
backends:
  - name: h100-8b
    kind: gpu
    chip: h100
    chips: %d
    deployments: [{model: llama-3.1-8b, precision: fp8}]
    pricing: {type: chip_hours, usd_per_chip_hour: %s, source: test, confidence: assumed}
"""


@contextlib.asynccontextmanager
async def on_file(folder: Path) -> AsyncIterator[tuple[Running, httpx.AsyncClient, Callable[..., Path]]]:
    """An emulated backend described by a file that can be written anew."""
    path = folder / "turnout.yaml"

    def write(chips: int = 1, price: str = "4", token: str = "a-token-of-16-chars") -> Path:
        path.write_text(CONFIG % (token, folder / "ledger.sqlite3", chips, price))
        return path

    headers = {"authorization": "Bearer a-token-of-16-chars"}
    async with running(load(write())) as at, httpx.AsyncClient(headers=headers, timeout=10) as client:
        yield at, client, write


def spent(at: Running) -> int:
    (gauge,) = at.gateway.edition.gauges()
    assert gauge.capacity_nusd is not None
    return gauge.capacity_nusd


async def test_a_broken_file_keeps_the_old_configuration_and_says_where(tmp_path: Path) -> None:
    async with on_file(tmp_path) as (at, client, write):
        before = at.gateway.edition.loaded.hash
        path = write(chips=0)
        refused = await client.post(f"{at.admin_url}/admin/config/reload")
        assert refused.status_code == 400
        assert refused.json()["problems"] == [f"{path}:12:5: backends[0].chips: input should be greater than 0 (got 0)"]
        status = (await client.get(f"{at.admin_url}/admin/status")).json()
        assert (status["config"], status["ready"], status["reload"]["successful"]) == (before, True, False)
        write(chips=2)
        done = (await client.post(f"{at.admin_url}/admin/config/reload")).json()
        assert done["backends"]["rebuilt"] == ["h100-8b"]
        assert (await client.get(f"{at.admin_url}/admin/status")).json()["config"] == done["config"] != before


async def test_a_new_price_does_not_reprice_the_past(tmp_path: Path) -> None:
    async with on_file(tmp_path) as (at, client, write):
        backend = at.gateway.fleet.backends["h100-8b"]
        body = {**BODY, "model": "llama-3.1-8b"}
        assert (await client.post(f"{at.url}/v1/chat/completions", json=body)).status_code == 200
        before = spent(at)
        write(price="0.004")
        done = (await client.post(f"{at.admin_url}/admin/config/reload")).json()["backends"]
        assert (done["changed"], done["rebuilt"]) == (["h100-8b"], [])
        assert at.gateway.fleet.backends["h100-8b"] is backend
        assert backend.snapshot().busy_ns > 0
        after = spent(at)
        now = backend.snapshot()
        assert before < after < (now.busy_ns + now.idle_ns) * 4e9 / 3.6e12
        assert at.gateway.fleet.snapshot.views["llama-3.1-8b"][0].cost.prompt_nusd > 0


async def test_a_token_can_be_changed(tmp_path: Path) -> None:
    async with on_file(tmp_path) as (at, client, write):
        write(token="another-token-of-16")
        done = (await client.post(f"{at.admin_url}/admin/config/reload")).json()
        assert (done["server"], done["changed"]) == (["admin_token"], True)
        assert "another" not in str(done)
        assert (await client.get(f"{at.admin_url}/admin/status")).status_code == 401
        other = {"authorization": "Bearer another-token-of-16"}
        assert (await client.get(f"{at.admin_url}/admin/status", headers=other)).status_code == 200


async def test_nothing_new_is_nothing_done(tmp_path: Path) -> None:
    async with on_file(tmp_path) as (at, client, _):
        edition = at.gateway.edition
        done = (await client.post(f"{at.admin_url}/admin/config/reload")).json()
        assert not done["changed"]
        assert at.gateway.edition is edition
        assert at.gateway.metrics.reloads.items() == [(("ok",), 1)]
