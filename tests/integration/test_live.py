"""A gateway over live backends; the services are `turnout emulate` on real sockets. Relay, failover, faults, cancel."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.gateways import Running, running, until
from tests.upstreams import MODEL, Upstream, emulating, live_config

CHAT = "/v1/chat/completions"
FAST = "{connect_s: 1, first_byte_s: 0.5, idle_s: 0.5, whole_s: 0.6}"


def body(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi there"}], "max_tokens": 12, **fields}


def events(text: str) -> list[str]:
    return [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame.startswith("data: ")]


class Rig:
    """A gateway and the services behind it; `first` is the cheaper one, so it is asked first."""

    def __init__(self, gateway: Running, client: httpx.AsyncClient, first: Upstream, second: Upstream) -> None:
        self.gateway = gateway
        self.client = client
        self.first = first
        self.second = second

    async def ask(self, **fields: object) -> httpx.Response:
        async with asyncio.timeout(10):
            return await self.client.post(CHAT, json=body(**fields))

    async def metric(self, line: str) -> float:
        text = (await self.client.get(f"{self.gateway.admin_url}/metrics")).text
        return sum(float(each.rpartition(" ")[2]) for each in text.splitlines() if each.startswith(line))

    def idle(self) -> bool:
        loads = self.gateway.gateway.fleet.state.loads.values()
        backends = [*self.gateway.gateway.fleet.backends.values(), self.first.backend, self.second.backend]
        return not any(load.sequences for load in loads) and not any(each.snapshot().running for each in backends)


@contextlib.asynccontextmanager
async def rigged(folder: Path, **options: Any) -> AsyncIterator[Rig]:
    async with (
        emulating(names=(options.get("upstream_model", MODEL),), time_scale=options.pop("time_scale", 20.0)) as first,
        emulating(names=(options.get("upstream_model", MODEL),)) as second,
        running(live_config(folder, {"first": first.url, "second": second.url}, **options)) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=10) as client,
    ):
        yield Rig(gateway, client, first, second)


async def test_the_official_client_through_the_gateway_to_a_service(tmp_path: Path) -> None:
    async with (
        rigged(tmp_path, upstream_model="org/up-stream") as rig,
        openai.AsyncOpenAI(base_url=f"{rig.gateway.url}/v1", api_key="x", max_retries=0, timeout=10) as client,
    ):
        create: Any = client.chat.completions.create
        fields = {"model": "small", "messages": body()["messages"], "max_tokens": 30, "seed": 5, "n": 2}
        whole = await create(**fields)
        assert whole.model == MODEL
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (2, 60)
        assert whole.usage.cost == pytest.approx((2 * 1 + 60 * 2) / 1e6)
        texts, chunks = ["", ""], []
        async for chunk in await create(**fields, stream=True, stream_options={"include_usage": True}):
            chunks.append(chunk)
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        assert texts == [choice.message.content for choice in whole.choices]
        assert {(chunk.id, chunk.model) for chunk in chunks} == {(chunks[0].id, MODEL)}
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert (chunks[-1].usage.completion_tokens, chunks[-1].usage.cost) == (60, whole.usage.cost)
        completion: Any = await client.completions.create(model=MODEL, prompt=["a b", "c"], max_tokens=4)
        assert [choice.index for choice in completion.choices] == [0, 1]
        assert completion.usage.prompt_tokens == 3
        assert rig.idle()
        assert await rig.metric("turnout_estimated_usage_total{") == 0
        assert await rig.metric("turnout_time_to_first_token_seconds_count") == 1, "only a stream shows its first token"


async def test_the_clients_own_faults_come_back_and_do_not_count_against_the_service(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        refused = await rig.ask(messages=[{"role": "user", "content": "w " * 140_000}])
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "context_length_exceeded")
        unknown = await rig.ask(logprobs=True)
        assert (unknown.status_code, unknown.headers["x-turnout-attempts"]) == (400, "1")
        assert "does not support: logprobs" in unknown.json()["error"]["message"]


BEFORE_THE_FIRST_BYTE: tuple[dict[str, Any], ...] = (
    {"kind": "refuse"},
    {"kind": "http_error", "status": 500},
    {"kind": "http_error", "status": 503},
    {"kind": "http_error", "status": 401},
    {"kind": "hang"},
    {"kind": "malformed", "after_chunks": 0},
    {"kind": "cut", "after_chunks": 0},
    {"kind": "wrong_content_type"},
    # Last: a service that names a time gets nothing until then.
    {"kind": "http_error", "status": 429, "retry_after_s": 1.5},
)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_fails_before_the_first_byte_is_answered_by_another(tmp_path: Path, stream: bool) -> None:
    async with rigged(tmp_path, timeouts=FAST) as rig:
        for fault in BEFORE_THE_FIRST_BYTE:
            rig.first.misbehave(fault)
            answer = await rig.ask(stream=stream)
            assert answer.status_code == 200, (fault, answer.text)
            told = answer.headers["x-turnout-backend"], answer.headers["x-turnout-attempts"]
            assert told == ("second", "2"), fault
            assert not stream or events(answer.text)[-1] == "[DONE]"
            await until(rig.idle)
            if fault is not BEFORE_THE_FIRST_BYTE[-1]:  # well again in between, so that no breaker opens
                rig.first.misbehave()
                for _ in range(2):
                    assert (await rig.ask(stream=stream)).headers["x-turnout-backend"] == "first"
        assert await rig.metric('turnout_upstream_errors_total{backend="first",reason="timeout"}') == 1
        assert await rig.metric('turnout_upstream_errors_total{backend="first",reason="saturated"}') == 1
        assert await rig.metric('turnout_upstream_errors_total{backend="first"') == len(BEFORE_THE_FIRST_BYTE)


async def test_when_every_service_fails_the_client_gets_one_clear_error(tmp_path: Path) -> None:
    expected: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"kind": "refuse"}, 502, "upstream_failed"),
        ({"kind": "http_error", "status": 503}, 502, "upstream_failed"),
        ({"kind": "hang"}, 504, "upstream_timeout"),
        ({"kind": "wrong_content_type"}, 502, "upstream_failed"),
        # Last: a service that names a time gets nothing until then.
        ({"kind": "http_error", "status": 429, "retry_after_s": 1.5}, 429, "overloaded"),
    )
    async with rigged(tmp_path, timeouts=FAST) as rig:
        for fault, status, code in expected:
            rig.first.misbehave(fault)
            rig.second.misbehave(fault)
            answer = await rig.ask(stream=True)
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), fault
            if status == 429:
                assert (answer.headers["retry-after-ms"], answer.headers["retry-after"]) == ("1500", "2")
            await until(rig.idle)


async def test_what_fails_midway_ends_with_an_error_event_and_no_done(tmp_path: Path) -> None:
    expected: tuple[tuple[dict[str, Any], str], ...] = (
        ({"kind": "cut", "after_chunks": 2}, "upstream_failed"),
        ({"kind": "malformed", "after_chunks": 2}, "upstream_failed"),
        ({"kind": "hang", "after_chunks": 2}, "upstream_timeout"),
    )
    # After who speaks and some text. On a slow machine that may be all of it, and the usage comes two chunks later.
    async with rigged(tmp_path, timeouts=FAST) as rig:
        for fault, code in expected:
            rig.first.misbehave(fault)
            # Long enough that four chunks are not all of it, however many tokens a busy machine puts into one.
            answer = await rig.ask(stream=True, max_tokens=500, stream_options={"include_usage": True})
            assert (answer.status_code, answer.headers["x-turnout-backend"]) == (200, "first"), fault
            seen = events(answer.text)
            assert json.loads(seen[-1])["error"]["code"] == code
            assert "[DONE]" not in seen
            assert any(json.loads(event)["choices"][0]["delta"].get("content") for event in seen[:-1])
            await until(rig.idle)
        assert await rig.metric('turnout_estimated_usage_total{backend="first"}') == len(expected)
        assert await rig.metric('turnout_wasted_cost_usd_total{backend="first"') > 0


async def test_bytes_that_trickle_are_put_together(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        plain = await rig.ask(stream=True, seed=3)
        rig.first.misbehave({"kind": "drip", "chunk_bytes": 7, "pause_s": 0.0})
        dripped = await rig.ask(stream=True, seed=3)
        said = [[json.loads(event)["choices"][0] for event in events(each.text)[:-1]] for each in (plain, dripped)]
        texts = ["".join(choice["delta"].get("content", "") for choice in each) for each in said]
        assert texts[0] == texts[1]
        assert len(texts[0].split()) == 12
        assert said[1][-1]["finish_reason"] == "length"
        assert (await rig.ask()).status_code == 200


async def test_a_service_that_does_not_tell_its_usage_is_counted(tmp_path: Path) -> None:
    async with rigged(tmp_path) as rig:
        rig.first.misbehave({"kind": "missing_usage"})
        whole = (await rig.ask()).json()
        assert whole["usage"]["completion_tokens"] > 0
        assert whole["usage"]["cost"] > 0
        text = (await rig.ask(stream=True, stream_options={"include_usage": True})).text
        assert json.loads(events(text)[-2])["usage"]["completion_tokens"] > 0
        assert await rig.metric('turnout_estimated_usage_total{backend="first"}') == 2


async def test_a_slow_period_is_slow_and_passes(tmp_path: Path) -> None:
    async with rigged(tmp_path, time_scale=5.0) as rig:
        loop = asyncio.get_running_loop()

        async def took_s() -> float:
            began_s = loop.time()
            assert (await rig.ask(max_tokens=60, ignore_eos=True, stream=True)).status_code == 200
            return loop.time() - began_s

        plain_s = await took_s()
        rig.first.misbehave({"kind": "slow", "factor": 4, "until_s": 0.5})
        slow_s = await took_s()
        assert slow_s > 2 * plain_s
        await asyncio.sleep(0.1)
        assert await took_s() < slow_s / 1.5


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_service(tmp_path: Path, stream: bool) -> None:
    async with rigged(tmp_path, time_scale=1.0) as rig:
        host, port = rig.gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        sent = json.dumps(body(stream=stream, max_tokens=5000, ignore_eos=True)).encode()
        writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (CHAT.encode(), len(sent), sent))
        await until(lambda: rig.first.backend.snapshot().running == 1)
        if stream:
            await reader.readuntil(b'"content":"')
        writer.close()
        await until(rig.idle)
        metrics = (await rig.client.get(f"{rig.first.url}/metrics")).text
        assert 'vllm:request_success_total{engine="0",finished_reason="abort",model_name="llama-3.1-8b"}' in metrics
        assert 'vllm:num_requests_running{engine="0",model_name="llama-3.1-8b"} 0.0' in metrics


async def test_nobody_listening_is_unavailable_not_a_hang(tmp_path: Path) -> None:
    loaded = live_config(tmp_path, {"first": "http://127.0.0.1:9"})
    async with running(loaded) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body())
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_failed")
        assert "no connection to first" in answer.json()["error"]["message"]
