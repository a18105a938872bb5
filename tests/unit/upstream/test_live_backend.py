"""A live backend's own affairs: the bill of a request cut short, closing, keys. Over the fake transport."""

from __future__ import annotations

import asyncio
import contextlib
import json

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
from backends.types import Capability, TokenChunk, Usage
from backends.upstream.transport import FakeReply, FakeTransport, Request
from tests.unit.upstream.test_openai_dialect import asked, play, rig
from tests.upstreams import JSON, MODEL, delta, live_backend, sse, timeouts

PROMPT_ONLY = Usage(2, 0, 0, 0, estimated=True)
ROLE = sse(delta("", role="assistant"), done=False)


@pytest.mark.parametrize(
    ("reply", "stream"),
    [
        (FakeReply((), headers=JSON, hangs=True), False),
        (FakeReply((b'{"choices"',), headers=JSON, hangs=True), False),
        (FakeReply((), hangs=True), True),
        (FakeReply((ROLE,), hangs=True), True),
    ],
)
async def test_a_prompt_that_was_sent_is_billed_though_its_client_leaves(reply: FakeReply, stream: bool) -> None:
    backend, transport = await rig(reply)
    generation = backend.generate(asked(stream=stream))
    assert generation.usage() == Usage(), "nothing was sent yet"
    reading = asyncio.create_task(anext(generation))
    await asyncio.sleep(0.01)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    await generation.aclose()
    assert generation.usage() == PROMPT_ONLY
    assert transport.open == 0


@pytest.mark.parametrize(
    ("reply", "billed"),
    [
        (FakeReply(error=BackendTimeout("no first byte")), PROMPT_ONLY),
        (FakeReply((BackendTimeout("no first byte"),)), PROMPT_ONLY),
        (FakeReply((ROLE, BackendTimeout("idle"))), PROMPT_ONLY),
        (FakeReply(error=Unavailable("no connection")), Usage()),
        (FakeReply(error=Saturated("all connections are taken")), Usage()),
        (FakeReply(status=503), Usage()),
        (FakeReply((sse({"error": {"message": "m", "code": 429}}),)), Usage()),
    ],
)
async def test_what_ran_out_of_time_is_billed_and_what_was_refused_is_not(reply: FakeReply, billed: Usage) -> None:
    _, generation, failure = await play(reply)
    assert failure is not None
    assert generation.usage() == billed


async def test_what_cannot_be_said_in_the_services_words_is_neither_sent_nor_billed() -> None:
    backend, transport = await rig(dialect="anthropic")
    generation = backend.generate(asked(body=b'{"messages":[],"logprobs":true}'))
    with pytest.raises(Unsupported):
        await anext(generation)
    assert (transport.requests, backend.snapshot().running, generation.usage()) == ([], 0, Usage())


async def test_a_wire_without_words_for_it_takes_a_capability_away() -> None:
    declared = frozenset[Capability]({"n", "logprobs", "tools"})
    for dialect, left in (("openai", declared), ("anthropic", {"tools"}), ("groq", {"tools"}), ("vertex", declared)):
        backend = live_backend(dialect=dialect, capabilities=declared)
        assert backend.info.deployments[MODEL].capabilities == left
        assert ("completion" in backend.info.endpoints) == (dialect == "openai")


@pytest.mark.parametrize(
    ("reply", "stream", "kind", "waiting"),
    [
        (FakeReply((), hangs=True), True, Unavailable, True),
        (FakeReply((ROLE,), hangs=True), True, Unavailable, True),
        (FakeReply((b'{"choices"',), headers=JSON, hangs=True), False, Unavailable, True),
        (FakeReply((b"wait",), 503, hangs=True), True, Unavailable, True),
        (FakeReply((sse(delta("a"), done=False),), hangs=True), True, StreamCut, True),
        (FakeReply((sse(delta("a"), done=False),), hangs=True), True, StreamCut, False),
        (FakeReply((sse(delta("a"), delta("b"), done=False),), hangs=True), True, StreamCut, False),
    ],
)
async def test_an_answer_cut_by_the_closing_of_its_backend_is_never_whole(
    reply: FakeReply, stream: bool, kind: type[BackendError], waiting: bool
) -> None:
    backend, transport = await rig(reply)
    generation = backend.generate(asked(stream=stream))
    if kind is StreamCut:
        assert isinstance(await anext(generation), TokenChunk)

    async def read() -> None:
        async for event in generation:
            assert isinstance(event, TokenChunk), "what came before the cut"

    if waiting:
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        await backend.aclose()
    else:
        await backend.aclose()
        reading = asyncio.create_task(read())
    with pytest.raises(kind, match="shutting down"):
        await asyncio.wait_for(reading, 2)
    assert (transport.open, backend.snapshot().running) == (0, 0)
    with pytest.raises(StopAsyncIteration):
        await anext(generation)


async def test_a_backend_that_closes_while_a_request_is_on_its_way_takes_no_answer() -> None:
    backend, transport = await rig(FakeReply((sse(delta("a", finish="stop")),)))
    generation = backend.generate(asked())
    reading = asyncio.create_task(anext(generation))
    await asyncio.sleep(0)  # it is inside the transport's `send`
    assert len(transport.requests) == 1
    await backend.aclose()
    with pytest.raises(Unavailable, match="shutting down"):
        await asyncio.wait_for(reading, 2)
    assert (transport.open, backend.snapshot().running) == (0, 0)


KEY = "sk-secret/0123"
QUOTED = {"message": f"no good with {KEY}", "param": f"p {KEY}", "code": f"c {KEY}"}


@pytest.mark.parametrize(
    "reply",
    [
        *(FakeReply((json.dumps({"error": QUOTED}).encode(),), status, JSON) for status in (400, 404, 408, 429, 500)),
        FakeReply((json.dumps({"error": QUOTED}).replace("/", "\\/").encode(),), 400, JSON),
        FakeReply((json.dumps({"error": {"x": KEY}}).encode(),), 400, JSON),
        FakeReply((f"<html>no good with {KEY}".encode(),), 502, JSON),
        FakeReply((("x" * 490 + KEY).encode(),), 502, JSON),
        FakeReply((sse({"error": QUOTED}),)),
        FakeReply((sse(delta("a"), {"error": QUOTED}),)),
        FakeReply((), headers={"content-type": f"text/{KEY}"}),
        FakeReply((), headers={"content-type": "text/event-stream", "content-encoding": KEY}),
    ],
)
async def test_a_key_that_a_service_quotes_is_not_shown(reply: FakeReply) -> None:
    backend, _ = await rig(reply, api_key=KEY)
    generation = backend.generate(asked())
    with pytest.raises(BackendError) as caught:
        async for _event in generation:
            pass
    told = str(caught.value)
    if isinstance(caught.value, RequestRefused):
        told += f"{caught.value.param} {caught.value.code}"
    assert "***" in told
    assert "sk-" not in told
    assert "0123" not in told


async def test_classes_of_errors_do_not_depend_on_the_key() -> None:
    backend, _ = await rig(FakeReply((b"maximum context length is 8192",), 400), api_key="x")
    with pytest.raises(ContextExceeded, match="8192"):
        await anext(backend.generate(asked()))


@pytest.mark.parametrize(("stream", "usual_s"), [(True, 7.0), (False, 70.0)])
async def test_who_is_expected_to_warm_up_has_longer_to_answer(stream: bool, usual_s: float) -> None:
    patience_s: list[float] = []

    def told(request: Request) -> FakeReply:
        patience_s.append(request.first_byte_s)
        return FakeReply(status=503)

    backend = live_backend(transport=FakeTransport(told), timeouts=timeouts(first_byte_s=7.0, whole_s=70.0))
    await backend.start()
    for warm_up_s in (0.0, 90.0):
        with pytest.raises(Unavailable):
            await anext(backend.generate(asked(stream=stream, warm_up_s=warm_up_s)))
    assert patience_s == [usual_s, usual_s + 90]
    await backend.aclose()


@pytest.mark.parametrize("reply", [FakeReply((b"{}",), headers=JSON), FakeReply(status=503), FakeReply((), hangs=True)])
async def test_it_is_woken_by_a_request_whatever_that_brings(reply: FakeReply) -> None:
    backend, transport = await rig(reply)
    backend.warm()
    async with asyncio.timeout(5):
        while not transport.requests:
            await asyncio.sleep(0)
    assert [(each.method, each.url) for each in transport.requests] == [("GET", "http://upstream/v1/models")]
    await backend.aclose()
    assert asyncio.all_tasks() == {asyncio.current_task()}
