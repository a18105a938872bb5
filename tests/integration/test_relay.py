"""What a real service sends reaches the client as it came, and what the gateway adds to it. Over the fake transport."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from app.config.caching import MemoryCache
from app.config.load import LoadedConfig
from app.config.models import ChipHourPricing, UnpricedPricing
from backends.upstream.transport import FakeReply, FakeTransport
from tests.gateways import running
from tests.upstreams import JSON, MODEL, delta, live_backend, live_config, sse, usage_chunk

CHAT = "/v1/chat/completions"
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1.50}'}}
PLAIN = FakeReply((sse(delta("Hello", finish="stop"), usage_chunk(3, 1)),))
TOOLS = FakeReply(
    (sse(delta("", role="assistant"), delta(tool_calls=[CALL]), delta(finish="tool_calls"), usage_chunk(3, 9)),)
)


def body(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


def chunks(text: str) -> list[Any]:
    listed = [frame.removeprefix("data: ") for frame in text.split("\n\n") if frame]
    assert listed[-1] == "[DONE]"
    return [json.loads(event) for event in listed[:-1]]


def config(folder: Path, **sections: Any) -> LoadedConfig:
    loaded = live_config(folder, {"up": "http://upstream"}, upstream_model="upstream-m")
    return replace(loaded, config=loaded.config.model_copy(update=sections))


async def answers(
    loaded: LoadedConfig, reply: FakeReply, *asked: dict[str, object]
) -> tuple[list[httpx.Response], str]:
    """What a gateway over one such service says to each request, and its metrics afterwards."""
    backend = live_backend(transport=FakeTransport(lambda request: reply), upstream_model="upstream-m")
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        listed = [await client.post(CHAT, json=each) for each in asked]
        return listed, (await client.get(f"{gateway.admin_url}/metrics")).text


async def test_tool_calls_stream_through_untouched_and_only_name_and_usage_are_ours(tmp_path: Path) -> None:
    asked = body(stream=True, stream_options={"include_usage": True})
    (answer,), _ = await answers(config(tmp_path), TOOLS, asked)
    seen = chunks(answer.text)
    assert [chunk["choices"] for chunk in seen[:-1]] == [
        delta("", role="assistant")["choices"],
        delta(tool_calls=[CALL])["choices"],
        delta(finish="tool_calls")["choices"],
    ]
    assert '\\"a\\": 1.50' in answer.text
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in seen} == {("up-1", 7, MODEL)}
    assert (seen[-1]["choices"], seen[-1]["usage"]["completion_tokens"]) == ([], 9)
    assert seen[-1]["usage"]["cost"] > 0


async def test_unasked_usage_is_not_written_and_the_receipt_has_its_place(tmp_path: Path) -> None:
    backend = live_backend(transport=FakeTransport(lambda request: PLAIN), upstream_model="upstream-m")
    async with running(config(tmp_path), [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        plain = await client.post(CHAT, json=body(stream=True))
        debug = await client.post(CHAT, json=body(stream=True), headers={"x-turnout-debug": "1"})
    assert [chunk["choices"] for chunk in chunks(plain.text)] == [delta("Hello", finish="stop")["choices"]]
    assert chunks(debug.text)[-1]["turnout"]["decision"]["chosen"] == "up"


async def test_an_answer_in_one_piece_keeps_fields_nobody_here_knows(tmp_path: Path) -> None:
    message = {"role": "assistant", "content": "Hello", "reasoning_content": "hm", "annotations": [{"x": 1}]}
    sent = {
        "id": "up-1",
        "object": "chat.completion",
        "created": 7,
        "model": "upstream-m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "stop_reason": 5}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
        "prompt_logprobs": None,
    }
    (answer,), _ = await answers(config(tmp_path), FakeReply((json.dumps(sent).encode(),), headers=JSON), body())
    got = answer.json()
    usage = got.pop("usage")
    assert got == {**{key: value for key, value in sent.items() if key != "usage"}, "model": MODEL}
    assert usage["cost"] > 0
    assert answer.headers["x-turnout-cost-usd"] == "0.000005000"


async def test_the_cache_keeps_text_and_calls_and_nothing_it_could_not_repeat(tmp_path: Path) -> None:
    loaded = config(tmp_path, cache=MemoryCache(type="memory"))
    asked = body(stream=True, temperature=0)
    probable = delta("Hello", finish="stop")
    probable["choices"][0]["logprobs"] = {"content": [{"token": "Hello", "logprob": -0.1}]}
    refused = FakeReply((sse(delta(refusal="no", finish="stop"), usage_chunk(3, 1)),))
    filtered = FakeReply((sse(delta("Hello", finish="content_filter"), usage_chunk(3, 1)),))
    for reply, expected in (
        (PLAIN, ["miss", "hit"]),
        (TOOLS, ["miss", "hit"]),
        (FakeReply((sse(probable, usage_chunk(3, 1)),)), ["miss", "miss"]),
        (refused, ["miss", "miss"]),
        (filtered, ["miss", "miss"]),
    ):
        listed, _ = await answers(loaded, reply, asked, asked)
        assert [answer.headers["x-turnout-cache"] for answer in listed] == expected
    whole = body(temperature=0)
    (first, second), _ = await answers(loaded, TOOLS, asked, whole)
    assert second.headers["x-turnout-cache"] == "hit"
    (call,) = second.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"] == CALL["function"]
    assert (call["id"], second.json()["choices"][0]["finish_reason"]) == (CALL["id"], "tool_calls")
    assert first.headers["x-turnout-cache"] == "miss"
    listed, _ = await answers(loaded, PLAIN, asked, asked)
    texts = [
        "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks(each.text)) for each in listed
    ]
    assert texts == ["Hello", "Hello"]


async def test_chip_hours_on_a_live_backend_are_unpriced_never_free(tmp_path: Path) -> None:
    hours = ChipHourPricing(type="chip_hours", usd_per_chip_hour=Decimal(3), source="s", confidence="derived")
    loaded = config(tmp_path)
    backend = loaded.config.backends[0].model_copy(update={"pricing": hours, "chips": 2, "chip": "h100"})
    loaded = replace(loaded, config=loaded.config.model_copy(update={"backends": (backend,)}))
    asked = body(stream=True, stream_options={"include_usage": True})
    (answer,), metrics = await answers(loaded, PLAIN, asked)
    assert chunks(answer.text)[-1]["usage"]["cost"] is None
    assert f'turnout_unpriced_requests_total{{backend="up",model="{MODEL}"}} 1.0' in metrics
    assert 'turnout_backend_capacity_cost_usd_total{backend="up"' not in metrics


async def test_without_streaming_no_time_to_first_token_is_made_up(tmp_path: Path) -> None:
    sent = {
        "choices": [{"index": 0, "message": {"content": "Hello"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    _, metrics = await answers(config(tmp_path), FakeReply((json.dumps(sent).encode(),), headers=JSON), body())
    assert "turnout_time_to_first_token_seconds_count{" not in metrics
    assert 'objective="ttft"' not in metrics


async def test_what_nobody_has_a_price_of_costs_null_and_is_counted(tmp_path: Path) -> None:
    loaded = config(tmp_path)
    unpriced = loaded.config.backends[0].model_copy(update={"pricing": UnpricedPricing(type="unpriced")})
    loaded = replace(loaded, config=loaded.config.model_copy(update={"backends": (unpriced,)}))
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    sent = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    (answer,), metrics = await answers(loaded, FakeReply((json.dumps(sent).encode(),), headers=JSON), body())
    assert answer.status_code == 200
    assert (answer.json()["usage"]["cost"], answer.json()["usage"]["prompt_tokens"]) == (None, 3)
    assert "x-turnout-cost-usd" not in answer.headers
    (line,) = [line for line in metrics.splitlines() if line.startswith("turnout_unpriced_requests_total{")]
    assert line.endswith(" 1.0")
    assert 'backend="up"' in line


async def test_a_refusal_and_a_clients_header_pass_through_the_gateway(tmp_path: Path) -> None:
    loaded = config(tmp_path)
    up = loaded.config.backends[0].model_copy(update={"forward_headers": ("x-tenant",)})
    loaded = replace(loaded, config=loaded.config.model_copy(update={"backends": (up,)}))
    said = {"error": {"message": "the image is too large", "param": "messages", "code": "image_too_large"}}
    transport = FakeTransport(lambda request: FakeReply((json.dumps(said).encode(),), 413, JSON))
    backend = live_backend(transport=transport, upstream_model="upstream-m", forward_headers=frozenset({"x-tenant"}))
    async with running(loaded, [backend]) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
        answer = await client.post(CHAT, json=body(), headers={"X-Tenant": "a", "x-other": "b", "authorization": "c"})
    assert answer.status_code == 413
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("messages", "image_too_large")
    assert "the image is too large" in answer.json()["error"]["message"]
    headers = transport.requests[0].headers
    assert headers["x-tenant"] == "a"
    assert not {"x-other", "authorization"} & set(headers)
