"""Hours of emulated traffic in virtual time: what goes in comes out, queues obey Little, money is not lost."""

from __future__ import annotations

import asyncio
import random
from importlib import import_module

import pytest

from backends import registry
from backends.base import Generation
from backends.clock import VirtualClock
from backends.emulator.engine import Engine
from backends.emulator.jobs import Job
from backends.emulator.roofline import physics
from backends.errors import Saturated
from backends.types import ChoiceEnd, EmulationSpec, EngineShare, Event, GenerationRequest, TokenChunk
from tests.sheets import sheets, spec_of

SECOND_NS = 10**9


def engine(kind: str) -> Engine:
    spec = spec_of(kind)
    traits = import_module(f"backends.{kind}").TRAITS
    model = sheets().model(spec.deployments[0].model)
    return Engine(
        physics(sheets().chip(spec.chip), spec.chips, model, spec.deployments[0], traits), traits, 1, 0.08, 0.05
    )


def capacity_rps(kind: str) -> float:
    """Requests a second the engine completes when its queue never empties."""
    machine, rng = engine(kind), random.Random(2)
    jobs = [machine.submit(0, *sizes(rng)) for _ in range(600)]
    machine.advance(10**15)
    return len(jobs) / (max(job.ended_ns or 0 for job in jobs) / SECOND_NS)


def sizes(rng: random.Random) -> tuple[int, list[int]]:
    return rng.randint(50, 2000), [rng.randint(20, 400)]


@pytest.mark.parametrize("kind", registry.emulated_kinds())
def test_littles_law_at_seventy_percent_load(kind: str) -> None:
    """Mean requests in the system, sampled from outside, equal arrival rate x mean time in it."""
    machine, rng = engine(kind), random.Random(3)
    rate = 0.7 * capacity_rps(kind)
    now_ns, jobs, arrived = 0, [], []
    sampled = 0
    for _ in range(3000):
        now_ns += max(1, int(rng.expovariate(rate) * SECOND_NS))
        machine.advance(now_ns)
        # Poisson arrivals see time averages.
        sampled += machine.running + machine.waiting
        jobs.append(machine.submit(now_ns, *sizes(rng)))
        arrived.append(now_ns)
    machine.advance(now_ns + 10**15)
    sojourn_s = sum((job.ended_ns or 0) - at for job, at in zip(jobs, arrived, strict=True)) / len(jobs) / SECOND_NS
    assert sampled / len(jobs) == pytest.approx(len(jobs) / (now_ns / SECOND_NS) * sojourn_s, rel=0.08)
    assert sum(job.prompt_ns + job.completion_ns for job in jobs) == machine.busy_ns


@pytest.mark.parametrize("kind", registry.emulated_kinds())
def test_waiting_grows_with_load_and_nobody_is_forgotten(kind: str) -> None:
    def mean_ttft_s(load: float) -> float:
        machine, rng = engine(kind), random.Random(4)
        rate, now_ns = load * capacity_rps(kind), 0
        waits: list[tuple[Job, int]] = []
        for _ in range(800):
            now_ns += max(1, int(rng.expovariate(rate) * SECOND_NS))
            machine.advance(now_ns)
            waits.append((machine.submit(now_ns, *sizes(rng)), now_ns))
        machine.advance(now_ns + 10**15)
        assert all(job.ended_ns is not None for job, _ in waits)
        return sum((job.first_token_ns or 0) - at for job, at in waits) / len(waits) / SECOND_NS

    assert mean_ttft_s(0.2) < mean_ttft_s(0.8) < mean_ttft_s(2.0)


@pytest.mark.parametrize("kind", registry.emulated_kinds())
async def test_an_hour_of_traffic_with_cancels_ends_each_request_once_and_loses_no_time(kind: str) -> None:
    clock, rng = VirtualClock(), random.Random(5)
    backend = registry.build(spec_of(kind, emulation=EmulationSpec(seed=6, max_waiting=4)), sheets(), clock)
    await backend.start()
    generations: list[Generation] = []
    fates = {"whole": 0, "cancelled": 0, "refused": 0}

    async def client(number: int) -> None:
        await clock.sleep_until(rng.randrange(0, 60 * SECOND_NS))
        asked = GenerationRequest(
            f"r{number}", "chat", "llama-3.1-8b", ("word " * rng.randint(1, 3000),),
            rng.randint(1, 300), rng.choice((1, 1, 1, 3)), seed=number, stream=rng.random() < 0.5,
        )  # fmt: skip
        generation = backend.generate(asked)
        generations.append(generation)
        events: list[Event] = []
        leaves_after = rng.choice((10**9, 10**9, 0, 1, 2))
        try:
            async for event in generation:
                events.append(event)
                if len(events) > leaves_after:
                    break
        except Saturated:
            fates["refused"] += 1
            return
        ended = [event.index for event in events if isinstance(event, ChoiceEnd)]
        assert len(ended) == len(set(ended))
        fates["whole" if len(ended) == asked.n else "cancelled"] += 1
        await generation.aclose()
        if len(ended) == asked.n:
            said = sum(event.tokens for event in events if isinstance(event, TokenChunk))
            assert generation.usage().completion_tokens == said

    tasks = [asyncio.create_task(client(number)) for number in range(150)]
    await clock.advance_to(3600 * SECOND_NS)
    await asyncio.gather(*tasks)
    now = backend.snapshot()
    assert (now.running, now.waiting, now.kv_used_ratio) == (0, 0, 0.0)
    assert now.busy_ns + now.idle_ns == 3600 * SECOND_NS
    shares = [generation.engine_share() or EngineShare() for generation in generations]
    assert sum(share.total_ns for share in shares) == now.busy_ns
    assert sum(fates.values()) == 150
    assert min(fates["whole"], fates["cancelled"]) > 10
    await backend.aclose()
