"""Official clients over services that fail: a failure is the client's own exception, a cut stream never a whole one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from app.config.load import load
from tests.gateways import running
from tests.javascript import checks, problems
from tests.upstreams import MODEL, Upstream, emulating, live_config

ASK: Any = [{"role": "user", "content": "say something"}]
TIMEOUTS = "{first_byte_s: 0.5, idle_s: 0.5, whole_s: 0.5}"


@asynccontextmanager
async def failing(folder: Path, **fault: Any) -> AsyncIterator[tuple[str, Upstream]]:
    """A gateway over one service that does this to every request."""
    async with emulating() as upstream:
        live_config(folder, {"up": upstream.url}, timeouts=TIMEOUTS)
        async with running(load(folder / "turnout.yaml")) as gateway:
            upstream.misbehave(fault)
            yield gateway.url, upstream


BEFORE = [
    ({"kind": "http_error", "status": 429, "retry_after_s": 1.5}, openai.RateLimitError, anthropic.RateLimitError),
    ({"kind": "http_error", "status": 500}, openai.InternalServerError, anthropic.InternalServerError),
    ({"kind": "http_error", "status": 401}, openai.InternalServerError, anthropic.InternalServerError),
    ({"kind": "http_error", "status": 422}, openai.UnprocessableEntityError, anthropic.UnprocessableEntityError),
    ({"kind": "refuse"}, openai.InternalServerError, anthropic.InternalServerError),
    ({"kind": "wrong_content_type"}, openai.InternalServerError, anthropic.InternalServerError),
    ({"kind": "malformed", "after_chunks": 0}, openai.InternalServerError, anthropic.InternalServerError),
    ({"kind": "hang"}, openai.InternalServerError, anthropic.InternalServerError),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fault", "openais", "anthropics"), BEFORE, ids=[str(case[0]) for case in BEFORE])
async def test_before_the_first_byte(
    tmp_path: Path,
    fault: dict[str, Any],
    openais: type[openai.APIStatusError],
    anthropics: type[anthropic.APIStatusError],
    stream: bool,
) -> None:
    async with failing(tmp_path, **fault) as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            with pytest.raises(openais) as raised:
                await client.chat.completions.create(model=MODEL, messages=ASK, stream=stream)
            assert raised.value.response.headers["x-turnout-decision"]
            if fault.get("status") == 401:
                assert "check its api_key" in str(raised.value)
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as other:
            with pytest.raises((anthropics, anthropic.RateLimitError)):
                await other.messages.create(model=MODEL, messages=ASK, max_tokens=50, stream=stream)


@pytest.mark.parametrize("kind", ["cut", "malformed", "hang"])
async def test_midway_a_stream_ends_in_an_exception(tmp_path: Path, kind: str) -> None:
    async with failing(tmp_path, kind=kind, after_chunks=2) as (url, _):
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            seen = 0
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(
                    model=MODEL, messages=ASK, stream=True, max_tokens=60
                ):
                    seen += 1
            assert seen >= 1
            # Of a response a failure is an event, as OpenAI has it, and nothing after it says that all is well.
            told = [event.type async for event in await client.responses.create(model=MODEL, input="x", stream=True)]
            assert told[-2:] == ["response.failed", "error"]
        async with anthropic.AsyncAnthropic(base_url=url, api_key="x", max_retries=0) as other:
            with pytest.raises(anthropic.APIStatusError):
                async with other.messages.stream(model=MODEL, messages=ASK, max_tokens=60) as stream:
                    await stream.get_final_message()


JAVASCRIPT_BEFORE: list[tuple[dict[str, Any], str]] = [
    ({"kind": "http_error", "status": 429, "retry_after_s": 1.5}, "429"),
    ({"kind": "http_error", "status": 401}, "502"),
    ({"kind": "http_error", "status": 422}, "422"),
    ({"kind": "wrong_content_type"}, "502"),
    ({"kind": "hang"}, "504"),
]


@pytest.mark.parametrize(("fault", "status"), JAVASCRIPT_BEFORE, ids=[str(case[0]) for case in JAVASCRIPT_BEFORE])
async def test_javascript_before_the_first_byte(tmp_path: Path, fault: dict[str, Any], status: str) -> None:
    async with failing(tmp_path, **fault) as (url, _):
        found = await problems("faults.mjs", url, MODEL, "before", status)
    assert found == dict.fromkeys(found)
    assert len(found) == 7


@pytest.mark.parametrize("kind", ["cut", "malformed", "hang"])
async def test_javascript_midway(tmp_path: Path, kind: str) -> None:
    async with failing(tmp_path, kind=kind, after_chunks=2) as (url, _):
        found = await problems("faults.mjs", url, MODEL, "midway")
    assert found == dict.fromkeys(found)
    assert len(found) == 4
    assert set(found) < set(checks("faults.mjs"))
