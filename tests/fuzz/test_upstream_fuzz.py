"""Whatever a service sends, what comes of it is events and errors of ours; nothing else, and never a hang."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import BackendError
from backends.types import GenerationRequest
from backends.upstream.dialects import openai, refusals
from backends.upstream.transport import FakeReply, FakeTransport
from tests.upstreams import JSON, MODEL, delta, live_backend, sse, usage_chunk

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(
    "choices delta message content index text usage prompt_tokens completion_tokens prompt_tokens_details "
    "cached_tokens finish_reason error code model object logprobs role tool_calls".split()
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4))
GOOD = st.sampled_from(
    [delta("a"), delta("", role="assistant"), delta("b", finish="stop"), usage_chunk(1, 2), "[DONE]"]
)
EVENTS = st.lists(GOOD | VALUES.map(lambda value: json.dumps(value)), max_size=5)


def asked(*, stream: bool) -> GenerationRequest:
    return GenerationRequest("r", "chat", MODEL, ("hi",), max_tokens=3, stream=stream)


def play(reply: FakeReply, *, stream: bool) -> None:
    async def once() -> None:
        transport = FakeTransport(lambda request: reply)
        backend = live_backend(transport=transport, upstream_model="upstream-m")
        await backend.start()
        generation = backend.generate(asked(stream=stream))
        try:
            async with asyncio.timeout(5):
                async for event in generation:
                    assert event.raw is not None
        except BackendError:
            pass
        usage = generation.usage()
        assert usage.total_tokens < 2**34, "what no ledger could hold"
        assert min(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens) >= 0
        assert (transport.open, backend.snapshot().running) == (0, 0)

    asyncio.run(once())


@given(EVENTS, st.booleans(), st.lists(st.binary(max_size=20), max_size=2))
@settings(deadline=None, max_examples=150)
def test_any_stream(events: list[Any], done: bool, noise: list[bytes]) -> None:
    play(FakeReply((sse(*events, done=done), *noise)), stream=True)


@given(VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
@settings(deadline=None, max_examples=150)
def test_any_answer_in_one_piece(body: bytes) -> None:
    play(FakeReply((body,), headers=JSON), stream=False)


@given(st.integers(300, 599), VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60))
@settings(deadline=None)
def test_any_refusal(status: int, body: bytes) -> None:
    assert str(refusals.refusal("up", status, {}, body, 0.0))


@given(st.dictionaries(KEYS | st.sampled_from(["max_tokens", "stream_options", "stream"]), VALUES, max_size=4))
def test_any_body_goes_on_with_its_fields(fields: dict[str, Any]) -> None:
    # NaN is no JSON, and no schema lets it in.
    body = json.loads(json.dumps(fields).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0"))
    body["stream_options"] = None
    sent = json.loads(openai.request_body(asked(stream=True)._replace(body=json.dumps(body).encode()), "u"))
    assert {**body, **{key: sent[key] for key in ("model", "max_tokens", "stream_options")}} == sent
