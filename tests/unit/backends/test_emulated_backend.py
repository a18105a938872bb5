"""The shell around the engine: it wakes when it should, bills while it streams, and keeps within the engine's room."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from backends import registry
from backends.base import Backend
from backends.clock import VirtualClock
from backends.emulator.backend import TICK_NS, EmulatedBackend
from backends.errors import Saturated, Unavailable, Unsupported
from backends.types import ChoiceEnd, EmulationSpec, Event, GenerationRequest, TokenChunk
from tests.sheets import QUIET, sheets, spec_of

MODEL = "llama-3.1-8b"


def request(prompt: str = "one two three", **fields: object) -> GenerationRequest:
    base = GenerationRequest("r", "chat", MODEL, (prompt,), max_tokens=20, stream=True)
    return base._replace(**fields)  # type: ignore[arg-type]


async def started(kind: str, clock: VirtualClock, emulation: EmulationSpec = QUIET) -> Backend:
    backend = registry.build(spec_of(kind, emulation=emulation), sheets(), clock)
    await backend.start()
    return backend


async def collect(backend: Backend, asked: GenerationRequest) -> list[Event]:
    return [event async for event in backend.generate(asked)]


async def test_a_cancelled_compilation_does_not_hold_up_the_next_request() -> None:
    """The driver sleeps until the compiled step's end, 20 s away; cancelling moves the next event forward."""
    clock = VirtualClock()
    backend = await started("tpu", clock)
    long = backend.generate(request("w " * 20_000))
    reading = asyncio.create_task(anext(long))
    await clock.advance_to(10_000_000)
    short = asyncio.create_task(collect(backend, request()))
    await clock.advance_to(20_000_000)
    assert not short.done()
    await long.aclose()
    await clock.advance_to(2_000_000_000)
    assert short.done()
    with pytest.raises(StopAsyncIteration):
        await reading
    await backend.aclose()


async def test_a_request_after_an_abandoned_compilation_wakes_the_driver() -> None:
    clock = VirtualClock()
    backend = await started("trainium", clock)
    long = backend.generate(request("w " * 20_000))
    reading = asyncio.create_task(anext(long))
    await clock.advance_to(10_000_000)
    await long.aclose()
    await asyncio.gather(reading, return_exceptions=True)
    short = asyncio.create_task(collect(backend, request()))
    await clock.advance_to(10_000_000_000)
    assert short.done()
    await backend.aclose()


async def test_a_broken_engine_fails_its_requests_and_takes_no_more(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    assert isinstance(backend, EmulatedBackend)
    task = asyncio.create_task(collect(backend, request()))
    await clock.advance_to(1_000_000)

    def broken(now_ns: int) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(backend.engine, "advance", broken)
    await clock.advance_to(2_000_000_000)
    with pytest.raises(Unavailable, match="broke"):
        await task
    assert "ZeroDivisionError" in caplog.text
    with pytest.raises(Unavailable):
        await collect(backend, request())
    with pytest.raises(Unavailable):
        await backend.ping()
    backend.snapshot()
    await backend.aclose()


async def test_share_and_usage_grow_while_a_request_streams() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    generation = backend.generate(request(max_tokens=500, ignore_eos=True, stream=False))
    task = asyncio.create_task(anext(generation))
    seen = []
    for _ in range(3):
        await clock.advance_to(clock.now_ns() + 300_000_000)
        backend.snapshot()
        share = generation.engine_share()
        assert share is not None
        seen.append((share.completion_ns, generation.usage().completion_tokens))
    await task
    assert seen[0] < seen[1] < seen[2]
    assert seen[0][0] > 0
    # All but the step in progress is attributed: one lone request answers for all of the engine's busy time.
    final, busy_ns = generation.engine_share(), backend.snapshot().busy_ns
    assert final is not None
    assert 0 <= busy_ns - final.total_ns < 20_000_000
    await generation.aclose()
    await backend.aclose()


async def test_a_cancelled_prompt_is_billed_for_what_was_read_of_it() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    generation = backend.generate(request("w " * 50_000))
    task = asyncio.create_task(anext(generation))
    await clock.advance_to(1_000_000_000)
    await generation.aclose()
    await asyncio.gather(task, return_exceptions=True)
    usage, share = generation.usage(), generation.engine_share()
    assert 8192 <= usage.prompt_tokens < 50_000
    assert usage.prompt_tokens % 8192 == 0
    assert usage.completion_tokens == 0
    assert share is not None
    assert share.prompt_ns == backend.snapshot().busy_ns == 1_000_000_000
    await backend.aclose()


async def test_nobody_wakes_while_the_engine_is_idle() -> None:
    clock = VirtualClock()
    backend = await started("cerebras", clock)
    await clock.advance_to(1)
    assert clock.next_deadline_ns() is None
    task = asyncio.create_task(collect(backend, request()))
    await clock.advance_to(10**9)
    assert task.done()
    assert clock.next_deadline_ns() is None
    await backend.aclose()


async def test_tokens_of_a_tick_come_together() -> None:
    """A wafer makes a token in half a millisecond; the process wakes every second millisecond."""
    clock = VirtualClock()
    backend = await started("cerebras", clock)
    task = asyncio.create_task(collect(backend, request(max_tokens=400, ignore_eos=True)))
    await clock.advance_to(10**9)
    chunks = [event for event in await task if isinstance(event, TokenChunk)]
    assert sum(chunk.tokens for chunk in chunks) == 400
    busy_ns = backend.snapshot().busy_ns
    assert busy_ns / TICK_NS * 0.9 <= len(chunks) <= busy_ns / TICK_NS + 2
    await backend.aclose()


async def test_more_choices_than_slots_go_in_groups_and_the_prompt_counts_once() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock, replace(QUIET, max_sequences=3))
    generation = backend.generate(request(n=8))
    most = 0

    async def drain() -> list[Event]:
        return [event async for event in generation]

    task = asyncio.create_task(drain())
    while not task.done():
        await clock.advance_to(clock.now_ns() + 3_000_000)
        now = backend.snapshot()
        most = max(most, now.running)
    assert most == 3
    events = await task
    assert sorted(event.index for event in events if isinstance(event, ChoiceEnd)) == list(range(8))
    assert (generation.usage().prompt_tokens, generation.usage().completion_tokens) == (3, 160)
    share = generation.engine_share()
    assert share is not None
    assert share.total_ns == backend.snapshot().busy_ns
    alone = await started("gpu", clock)
    whole = asyncio.create_task(collect(alone, request(n=8)))
    await clock.advance_to(clock.now_ns() + 10**9)
    assert said(events) == said(await whole)
    await backend.aclose()
    await alone.aclose()


def said(events: list[Event]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for event in events:
        if isinstance(event, TokenChunk):
            texts[event.index] = texts.get(event.index, "") + event.text
    return texts


async def test_a_full_engine_estimates_when_to_come_back() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock, replace(QUIET, max_sequences=1, max_waiting=0))
    task = asyncio.create_task(collect(backend, request(max_tokens=200, ignore_eos=True)))
    await clock.advance_to(100_000_000)
    asked_ns = clock.now_ns()
    generation = backend.generate(request())
    with pytest.raises(Saturated) as caught:
        await anext(generation)
    with pytest.raises(Saturated):
        await anext(generation)
    foretold_s = caught.value.retry_after_s
    while not task.done():
        await clock.advance_to(clock.now_ns() + 1_000_000)
    assert foretold_s == pytest.approx((clock.now_ns() - asked_ns) / 1e9, rel=0.1)
    await backend.aclose()


async def test_a_model_it_does_not_serve_is_refused_not_raised_at_once() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    generation = backend.generate(request(model="other"))
    with pytest.raises(Unsupported) as caught:
        await anext(generation)
    assert caught.value.param == "model"
    await backend.aclose()


@pytest.mark.parametrize("kind", registry.emulated_kinds())
async def test_a_request_that_fills_the_whole_context_is_answered(kind: str) -> None:
    """The largest prompt and answer that the declared context admits fit the engine's KV room, blocks included."""
    clock = VirtualClock()
    backend = await started(kind, clock)
    context = backend.info.deployments[MODEL].context_tokens
    task = asyncio.create_task(
        collect(backend, request("w " * (context - 5), max_tokens=None, ignore_eos=True, stream=False))
    )
    await clock.advance_to(10**13)
    assert sum(event.tokens for event in await task if isinstance(event, TokenChunk)) == 5
    await backend.aclose()


async def test_a_search_for_stop_sequences_lets_others_have_their_turn() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    generation = backend.generate(request(max_tokens=30_000, ignore_eos=True, stop=("zzzz",)))
    reading = asyncio.create_task(anext(generation))
    while backend.snapshot().running == 0:
        await asyncio.sleep(0)
    assert turns > 30_000 / 1024
    beside.cancel()
    await generation.aclose()
    await asyncio.gather(reading, beside, return_exceptions=True)
    await backend.aclose()


async def test_a_long_answer_comes_in_pieces_even_where_it_is_not_streamed() -> None:
    clock = VirtualClock()
    backend = await started("cerebras", clock)
    asked = request(max_tokens=5000, ignore_eos=True, stream=False)
    task = asyncio.create_task(collect(backend, asked))
    while not task.done():
        await clock.advance_to(clock.now_ns() + 100_000_000)
    sizes = [event.tokens for event in task.result() if isinstance(event, TokenChunk)]
    assert sum(sizes) == 5000
    assert len(sizes) >= 5
    await backend.aclose()
