"""Prefix cache, priority and timestamps as they show through the shell."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib import import_module

import pytest

from backends import registry
from backends.clock import VirtualClock
from backends.emulator import text
from backends.emulator.backend import EmulatedBackend, EmulatedGeneration
from backends.types import EmulationSpec, GenerationRequest
from tests.sheets import QUIET, sheets, spec_of

MODEL = "llama-3.1-8b"
LONG = " ".join(f"w{number}" for number in range(1000))


def request(prompt: str = LONG, **fields: object) -> GenerationRequest:
    base = GenerationRequest("r", "chat", MODEL, (prompt,), max_tokens=20, ignore_eos=True, stream=True)
    return base._replace(**fields)  # type: ignore[arg-type]


async def started(kind: str, clock: VirtualClock, emulation: EmulationSpec = QUIET) -> EmulatedBackend:
    backend = registry.build(spec_of(kind, emulation=emulation), sheets(), clock)
    assert isinstance(backend, EmulatedBackend)
    await backend.start()
    return backend


async def answered(backend: EmulatedBackend, clock: VirtualClock, asked: GenerationRequest) -> EmulatedGeneration:
    generation = backend.generate(asked)

    async def drain() -> None:
        async for _ in generation:
            pass

    task = asyncio.create_task(drain())
    await clock.advance_to(clock.now_ns() + 60 * 10**9)
    await task
    return generation


def ttft_ns(generation: EmulatedGeneration) -> int:
    timing = generation.timing()
    assert timing is not None
    assert timing.first_token_ns is not None
    return timing.first_token_ns - timing.queued_ns


def test_a_blocks_name_stands_for_model_block_and_all_before_it() -> None:
    names = list(text.block_names("m", LONG, 16))
    assert len(names) == 1000 // 16
    assert len(set(names)) == len(names)
    assert list(text.block_names("m", LONG + " more words", 16)) == names
    changed = list(text.block_names("m", LONG.replace("w40 ", "other "), 16))
    assert [old == new for old, new in zip(names, changed, strict=True)] == [place < 2 for place in range(62)]
    assert not set(names) & set(text.block_names("other", LONG, 16))
    assert not list(text.block_names("m", "fifteen words " * 7, 16))


async def test_a_repeated_prompt_is_found_counted_apart_and_answered_sooner() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    first, second = await answered(backend, clock, request()), await answered(backend, clock, request())
    assert (first.usage().prompt_tokens, first.usage().cached_tokens) == (1000, 0)
    assert (second.usage().prompt_tokens, second.usage().cached_tokens) == (1000 - 992, 992)
    assert second.usage().completion_tokens == first.usage().completion_tokens == 20
    assert ttft_ns(second) < 0.7 * ttft_ns(first)
    now = backend.snapshot()
    assert (now.prefix_queries_tokens, now.prefix_hits_tokens, now.kv_used_ratio) == (2000, 992, 0.0)
    extended = await answered(backend, clock, request(LONG + " and so on"))
    assert extended.usage().cached_tokens == 992
    await backend.aclose()


@pytest.mark.parametrize("kind", registry.emulated_kinds())
async def test_who_has_no_prefix_cache_finds_nothing(kind: str) -> None:
    has = import_module(f"backends.{kind}").TRAITS.prefix_cache
    for emulation, caches in ((QUIET, has), (replace(QUIET, prefix_cache=False), False)):
        clock = VirtualClock()
        backend = await started(kind, clock, emulation)
        await answered(backend, clock, request())
        again = await answered(backend, clock, request())
        assert bool(again.usage().cached_tokens) == caches
        assert again.usage().total_tokens == 1020
        await backend.aclose()


async def test_further_groups_of_choices_find_what_the_first_has_read() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock, replace(QUIET, max_sequences=2))
    generation = await answered(backend, clock, request(n=5))
    assert (generation.usage().prompt_tokens, generation.usage().completion_tokens) == (1000, 100)
    assert backend.engine.prefix_hits_tokens == 2 * 992
    await backend.aclose()


async def test_a_higher_priority_leaves_the_queue_sooner() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock, replace(QUIET, max_sequences=1))
    generations = [backend.generate(request("a prompt", priority=priority)) for priority in (0, 0, 7)]

    async def drain(generation: EmulatedGeneration) -> None:
        async for _ in generation:
            pass

    tasks = [asyncio.create_task(drain(generation)) for generation in generations]
    await clock.advance_to(10**10)
    await asyncio.gather(*tasks)
    timings = [generation.timing() for generation in generations]
    scheduled = [timing.scheduled_ns for timing in timings if timing is not None and timing.scheduled_ns is not None]
    assert scheduled[0] < scheduled[2] < scheduled[1]
    await backend.aclose()


async def test_timestamps_stand_in_order_and_survive_cancelling() -> None:
    clock = VirtualClock()
    backend = await started("gpu", clock)
    generation = backend.generate(request(max_tokens=2000))
    assert generation.timing() is None
    first = asyncio.create_task(anext(generation))
    await clock.advance_to(10**9)
    await first
    await generation.aclose()
    timing = generation.timing()
    assert timing is not None
    assert None not in timing
    assert timing.queued_ns <= timing.scheduled_ns < timing.first_token_ns < timing.last_token_ns <= 10**9  # type: ignore[operator]
    assert backend.engine.next_event_ns() is None
    await backend.aclose()


async def test_nobody_streaming_nobody_wakes_for_tokens() -> None:
    """An answer that is not streamed wakes the process at the engine's events only."""

    class Counting(VirtualClock):
        sleeps = 0

        async def sleep_until(self, when_ns: int) -> None:
            self.sleeps += 1
            await super().sleep_until(when_ns)

    sleeps = {}
    for stream in (True, False):
        clock = Counting()
        backend = await started("gpu", clock)
        await answered(backend, clock, request(max_tokens=400, stream=stream))
        sleeps[stream] = clock.sleeps
        await backend.aclose()
    assert sleeps[True] >= 400
    assert sleeps[False] < 10
