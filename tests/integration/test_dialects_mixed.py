"""A fleet of two wires on real sockets, from a configuration file: Anthropic's (cheaper) and OpenAI's.

What Anthropic has words for goes there; what it has none for goes to the other, and nobody is refused.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from app.config.load import load
from tests.gateways import listening, running
from tests.integration.test_dialects_live import MESSAGE, STREAM
from tests.upstreams import MODEL, emulating

PRICE = "{type: tokens, usd_per_million_prompt: %d, usd_per_million_completion: %d, source: test, confidence: derived}"
BACKEND = """
  - name: NAME
    mode: live
    kind: hosted
    dialect: NAME
    url: URL
    api_key: ${TOLD:-KEY}
    profile: {ttft_ms: 20, tpot_ms: 5}
    deployments: [{model: MODEL, upstream_model: UPSTREAM, context_tokens: 100000, capabilities: [n, tools, logprobs]}]
    pricing: PRICE"""


def scripted(asked: list[Request]) -> FastAPI:
    """Anthropic's API, as far as a gateway asks it, in frames that are cut where it suits a socket."""
    app = FastAPI()

    @app.post("/v1/messages")
    async def messages(request: Request) -> Response:
        asked.append(request)
        if not (await request.json()).get("stream"):
            return Response(json.dumps(MESSAGE), media_type="application/json")

        async def pieces() -> AsyncIterator[bytes]:
            said = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in STREAM).encode()
            for start in range(0, len(said), 37):
                yield said[start : start + 37]

        return StreamingResponse(pieces(), media_type="text/event-stream; charset=utf-8")

    return app


@asynccontextmanager
async def mixed(folder: Path) -> AsyncIterator[tuple[str, list[Request]]]:
    asked: list[Request] = []
    async with listening(scripted(asked)) as claude, emulating() as other:
        blocks = ""
        for name, url, upstream, price in (("anthropic", claude, "claude", 1), ("openai", other.url, MODEL, 9)):
            fields = {"NAME": name, "URL": url, "MODEL": MODEL, "UPSTREAM": upstream, "KEY": "sk-1"}
            block = BACKEND.replace("PRICE", PRICE % (price, price))
            for word, value in fields.items():
                block = block.replace(word, value)
            blocks += block
        path = folder / "turnout.yaml"
        ledger = folder / "ledger.sqlite3"
        path.write_text(
            f"version: 1\nextends: shipped\nledger: {{path: {ledger}}}\ncache: {{type: off}}\n"
            f"models: {{{MODEL}: {{}}}}\nbackends:{blocks}\n"
        )
        async with running(load(path)) as gateway:
            yield gateway.url, asked


@pytest.mark.parametrize("stream", [False, True])
async def test_openais_client_gets_anthropics_answer(tmp_path: Path, stream: bool) -> None:
    fields: Any = {"model": MODEL, "messages": [{"role": "user", "content": "the weather?"}], "max_tokens": 50}
    async with mixed(tmp_path) as (url, asked), openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x") as client:
        if stream:
            async with client.chat.completions.stream(**fields, stream_options={"include_usage": True}) as streaming:
                answer: Any = await streaming.get_final_completion()
        else:
            answer = await client.chat.completions.create(**fields)
        assert (asked[0].headers["x-api-key"], asked[0].headers["anthropic-version"]) == ("sk-1", "2023-06-01")
    message = answer.choices[0].message
    assert (answer.model, message.role, message.content, message.reasoning_content) == (
        MODEL,
        "assistant",
        "let me see",
        "hm",
    )
    assert message.tool_calls[0].function.name == "forecast"
    assert json.loads(message.tool_calls[0].function.arguments) == {"city": "Rome"}
    assert answer.choices[0].finish_reason == "tool_calls"
    usage = answer.usage
    assert (usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens) == (11, 2, 20)


@pytest.mark.parametrize(
    ("path", "fields", "served_by"),
    [
        ("chat/completions", {}, "anthropic"),
        ("chat/completions", {"logprobs": False, "n": 1, "metadata": {"team": "a"}}, "anthropic"),
        ("chat/completions", {"n": 2}, "openai"),
        ("completions", {}, "openai"),
    ],
)
async def test_what_a_wire_has_no_words_for_goes_to_another(
    tmp_path: Path, path: str, fields: dict[str, Any], served_by: str
) -> None:
    said = {"prompt": "hi"} if path == "completions" else {"messages": [{"role": "user", "content": "hi"}]}
    async with mixed(tmp_path) as (url, _), httpx.AsyncClient(base_url=url, timeout=10) as client:
        answer = await client.post(f"/v1/{path}", json={"model": MODEL, "max_tokens": 5, **said, **fields})
    assert (answer.status_code, answer.headers["x-turnout-backend"]) == (200, served_by), answer.text


async def test_what_nobody_has_words_for_is_refused_by_name(tmp_path: Path) -> None:
    """A malformed call is a 400 of its place, not a failure of the gateway."""
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [{"id": "t", "type": "function", "function": {"arguments": 7}}]},
    ]
    async with mixed(tmp_path) as (url, asked), httpx.AsyncClient(base_url=url, timeout=10) as client:
        answer = await client.post("/v1/chat/completions", json={"model": MODEL, "messages": turns})
    assert (answer.status_code, asked) == (400, []), answer.text
    assert answer.json()["error"]["param"].startswith("messages[1].tool_calls[0]")
