"""The emulator: a step of the engine, and real-time streams. Command: python -m tests.benchmark engine."""

from __future__ import annotations

import asyncio
import random
import time

from backends import registry
from backends.clock import SystemClock
from backends.emulator.engine import Engine
from backends.emulator.roofline import physics
from backends.emulator.traits import GPU
from backends.types import GenerationRequest
from tests.sheets import sheets, spec_of

STREAMS, TOKENS = 100, 100


def run() -> dict[str, float]:
    """Microseconds of CPU per engine step and per streamed token."""
    return {"engine_us_per_step": _step_us(), "stream_cpu_us_per_token": asyncio.run(_stream_us())}


def _step_us() -> float:
    spec = spec_of("gpu", "llama-3.3-70b")
    reduced = physics(sheets().chip(spec.chip), spec.chips, sheets().model("llama-3.3-70b"), spec.deployments[0], GPU)
    machine, rng, now = Engine(reduced, GPU, 1, 0.08, 0.05), random.Random(1), 0
    began_s = time.process_time()
    for _ in range(3000):
        now += int(rng.expovariate(8) * 1e9)
        machine.advance(now)
        machine.submit(now, rng.randint(50, 3000), [rng.randint(10, 400)])
    machine.advance(now + 10**13)
    return (time.process_time() - began_s) / machine.steps * 1e6


async def _stream_us() -> float:
    backend = registry.build(spec_of("gpu"), sheets(), SystemClock())
    await backend.start()

    async def stream(number: int) -> int:
        request = GenerationRequest(
            f"r{number}", "chat", "llama-3.1-8b", (f"prompt {number}",), TOKENS, ignore_eos=True, stream=True
        )
        generation = backend.generate(request)
        async for _ in generation:
            pass
        return generation.usage().completion_tokens

    began_s = time.process_time()
    tokens = sum(await asyncio.gather(*(stream(number) for number in range(STREAMS))))
    took_s = time.process_time() - began_s
    await backend.aclose()
    return took_s / tokens * 1e6
