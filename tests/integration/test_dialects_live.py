"""Clients of either API over services of either: what is asked, and what comes back, through a real gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from backends.upstream.transport import FakeReply, FakeTransport, Request
from tests.contract.test_dialects import SHAPES
from tests.frames import framed
from tests.gateways import running
from tests.upstreams import JSON, MODEL, delta, live_backend, live_config, sse, usage_chunk

ASK: Any = [{"role": "user", "content": "the weather?"}]
CAPABILITIES = frozenset({"n", "tools", "embeddings"})
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
START: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "up", "content": [], "stop_reason": None,
    "usage": {"input_tokens": 9, "cache_read_input_tokens": 2, "output_tokens": 1},
}  # fmt: skip
MESSAGE = {
    **START,
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "sig"},
        {"type": "text", "text": "let me see"},
        {"type": "tool_use", "id": "t1", "name": "forecast", "input": {"city": "Rome"}},
    ],
    "stop_reason": "tool_use",
    "usage": {"input_tokens": 9, "cache_read_input_tokens": 2, "output_tokens": 20},
}


def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[Any]:
    said = [{"type": "content_block_delta", "index": index, "delta": each} for each in deltas]
    start = {"type": "content_block_start", "index": index, "content_block": begun}
    return [start, *said, {"type": "content_block_stop", "index": index}]


STREAM = [
    {"type": "message_start", "message": START},
    *block(0, {"type": "thinking", "thinking": "", "signature": ""},
           {"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "sig"}),
    *block(1, {"type": "text", "text": ""},
           {"type": "text_delta", "text": "let me"}, {"type": "text_delta", "text": " see"}),
    *block(2, {"type": "tool_use", "id": "t1", "name": "forecast", "input": {}},
           {"type": "input_json_delta", "partial_json": '{"city":'},
           {"type": "input_json_delta", "partial_json": '"Rome"}'}),
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}},
    {"type": "message_stop"},
]  # fmt: skip


def claude(request: Request) -> FakeReply:
    """Anthropic's API, which always wants to know the weather in Rome."""
    assert request.url == "http://upstream/v1/messages"
    if json.loads(request.body).get("stream"):
        return FakeReply((framed("anthropic", STREAM),))
    return FakeReply((json.dumps(MESSAGE).encode(),), headers=JSON)


@asynccontextmanager
async def gateway(folder: Path, respond: Any, dialect: str = "anthropic") -> AsyncIterator[tuple[str, FakeTransport]]:
    transport = FakeTransport(respond)
    backend = live_backend(transport=transport, upstream_model="up", dialect=dialect, capabilities=CAPABILITIES)
    async with running(live_config(folder, {"up": "http://upstream"}), [backend]) as gateway:
        yield gateway.url, transport


def openais(url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)


def anthropics(url: str) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0)


@pytest.mark.parametrize("stream", [False, True])
async def test_openais_client_over_anthropics_api(tmp_path: Path, stream: bool) -> None:
    tool: Any = {"type": "function", "function": {"name": "forecast", "parameters": SCHEMA}}
    fields: Any = {"model": MODEL, "messages": ASK, "tools": [tool], "tool_choice": "required", "max_tokens": 50}
    async with gateway(tmp_path, claude) as (url, transport), openais(url) as client:
        if stream:
            asked = client.chat.completions.stream(**fields, stream_options={"include_usage": True})
            async with asked as streaming:
                answer: Any = await streaming.get_final_completion()
        else:
            answer = await client.chat.completions.create(**fields)
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert (message.content, call.id, call.function.name) == ("let me see", "t1", "forecast")
    assert json.loads(call.function.arguments) == {"city": "Rome"}
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (answer.model, message.reasoning_content) == (MODEL, "hm")
    usage = answer.usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens) == (11, 2, 20)
    sent = json.loads(transport.requests[0].body)
    assert sent["tools"] == [{"name": "forecast", "input_schema": SCHEMA}]
    assert (sent["tool_choice"], sent["model"], sent["max_tokens"]) == ({"type": "any"}, "up", 50)


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropics_client_over_anthropics_api_gets_its_thinking_back(tmp_path: Path, stream: bool) -> None:
    tools: Any = [{"name": "forecast", "input_schema": SCHEMA}]
    fields: Any = {"model": MODEL, "max_tokens": 50, "tools": tools}
    async with gateway(tmp_path, claude) as (url, transport), anthropics(url) as client:
        if stream:
            async with client.messages.stream(messages=ASK, **fields) as streaming:
                answer: Any = await streaming.get_final_message()
        else:
            answer = await client.messages.create(messages=ASK, **fields)
        result = {"type": "tool_result", "tool_use_id": "t1", "content": "rain"}
        turns: Any = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
        await client.messages.create(messages=turns, **fields)
    assert [each.type for each in answer.content] == ["thinking", "text", "tool_use"]
    assert (answer.content[0].thinking, answer.content[0].signature) == ("hm", "sig")
    assert (answer.content[2].input, answer.stop_reason) == ({"city": "Rome"}, "tool_use")
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (9, 2, 20)
    back = json.loads(transport.requests[1].body)["messages"]
    assert back[1]["content"] == MESSAGE["content"]
    assert back[2]["content"] == [{**result, "content": [{"type": "text", "text": "rain"}]}]


async def test_anthropics_client_over_an_openai_service(tmp_path: Path) -> None:
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "forecast", "arguments": '{"city":"Rome"}'},
    }
    reply = FakeReply(
        (sse(delta(reasoning="hm"), delta(tool_calls=[call]), delta(finish="tool_calls"), usage_chunk(9, 5)),)
    )
    async with gateway(tmp_path, lambda request: reply, "openai") as (url, _), anthropics(url) as client:
        tools: Any = [{"name": "forecast", "input_schema": SCHEMA}]
        async with client.messages.stream(model=MODEL, messages=ASK, max_tokens=50, tools=tools) as streaming:
            answer: Any = await streaming.get_final_message()
    assert [each.type for each in answer.content] == ["thinking", "tool_use"]
    assert (answer.content[1].input, answer.stop_reason) == ({"city": "Rome"}, "tool_use")


async def test_a_field_without_words_is_refused_by_name_and_a_cut_is_an_error(tmp_path: Path) -> None:
    cut = FakeReply((framed("anthropic", STREAM[:8]),))
    async with gateway(tmp_path, lambda request: cut) as (url, transport), openais(url) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASK, n=2)
        assert (refused.value.param, transport.requests) == ("n", [])
        with pytest.raises(openai.APIError, match="ended its answer early"):
            async for _ in await client.chat.completions.create(model=MODEL, messages=ASK, stream=True):
                pass
        with pytest.raises(openai.BadRequestError):
            await client.embeddings.create(model=MODEL, input="x")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_services_own_times_are_measured(tmp_path: Path, stream: bool) -> None:
    whole = SHAPES["groq"]["whole"]
    frames = framed("groq", SHAPES["groq"]["stream"])
    reply = FakeReply((frames,)) if stream else FakeReply((json.dumps(whole).encode(),), headers=JSON)
    transport = FakeTransport(lambda _: reply)
    backend = live_backend(transport=transport, upstream_model="up", dialect="groq", capabilities=CAPABILITIES)
    async with (
        running(live_config(tmp_path, {"up": "http://upstream"}), [backend]) as at,
        openais(at.url) as client,
        httpx.AsyncClient() as admin,
    ):
        answer: Any = await client.chat.completions.create(model=MODEL, messages=ASK, stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
        metrics = (await admin.get(f"{at.admin_url}/metrics")).text
    assert 'turnout_service_seconds_sum{backend="up",phase="queue"} 0.05' in metrics
    assert 'turnout_service_seconds_count{backend="up",phase="total"} 1.0' in metrics
