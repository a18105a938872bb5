"""Retries, races, silence, held requests and breakers through a gateway under a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.config.deciding import DelayedHedge, DispatchConfig, GuardConfig, RetryConfig
from app.routing.types import Decision, Reservation, RouteRequest
from backends import errors
from tests.fakes import Script, ScriptedBackend
from tests.gateways import Running, running, scripted_config, until

CHAT = "/v1/chat/completions"
WORDS = ("one", " two", " three", " four")
PLENTY = RetryConfig(at_least_per_10s=1000)
SAYS = Script(WORDS)
HANGS = Script(WORDS, hang_before=0)


def body(**fields: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi there"}], **fields}


def idle(gateway: Running, backends: Sequence[ScriptedBackend]) -> bool:
    state = gateway.gateway.fleet.state
    loads = state.loads.values()
    return not any((load.sequences, load.pending_prompt_tokens) != (0, 0) for load in loads) and not any(
        backend.running for backend in backends
    )


def cells(gateway: Running, name: str) -> dict[tuple[str, ...], int]:
    return dict(getattr(gateway.gateway.metrics, name).items())


FAULTS: tuple[Callable[[], errors.BackendError], ...] = (
    lambda: errors.Unavailable("500"),
    lambda: errors.Unreachable("no connection"),
    lambda: errors.BackendTimeout("slow"),
    lambda: errors.Saturated("full"),
    lambda: errors.StreamCut("cut"),
    lambda: errors.Unsupported("no"),
)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_fails_whenever_at_most_one_answer_is_told_and_nothing_leaks(
    tmp_path: Path, fault: Callable[[], errors.BackendError], after: int, stream: bool
) -> None:
    backends = [ScriptedBackend("a", scripts=[Script(WORDS, fail_after=after, error=fault)]), ScriptedBackend("b")]
    loaded = scripted_config(tmp_path, backends, dispatch=DispatchConfig(retry=PLENTY))
    async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        for _ in range(4):
            answer = await client.post(CHAT, json=body(stream=stream))
            said = answer.text.count('"one"') + answer.text.count('"hello"')
            assert said <= 1
            asked = len(backends[0].requests) + len(backends[1].requests)
            assert cells(gateway, "tokens") or asked
            if answer.status_code == 200 and stream and "error" not in answer.text:
                assert answer.text.rstrip().endswith("[DONE]")
            await until(lambda: idle(gateway, backends))
        if not after and fault().retryable:
            assert len(backends[1].requests) == 4
        ledger = gateway.gateway.metrics
        attempts = len(backends[0].requests) + len(backends[1].requests)
        failed = sum(cells(gateway, "upstream_errors").values())
        assert attempts - 4 == ledger.retries.total(), "every attempt beyond a request's first is counted"
        assert failed == len(backends[0].requests)


async def test_a_silent_backend_is_left_and_billed_as_failed(tmp_path: Path) -> None:
    backends = [ScriptedBackend("a", scripts=[HANGS]), ScriptedBackend("b", scripts=[SAYS])]
    guard = GuardConfig(times_q90=1, at_least_s=0.01, at_most_s=5)
    loaded = scripted_config(tmp_path, backends, dispatch=DispatchConfig(retry=PLENTY, guard=guard))
    async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body(stream=True))
        assert (answer.headers["x-turnout-backend"], answer.headers["x-turnout-attempts"]) == ("b", "2")
        assert answer.text.rstrip().endswith("[DONE]")
        assert cells(gateway, "upstream_errors") == {("a", "timeout"): 1}
        assert cells(gateway, "retries") == {("b", "slow"): 1}
        await until(lambda: idle(gateway, backends))


async def test_a_stream_nobody_can_take_over_is_given_up_at_the_latest_time(tmp_path: Path) -> None:
    backends = [ScriptedBackend("a", scripts=[HANGS])]
    guard = GuardConfig(times_q90=1, at_least_s=0.01, at_most_s=0.1)
    loaded = scripted_config(tmp_path, backends, dispatch=DispatchConfig(guard=guard))
    async with running(loaded, backends) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body(stream=True))
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
        await until(lambda: idle(gateway, backends))


HEDGED = DispatchConfig(retry=PLENTY, hedge=DelayedHedge(type="delayed", times_q90=0.1, at_least_s=0.02, share=1.0))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_race_has_one_winner_and_the_loser_is_billed(tmp_path: Path, stream: bool) -> None:
    backends = [ScriptedBackend("a", scripts=[HANGS]), ScriptedBackend("b", scripts=[SAYS])]
    async with (
        running(scripted_config(tmp_path, backends, dispatch=HEDGED), backends) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        answer = await client.post(CHAT, json=body(stream=stream))
        assert (answer.status_code, answer.headers["x-turnout-backend"]) == (200, "b")
        await until(lambda: idle(gateway, backends))
        assert cells(gateway, "hedges") == {("b", "won"): 1}
        assert ("a", "hedge") in cells(gateway, "wasted")
        assert gateway.gateway.fleet.health.look("a", 0).breaker == "closed", "to lose a race is no failure"


async def test_a_client_that_leaves_ends_both_of_a_race(tmp_path: Path) -> None:
    backends = [ScriptedBackend("a", scripts=[HANGS]), ScriptedBackend("b", scripts=[HANGS])]
    async with running(scripted_config(tmp_path, backends, dispatch=HEDGED), backends) as gateway:
        task = asyncio.create_task(_post(gateway))
        await until(lambda: all(backend.running == 1 for backend in backends))
        task.cancel()
        await until(lambda: idle(gateway, backends))
        await until(lambda: gateway.gateway.metrics.disconnects.total() == 1)


async def _post(gateway: Running) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        return await client.post(CHAT, json=body())


class Jammed:
    """Stands before a fleet's decisions: while `full` it holds whoever may be held and sheds the rest."""

    def __init__(self, gateway: Running) -> None:
        self.full = True
        self._fleet = gateway.gateway.fleet
        self._decide = self._fleet.decide
        self._fleet.decide = self.decide  # type: ignore[method-assign]

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]:
        if not self.full:
            return self._decide(request, now_ns)
        decision = self._fleet.preview(request, now_ns)
        return decision._replace(chosen=None, reason="hold" if request.may_hold else "shed"), None


async def test_held_requests_go_on_when_there_is_room_and_are_shed_when_it_is_too_late(tmp_path: Path) -> None:
    backends = [ScriptedBackend("a", scripts=[Script(WORDS, hang_before=1), SAYS])]
    async with running(scripted_config(tmp_path, backends), backends) as gateway:
        first = asyncio.create_task(_post(gateway))
        await until(lambda: backends[0].running == 1)
        jam = Jammed(gateway)
        held = [asyncio.create_task(_post(gateway)) for _ in range(3)]
        await until(lambda: sum(gateway.gateway.metrics.held().values()) == 3)
        held[0].cancel()
        await until(lambda: sum(gateway.gateway.metrics.held().values()) == 2)
        jam.full = False
        first.cancel()  # its place is free, so all who wait get their turn, one after the other
        assert [(await task).status_code for task in held[1:]] == [200, 200]
        jam.full = True
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            late = await client.post(CHAT, json=body(), headers={"x-slo-ttft-ms": "100"})
            low = await client.post(CHAT, json=body(priority=-1))
        for answer in (late, low):
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "request_shed")
            assert answer.headers["retry-after-ms"]
        assert sum(gateway.gateway.metrics.held().values()) == 0
        await until(lambda: idle(gateway, backends))


class SteppedClock:
    """A clock that moves when told to; nothing in a gateway over scripted backends waits for it."""

    def __init__(self) -> None:
        self.ns = 1_000_000_000_000

    def now_ns(self) -> int:
        return self.ns

    def wall_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.ns

    async def sleep_until(self, at_ns: int) -> None:
        raise AssertionError("who waits for this clock waits for ever")


async def test_a_breaker_opens_is_probed_and_closes(tmp_path: Path) -> None:
    down = Script(fail_after=0, error=lambda: errors.Unavailable("down by script"))
    backends = [ScriptedBackend("a", scripts=[*[down] * 5, SAYS]), ScriptedBackend("b", scripts=[SAYS])]
    loaded, clock = scripted_config(tmp_path, backends, dispatch=DispatchConfig(retry=PLENTY)), SteppedClock()
    async with (
        running(loaded, backends, clock) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):

        async def ask() -> str:
            answer = await client.post(CHAT, json=body())
            assert answer.status_code == 200
            return str(answer.headers["x-turnout-backend"])

        async def shown(name: str) -> dict[str, Any]:
            listed = (await client.get(f"{gateway.admin_url}/admin/backends")).json()["backends"]
            found: dict[str, Any] = next(each for each in listed if each["name"] == name)
            return found

        while len(backends[0].requests) < 5:
            assert await ask() == "b"
        assert (await shown("a"))["breaker"] == "open"
        assert (await shown("a"))["gated"]["reason"] == "breaker_open"
        assert [await ask() for _ in range(3)] == ["b"] * 3
        assert len(backends[0].requests) == 5, "it is left alone"
        clock.ns += 6_000_000_000
        assert (await shown("a"))["breaker"] == "half_open"
        for _ in range(20):
            await ask()
        assert len(backends[0].requests) >= 8
        assert (await shown("a"))["breaker"] == "closed"
        text = (await client.get(f"{gateway.admin_url}/metrics")).text
        assert 'turnout_breaker_state{backend="a"} 0.0' in text


async def test_retries_do_not_make_an_outage_worse(tmp_path: Path) -> None:
    down = Script(fail_after=0, error=lambda: errors.Unavailable("down by script"))
    backends = [ScriptedBackend(name, scripts=[down]) for name in "abc"]
    loaded = scripted_config(tmp_path, backends, dispatch=DispatchConfig(retry=RetryConfig(at_least_per_10s=3)))
    clock = SteppedClock()
    async with (
        running(loaded, backends, clock) as gateway,
        httpx.AsyncClient(base_url=gateway.url) as client,
    ):
        for _ in range(200):
            answer = await client.post(CHAT, json=body())
            assert (answer.status_code, json.loads(answer.text)["error"]["code"]) == (502, "upstream_failed")
        attempts = sum(len(backend.requests) for backend in backends)
        assert 200 <= attempts <= 200 * 1.1 + 3, "nobody is refused unheard, and few are tried twice"
        assert gateway.gateway.fleet.health.panics > 0
        assert idle(gateway, backends)
