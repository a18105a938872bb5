"""OpenAI's dialect as a playbook: what goes out, what comes back, what becomes of it. Over the fake transport."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from backends.errors import (
    BackendError,
    BackendTimeout,
    ContextExceeded,
    RequestRefused,
    Saturated,
    StreamCut,
    Unavailable,
    Unsupported,
)
from backends.types import ChoiceEnd, Event, GenerationRequest, LiveTimeouts, TokenChunk, Usage
from backends.upstream.backend import LiveBackend, LiveGeneration
from backends.upstream.dialects import openai, refusals
from backends.upstream.transport import FakeReply, FakeTransport
from tests.upstreams import JSON, delta, live_backend, sse, usage_chunk

MODEL = "llama-3.1-8b"
BODY = (
    b'{"model":"alias","messages":[{"role":"user","content":"hi there"}],"stream":true,'
    b'"top_k":7,"logit_bias":{"5":1e2}}'
)
HELLO = (delta("Hel"), delta("lo", finish="stop"), usage_chunk(3, 2))


def asked(**fields: Any) -> GenerationRequest:
    base = GenerationRequest("r-1", "chat", MODEL, ("hi there",), max_tokens=9, stream=True, body=BODY)
    return base._replace(**fields)


async def rig(*replies: FakeReply, **fields: Any) -> tuple[LiveBackend, FakeTransport]:
    listed = list(replies)
    transport = FakeTransport(lambda request: listed.pop(0))
    backend = live_backend(transport=transport, **{"upstream_model": "upstream-m", "api_key": "k", **fields})
    await backend.start()
    return backend, transport


async def play(reply: FakeReply, **fields: Any) -> tuple[list[Event], LiveGeneration, BackendError | None]:
    """Everything that comes of a reply, and what it ended with. Whatever happens, nothing stays open."""
    backend, transport = await rig(reply)
    generation = backend.generate(asked(**fields))
    events: list[Event] = []
    failure: BackendError | None = None
    try:
        async with asyncio.timeout(5):
            async for event in generation:
                events.append(event)
    except BackendError as error:
        failure = error
    assert (transport.open, backend.snapshot().running) == (0, 0)
    with pytest.raises(StopAsyncIteration):
        await generation.__anext__()
    return events, generation, failure


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, TokenChunk))


def relayed(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The chunks that would be passed on."""
    raw = b"".join(event.raw or b"" for event in events)
    return [json.loads(line.removeprefix("data: ")) for line in raw.decode().split("\n\n") if line]


async def test_the_clients_body_goes_on_with_what_must_change_and_nothing_else() -> None:
    backend, transport = await rig(FakeReply((sse(*HELLO),)))
    async for _ in backend.generate(asked()):
        pass
    request = transport.requests[0]
    assert (request.method, request.url) == ("POST", "http://upstream/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer k"
    assert request.headers["x-request-id"] == "r-1"
    assert json.loads(request.body) == {
        **json.loads(BODY),
        "model": "upstream-m",
        "max_tokens": 9,
        "stream_options": {"include_usage": True},
    }
    assert b'"logit_bias":{"5":1e2}' in request.body, "untouched fields go on byte by byte"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_tokens": 50}, {"max_tokens": 9}),
        ({"max_completion_tokens": 50}, {"max_completion_tokens": 9}),
        ({"max_completion_tokens": None, "max_tokens": 50}, {"max_completion_tokens": None, "max_tokens": 9}),
        ({"max_completion_tokens": 50, "max_tokens": 99}, {"max_completion_tokens": 9, "max_tokens": 9}),
        ({"stream_options": {"x": 1}}, {"stream_options": {"x": 1, "include_usage": True}, "max_tokens": 9}),
        ({"stream_options": None}, {"stream_options": {"include_usage": True}, "max_tokens": 9}),
    ],
)
def test_limits_and_stream_options_keep_their_place(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    sent = json.loads(openai.request_body(asked(body=json.dumps({"model": "x", **fields}).encode()), "u"))
    assert sent == {"stream_options": {"include_usage": True}, "model": "u", **fields, **expected}


def test_priority_is_our_own_and_stays_here() -> None:
    assert "priority" not in json.loads(openai.request_body(asked(body=b'{"model":"x","priority":5}'), "u"))


async def test_empty_chunks_are_not_gathered_without_bound() -> None:
    empty = [delta("") for _ in range(2000)]
    events, _, failure = await play(FakeReply((sse(*empty, *HELLO),)))
    assert failure is None
    assert text_of(events) == "Hello"
    assert sum(len(event.raw or b"") for event in events) < openai.MAX_HELD_BYTES + 2000


def test_without_streaming_no_stream_options_are_added() -> None:
    assert b"stream_options" not in openai.request_body(asked(stream=False, body=b'{"model":"x"}'), "u")


async def test_a_stream_is_relayed_under_the_public_name_and_its_usage_is_exact() -> None:
    events, generation, failure = await play(FakeReply((sse(*HELLO),)))
    assert failure is None
    assert text_of(events) == "Hello"
    assert events[-1] == ChoiceEnd(0, "stop", b"")
    assert [chunk["model"] for chunk in relayed(events)] == [MODEL, MODEL]
    assert relayed(events)[0]["choices"] == delta("Hel")["choices"]
    assert generation.usage() == Usage(3, 0, 2)
    assert generation.engine_share() is None  # type: ignore[func-returns-value]


async def test_usage_may_come_with_any_chunk_and_is_not_passed_on() -> None:
    last = {**delta("lo", finish="stop"), "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    events, generation, _ = await play(FakeReply((sse(delta("Hel"), last),)))
    assert relayed(events)[-1]["usage"] is None
    assert generation.usage() == Usage(3, 0, 2)


async def test_token_kinds_are_made_disjoint() -> None:
    said = usage_chunk(
        10, 8, prompt_tokens_details={"cached_tokens": 4}, completion_tokens_details={"reasoning_tokens": 5}
    )
    _, generation, _ = await play(FakeReply((sse(delta("x", finish="stop"), said),)))
    assert generation.usage() == Usage(6, 4, 3, 5)


async def test_a_stream_that_never_says_its_usage_is_counted_and_says_so() -> None:
    _, generation, failure = await play(FakeReply((sse(delta("a"), delta("b"), delta("c", finish="length")),)))
    assert failure is None
    assert generation.usage() == Usage(2, 0, 3, 0, estimated=True)


NO_COUNTS: tuple[dict[str, Any], ...] = (
    {},
    {"prompt_tokens": 3},
    {"completion_tokens": 2},
    {"prompt_tokens": None, "completion_tokens": 2},
    {"prompt_tokens": 3, "completion_tokens": 2.5},
    {"prompt_tokens": "3", "completion_tokens": "2"},
    {"prompt_tokens": True, "completion_tokens": 2},
    {"prompt_tokens": -1, "completion_tokens": 2},
)


@pytest.mark.parametrize("said", NO_COUNTS, ids=str)
async def test_half_an_account_is_none(said: dict[str, Any]) -> None:
    last = {**delta("b", finish="stop"), "usage": said}
    _, generation, failure = await play(FakeReply((sse(delta("a"), last),)))
    assert failure is None
    assert generation.usage() == Usage(2, 0, 2, 0, estimated=True)
    answer = {"choices": [{"index": 0, "message": {"content": "Hello you"}}], "usage": said}
    _, generation, failure = await play(FakeReply((json.dumps(answer).encode(),), headers=JSON), stream=False)
    assert failure is None
    assert generation.usage() == Usage(2, 0, 2, 0, estimated=True)


async def test_what_was_told_before_outlasts_half_an_account_and_floats_may_count() -> None:
    told = {"prompt_tokens": 3.0, "completion_tokens": 12.0, "prompt_tokens_details": {"cached_tokens": 1.0}}
    chunks = ({**delta("a"), "usage": told}, {**delta(finish="stop"), "usage": {}})
    _, generation, _ = await play(FakeReply((sse(*chunks),)))
    usage = generation.usage()
    assert usage == Usage(2, 1, 12)
    assert {type(count) for count in (usage.prompt_tokens, usage.completion_tokens)} == {int}


async def test_roles_wait_for_the_first_text_and_tool_calls_survive() -> None:
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": '{"model":"upstream-m"}'},
    }
    chunks = (delta("", role="assistant"), delta(tool_calls=[call]), delta(finish="tool_calls"), usage_chunk(3, 9))
    events, _, failure = await play(FakeReply((sse(*chunks),)))
    assert failure is None
    assert [type(event) for event in events] == [TokenChunk, ChoiceEnd]
    assert isinstance(events[0], TokenChunk)
    assert (events[0].text, events[0].plain) == ("", False)
    assert isinstance(events[1], ChoiceEnd)
    assert events[1].reason == "tool_calls"
    assert [chunk["choices"] for chunk in relayed(events)] == [chunk["choices"] for chunk in chunks[:3]]


async def test_several_choices_in_one_chunk_are_written_once() -> None:
    both = {
        **delta("a", 0, "stop"),
        "choices": [delta("a", 0, "stop")["choices"][0], delta("b", 1, "stop")["choices"][0]],
    }
    events, _, failure = await play(FakeReply((sse(both, usage_chunk(1, 2)),)), n=2)
    assert failure is None
    assert [event.index for event in events] == [0, 0, 1, 1]
    assert len(relayed(events)) == 1


async def test_an_answer_in_one_piece_goes_with_its_first_event() -> None:
    body = {
        "id": "up-1",
        "model": "upstream-m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "system_fingerprint": "fp",
    }
    sent = json.dumps(body).encode()
    events, generation, failure = await play(FakeReply((sent[:9], sent[9:]), headers=JSON), stream=False)
    assert failure is None
    assert events == [TokenChunk(0, "Hello", 2, sent), ChoiceEnd(0, "stop", b"")]
    assert generation.usage() == Usage(3, 0, 2)


ERROR = {"message": "said so", "type": "t", "param": "p", "code": "c"}


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind", "says"),
    [
        (400, {"error": ERROR}, {}, RequestRefused, "said so"),
        (422, {"detail": "no such field"}, {}, RequestRefused, "no such field"),
        (404, {"object": "error", "message": "no such model", "code": 404}, {}, Unavailable, "upstream_model"),
        (413, "too big", {}, RequestRefused, "too big"),
        (400, {"error": {**ERROR, "code": "context_length_exceeded"}}, {}, ContextExceeded, "said so"),
        (
            400,
            {"error": {"message": "This model's maximum context length is 8192 tokens"}},
            {},
            ContextExceeded,
            "8192",
        ),
        (401, {"error": ERROR}, {}, Unavailable, "api_key"),
        (403, {"error": ERROR}, {}, Unavailable, "api_key"),
        (408, {"error": ERROR}, {}, BackendTimeout, "said so"),
        (504, "<html>gateway</html>", {}, BackendTimeout, "gateway"),
        (429, {"error": ERROR}, {"retry-after-ms": "250"}, Saturated, "said so"),
        (500, {"error": ERROR}, {}, Unavailable, "said so"),
        (503, "", {}, Unavailable, "503"),
        (302, "", {"location": "http://elsewhere"}, Unavailable, "302"),
        (204, "", {}, Unavailable, "204"),
    ],
)
async def test_what_a_status_means(
    status: int, body: Any, headers: dict[str, str], kind: type[BackendError], says: str
) -> None:
    sent = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    events, generation, failure = await play(FakeReply((sent,), status, {**JSON, **headers}))
    assert events == []
    assert type(failure) is kind
    assert says in str(failure)
    assert failure.client_fault == issubclass(kind, RequestRefused)
    assert generation.usage() == Usage()
    if status in (401, 403):
        assert "said so" not in str(failure), "which may show a part of the key"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "9"}, 9.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60.0),
        ({"retry-after": "soon"}, 1.0),
        ({"retry-after": "1e400"}, 3600.0),
        ({"retry-after": "nan"}, 0.0),
        ({}, 1.0),
    ],
)
def test_when_to_come_back(headers: dict[str, str], seconds: float) -> None:
    error = refusals.refusal("up", 429, headers, b"", wall_s=40.0)
    assert isinstance(error, Saturated)
    assert error.retry_after_s == seconds


BAD = b"data: {not json}\n\n"
GOOD = sse(delta("a"), done=False)


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((BAD,), Unavailable),
        ((GOOD, BAD), StreamCut),
        ((GOOD + BAD,), StreamCut),
        ((GOOD,), StreamCut),
        ((), Unavailable),
        ((sse(delta("", role="assistant"), done=False),), Unavailable),
        ((sse(),), Unavailable),
        ((sse(delta("a")),), StreamCut),
        ((GOOD, StreamCut("reset")), StreamCut),
        ((GOOD, BackendTimeout("idle")), BackendTimeout),
        ((sse({"error": {"message": "m", "code": 429}}),), Saturated),
        ((sse({"error": {"message": "m", "code": 400}}),), RequestRefused),
        ((sse({"error": "m"}),), Unavailable),
        ((sse(delta("a"), {"error": {"message": "m", "code": 429}}),), StreamCut),
        ((sse(delta("a", index=3)),), Unavailable),
        ((sse(delta("a", finish="stop"), delta("b")),), StreamCut),
        ((b"data: " + b"x" * 9_000_000,), Unavailable),
        ((b'data: {"choices":[{"index":"x"}]}\n\n',), Unavailable),
    ],
)
async def test_a_stream_that_breaks_is_never_whole(pieces: tuple[Any, ...], kind: type[BackendError]) -> None:
    events, _, failure = await play(FakeReply(pieces))
    assert type(failure) is kind
    assert bool(events) == (kind is StreamCut or BackendTimeout in map(type, pieces)), "what came before is delivered"


async def test_finished_without_done_is_whole() -> None:
    events, generation, failure = await play(FakeReply((sse(*HELLO, done=False),)))
    assert (failure, text_of(events), generation.usage().estimated) == (None, "Hello", False)


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        (FakeReply((b"<html>",), headers={"content-type": "text/html"}), True),
        (FakeReply((b"{}",), headers=JSON), True),
        (FakeReply((sse(*HELLO),)), False),
        (FakeReply((b"{}",), headers={**JSON, "content-encoding": "gzip"}), False),
        (FakeReply((b'{"choices": [',), headers=JSON), False),
        (FakeReply((b'{"choices": []}',), headers=JSON), False),
        (FakeReply((b'{"cho', StreamCut("reset")), headers=JSON), False),
        (FakeReply(error=Unavailable("refused")), True),
    ],
)
async def test_what_is_no_answer_may_be_tried_elsewhere(reply: FakeReply, stream: bool) -> None:
    events, _, failure = await play(reply, stream=stream)
    assert events == []
    assert type(failure) is Unavailable
    assert failure.retryable


async def test_closing_midway_closes_the_response_and_bills_what_was_said() -> None:
    backend, transport = await rig(FakeReply((GOOD,), hangs=True))
    generation = backend.generate(asked())
    assert isinstance(await generation.__anext__(), TokenChunk)
    assert (transport.open, backend.snapshot().running) == (1, 1)
    await generation.aclose()
    assert (transport.open, backend.snapshot().running) == (0, 0)
    assert generation.usage() == Usage(2, 0, 1, 0, estimated=True)


async def test_a_model_it_does_not_serve_is_refused_before_the_wire() -> None:
    backend, transport = await rig()
    with pytest.raises(Unsupported):
        await backend.generate(asked(model="other")).__anext__()
    assert transport.requests == []


async def test_ping_asks_for_the_models() -> None:
    backend, transport = await rig(FakeReply(), FakeReply(status=401), FakeReply(error=BackendTimeout("slow")))
    await backend.ping()
    assert (transport.requests[0].method, transport.requests[0].url) == ("GET", "http://upstream/v1/models")
    for _ in range(2):
        with pytest.raises(Unavailable):
            await backend.ping()
    await backend.aclose()
    with pytest.raises(Unavailable):
        await backend.ping()
    assert transport.closed


VECTORS: dict[str, Any] = {
    "object": "list",
    "data": [{"object": "embedding", "index": index, "embedding": [0.5]} for index in range(2)],
    "model": "upstream-m",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
EMBED: dict[str, Any] = {
    "endpoint": "embedding",
    "prompts": ("one", "two"),
    "stream": False,
    "max_tokens": 1,
    "body": b'{"model":"alias","input":["one","two"],"dimensions":1}',
}


async def test_embeddings_go_out_without_a_limit_and_come_back_as_they_are() -> None:
    body = json.dumps(VECTORS).encode()
    events, generation, failure = await play(FakeReply((body,), headers=JSON), **EMBED)
    assert failure is None
    assert [event.index for event in events if isinstance(event, ChoiceEnd)] == [0, 1]
    assert b"".join(event.raw or b"" for event in events) == body
    assert generation.usage() == Usage(5)
    backend, transport = await rig(FakeReply((body,), headers=JSON))
    generation = backend.generate(asked(**EMBED))
    assert [event async for event in generation]
    assert transport.requests[0].url.endswith("/v1/embeddings")
    assert json.loads(transport.requests[0].body) == {
        "model": "upstream-m", "input": ["one", "two"], "dimensions": 1,
    }  # fmt: skip


async def test_a_vector_too_few_is_no_answer() -> None:
    body = json.dumps({**VECTORS, "data": VECTORS["data"][:1]}).encode()
    _, _, failure = await play(FakeReply((body,), headers=JSON), **EMBED)
    assert isinstance(failure, Unavailable)


async def test_of_a_clients_headers_only_those_let_through_go_on_and_ours_win() -> None:
    backend, transport = await rig(FakeReply((sse(*HELLO),)), forward_headers=frozenset({"x-tenant", "accept"}))
    sent = {"x-tenant": "a", "x-other": "b", "accept": "nonsense"}
    assert [event async for event in backend.generate(asked(headers=sent))]
    headers = transport.requests[0].headers
    assert (headers["x-tenant"], headers["accept"]) == ("a", "text/event-stream")
    assert "x-other" not in headers


async def test_a_refusal_keeps_the_services_status() -> None:
    _, _, failure = await play(FakeReply((b'{"error":{"message":"no"}}',), 422, JSON))
    assert isinstance(failure, RequestRefused)
    assert failure.status == 422


@pytest.mark.parametrize(("drain_s", "usage"), [(0.0, Usage(2, 0, 1, 0, estimated=True)), (5.0, Usage(3, 0, 2))])
async def test_a_stream_that_nobody_wants_is_cut_off_or_read_to_its_end(drain_s: float, usage: Usage) -> None:
    pieces = [sse(chunk, done=False) for chunk in HELLO]
    backend, transport = await rig(FakeReply((*pieces, sse())), timeouts=LiveTimeouts(drain_s=drain_s))
    generation = backend.generate(asked())
    await anext(generation)
    await generation.aclose()
    assert generation.usage() == usage
    assert (transport.open, backend.snapshot().running) == (0, 0)


async def test_reading_on_has_an_end() -> None:
    reply = FakeReply((sse(HELLO[0], done=False),), hangs=True)
    backend, transport = await rig(reply, timeouts=LiveTimeouts(drain_s=0.05))
    generation = backend.generate(asked())
    await anext(generation)
    async with asyncio.timeout(2):
        await generation.aclose()
    assert (transport.open, generation.usage().estimated) == (0, True)
