"""What a backend is: one suite over every kind found by listing the package, and over the tests' own fake."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from backends import errors, registry
from backends.base import Backend, Generation
from backends.clock import SystemClock, VirtualClock
from backends.types import ChoiceEnd, EmulationSpec, Event, GenerationRequest, TokenChunk
from backends.upstream.transport import FakeTransport
from tests.fakes import Script, ScriptedBackend
from tests.sheets import sheets, spec_of
from tests.upstreams import echo, emulating, live_backend

MODEL = "llama-3.1-8b"
FAKE = "scripted"
LIVE = ("live over the fake transport", "live over turnout emulate")
EMULATED = registry.emulated_kinds()


def request(**fields: object) -> GenerationRequest:
    base = GenerationRequest("r", "chat", MODEL, ("one two three",), max_tokens=20, stream=True, seed=5)
    return base._replace(**fields)  # type: ignore[arg-type]


class Rig:
    """A started backend and the clock it lives by."""

    def __init__(self, backend: Backend, clock: VirtualClock) -> None:
        self.backend = backend
        self.clock = clock
        self.real = backend.info.mode == "live"

    async def drain(self, generation: Generation) -> list[Event]:
        """Every event, time moving as far as it must."""

        async def collect() -> list[Event]:
            return [event async for event in generation]

        task = asyncio.create_task(collect())
        await self.run_until(task)
        return await task

    async def run_until(self, task: asyncio.Task[object]) -> None:
        if self.real:
            await asyncio.wait({task}, timeout=20)
            return
        for _ in range(20_000):
            await asyncio.sleep(0)
            if task.done():
                return
            deadline = self.clock.next_deadline_ns()
            if deadline is not None:
                await self.clock.advance_to(deadline)
        raise AssertionError("no progress")


@pytest.fixture(params=[*EMULATED, FAKE, *LIVE])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    clock = VirtualClock()
    backend: Backend
    if request.param in LIVE:
        async with contextlib.AsyncExitStack() as stack:
            if request.param == LIVE[0]:
                backend = live_backend(transport=FakeTransport(echo))
            else:
                backend = live_backend((await stack.enter_async_context(emulating())).url)
            await backend.start()
            yield Rig(backend, clock)
            await backend.aclose()
        return
    if request.param == FAKE:
        backend = ScriptedBackend("fake", MODEL, [Script(tuple("abcdefghijklmnopqrstuvwxyz"))], context=131_072)
    else:
        backend = registry.build(spec_of(request.param, emulation=EmulationSpec(seed=3)), sheets(), clock)
    await backend.start()
    yield Rig(backend, clock)
    await backend.aclose()


def texts(events: list[Event]) -> dict[int, str]:
    said: dict[int, str] = {}
    for event in events:
        if isinstance(event, TokenChunk):
            said[event.index] = said.get(event.index, "") + event.text
    return said


async def test_info_names_what_it_serves(rig: Rig) -> None:
    info = rig.backend.info
    assert info.deployments[MODEL].model == MODEL
    assert info.deployments[MODEL].profile.max_sequences >= 1
    await rig.backend.ping()


async def test_chunks_come_in_order_and_each_choice_ends_once(rig: Rig) -> None:
    events = await rig.drain(rig.backend.generate(request(n=3)))
    ended: list[int] = []
    for event in events:
        assert event.index not in ended, "something followed the end of a choice"
        if isinstance(event, ChoiceEnd):
            ended.append(event.index)
        else:
            assert event.tokens >= 1
    assert sorted(ended) == [0, 1, 2]


async def test_usage_counts_exactly_what_was_said(rig: Rig) -> None:
    generation = rig.backend.generate(request(n=2))
    events = await rig.drain(generation)
    usage = generation.usage()
    assert usage.prompt_tokens + usage.cached_tokens == 3
    assert usage.completion_tokens == 40
    assert not usage.estimated
    told = sum(event.tokens for event in events if isinstance(event, TokenChunk))
    assert told <= 40 if rig.real else told == 40, "a live service does not say how many tokens a chunk holds"
    assert all(isinstance(event, TokenChunk) or event.reason == "length" for event in events)


async def test_several_prompts_are_numbered_prompt_major(rig: Rig) -> None:
    events = await rig.drain(rig.backend.generate(request(endpoint="completion", prompts=("a b", "c"), n=2)))
    assert sorted(texts(events)) == [0, 1, 2, 3]


async def test_streamed_or_not_the_text_is_the_same(rig: Rig) -> None:
    streamed = await rig.drain(rig.backend.generate(request()))
    whole = await rig.drain(rig.backend.generate(request(stream=False)))
    assert texts(streamed) == texts(whole)


async def test_share_is_final_and_positive_after_the_end(rig: Rig) -> None:
    generation = rig.backend.generate(request())
    await rig.drain(generation)
    share = generation.engine_share()
    assert share is None or (share.prompt_ns > 0 and share.completion_ns > 0)
    await rig.clock.advance_to(rig.clock.now_ns() + 10**9)
    assert generation.engine_share() == share


async def test_closing_midway_frees_everything_and_still_bills(rig: Rig) -> None:
    generation = rig.backend.generate(request())

    async def first() -> Event:
        return await generation.__anext__()

    task = asyncio.create_task(first())
    await rig.run_until(task)
    assert rig.backend.snapshot().running >= 1
    await generation.aclose()
    await generation.aclose()
    now = rig.backend.snapshot()
    assert (now.running, now.waiting, now.kv_used_ratio) == (0, 0, 0.0)
    assert generation.usage().completion_tokens >= 1
    share = generation.engine_share()
    assert share is None or share.total_ns > 0
    with pytest.raises(StopAsyncIteration):
        await generation.__anext__()


async def test_closing_before_the_first_event_is_free_of_tokens(rig: Rig) -> None:
    generation = rig.backend.generate(request())
    await generation.aclose()
    assert generation.usage().total_tokens == 0
    assert rig.backend.snapshot().running == 0


async def test_closing_a_backend_twice_is_harmless(rig: Rig) -> None:
    await rig.backend.aclose()
    await rig.backend.aclose()


async def test_nobody_waits_for_a_backend_that_was_closed(rig: Rig) -> None:
    generation = rig.backend.generate(request(max_tokens=5000))

    async def read() -> None:
        with contextlib.suppress(errors.BackendError, StopAsyncIteration):
            while True:
                await generation.__anext__()

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05 if rig.real else 0)
    await rig.backend.aclose()
    await rig.run_until(task)
    assert task.done()
    assert rig.backend.snapshot().running == 0


# What follows is about emulated engines only.


@pytest.fixture(params=EMULATED)
async def emulated(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    clock = VirtualClock()
    spec = spec_of(request.param, emulation=EmulationSpec(seed=3, max_sequences=2, max_waiting=1))
    backend = registry.build(spec, sheets(), clock)
    await backend.start()
    yield Rig(backend, clock)
    await backend.aclose()


async def test_time_is_either_busy_or_idle(emulated: Rig) -> None:
    await emulated.clock.advance_to(500_000_000)
    generation = emulated.backend.generate(request())
    await emulated.drain(generation)
    await emulated.clock.advance_to(emulated.clock.now_ns() + 123_456_789)
    now = emulated.backend.snapshot()
    assert now.busy_ns + now.idle_ns == emulated.clock.now_ns()
    assert now.busy_ns == generation.engine_share().total_ns  # type: ignore[union-attr]


async def test_unstreamed_choices_come_in_two_chunks_at_most(emulated: Rig) -> None:
    events = await emulated.drain(emulated.backend.generate(request(n=2, stream=False)))
    for index in (0, 1):
        assert 1 <= sum(isinstance(event, TokenChunk) and event.index == index for event in events) <= 2


async def test_closing_a_backend_ends_what_runs(emulated: Rig) -> None:
    generation = emulated.backend.generate(request())
    task = asyncio.create_task(anext(generation))
    await emulated.run_until(task)
    await emulated.backend.aclose()
    now = emulated.backend.snapshot()
    assert (now.running, now.waiting, now.kv_used_ratio) == (0, 0, 0.0)
    with pytest.raises(errors.Unavailable):
        await emulated.drain(generation)


async def test_a_full_queue_refuses_with_a_typed_error(emulated: Rig) -> None:
    tasks = [asyncio.create_task(emulated.drain(emulated.backend.generate(request()))) for _ in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(errors.Saturated) as caught:
        await emulated.backend.generate(request()).__anext__()
    assert caught.value.retry_after_s > 0
    await asyncio.gather(*tasks)


async def test_a_prompt_beyond_the_context_is_the_clients_fault(emulated: Rig) -> None:
    tokens = emulated.backend.info.deployments[MODEL].context_tokens
    with pytest.raises(errors.ContextExceeded) as caught:
        await emulated.backend.generate(request(prompts=("w " * tokens,))).__anext__()
    assert (caught.value.param, caught.value.client_fault) == ("messages", True)


async def test_a_closed_backend_is_unavailable(emulated: Rig) -> None:
    await emulated.backend.aclose()
    with pytest.raises(errors.Unavailable):
        await emulated.backend.ping()
    with pytest.raises(errors.Unavailable):
        await emulated.backend.generate(request()).__anext__()


async def test_same_seed_same_words_and_same_times(emulated: Rig) -> None:
    async def once() -> tuple[dict[int, str], int]:
        clock = VirtualClock()
        spec = spec_of(emulated.backend.info.substrate, emulation=EmulationSpec(seed=9))
        backend = registry.build(spec, sheets(), clock)
        await backend.start()
        events = await Rig(backend, clock).drain(backend.generate(request()))
        await backend.aclose()
        return texts(events), backend.snapshot().busy_ns

    assert await once() == await once()


async def test_the_system_clock_drives_the_same_engine() -> None:
    backend = registry.build(spec_of("cerebras"), sheets(), SystemClock())
    await backend.start()
    events = [event async for event in backend.generate(request())]
    assert len(texts(events)[0].split()) == 20
    await backend.aclose()
