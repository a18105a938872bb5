"""A live backend's own affairs: what is billed of a request that was cut short. Over the fake transport."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from backends.errors import BackendTimeout, Saturated, Unavailable
from backends.types import Usage
from backends.upstream.transport import FakeReply
from tests.unit.upstream.test_openai_dialect import asked, play, rig
from tests.upstreams import JSON, delta, sse

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
