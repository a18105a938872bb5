"""The emulator: the engine alone in virtual time, and real-time streams. Command: python -m tests.benchmark engine.

Virtual time: the Azure conversation trace on one backend of 4 H100 serving Llama 3.3 70B in FP8, one core, noise and KV
accounting on. Load is set by superposing copies of the trace shifted in time and thinning the last, never by squeezing
time: 70 % of the requests per second the engine completes when all of them wait at once. The trace is looked for in
`shared/data/traces` beside the checkout (or below $TURNOUT_DATA).

With the prefix cache, prompts of more than 256 tokens begin with the same 256 (a system prompt), and every other block
of every prompt is unique: making and evicting entries is most of the work. Names of blocks are made while it is timed.

Real time: 200 streams in one process. The engine's calls are recorded and replayed in virtual time, which says when
each token was due; the error is how much later the client had it. The garbage collector is set as `app.server` sets
it: a full collection over all modules' objects takes 13 ms, which every stream would see.
"""

from __future__ import annotations

import asyncio
import csv
import gc
import gzip
import os
import random
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from app.build import compiled
from app.listening import calm_collector
from backends.clock import SystemClock
from backends.emulator.engine import Engine
from backends.emulator.roofline import Physics, physics
from backends.emulator.traits import GPU
from backends.types import DeploymentSpec, GenerationRequest, TokenChunk
from tests.engines import recording_backend, replayed
from tests.sheets import sheets, spec_of

TRACE = "traces/AzureLLMInferenceTrace_conv_2023.csv.gz"
LOAD, SYSTEM_BLOCKS, MILLION = 0.7, 16, 1_000_000
STREAMS, TOKENS = 200, 150

Row = tuple[int, int, int]


def run() -> dict[str, float]:
    """Requests a second in virtual time, memory over a million, CPU and lateness of streamed tokens."""
    results: dict[str, float] = {}
    trace = azure_rows()
    if trace is None:
        print(f"engine: {TRACE} is not there, virtual time skipped", flush=True)
    else:
        results |= _virtual(trace)
    if compiled():
        print("engine: streams are watched by a class that a compiled engine cannot have, skipped", flush=True)
        return results
    return results | asyncio.run(_streams())


def azure_rows() -> list[Row] | None:
    """(nanoseconds, prompt tokens, completion tokens), in order."""
    root = Path(__file__).resolve().parents[2]
    folders = [Path(os.environ["TURNOUT_DATA"])] if "TURNOUT_DATA" in os.environ else [root.parent / "shared" / "data"]
    path = folders[0] / TRACE
    if not path.is_file():
        return None
    with gzip.open(path, "rt") as file:
        found = [
            (datetime.fromisoformat(row["TIMESTAMP"][:26]), int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for row in csv.DictReader(file)
        ]
    began = min(at for at, _, _ in found)
    return sorted((int((at - began).total_seconds() * 1e9), prompt, max(1, length)) for at, prompt, length in found)


def llama_on_h100() -> Physics:
    """Llama 3.3 70B in FP8 on 4 H100."""
    deployment = DeploymentSpec("llama-3.3-70b", "fp8")
    return physics(sheets().chip("h100"), 4, sheets().model("llama-3.3-70b"), deployment, GPU)


def engine_of(reduced: Physics) -> Engine:
    """An engine with noise."""
    return Engine(reduced, GPU, 1, 0.08, 0.05)


def _scaled(trace: list[Row], copies: float) -> list[Row]:
    rng, span_ns = random.Random(1), trace[-1][0] + 1
    rows: list[Row] = []
    for number in range(int(copies) + 1):
        share, shift = min(1.0, copies - number), rng.randrange(span_ns) if number else 0
        rows += [((at + shift) % span_ns, *sizes) for at, *sizes in trace if rng.random() < share]  # type: ignore[misc]
    return sorted(rows)


def loaded(trace: list[Row], reduced: Physics) -> tuple[float, list[Row]]:
    """Requests a second at the benchmark's load, and the trace superposed to it."""
    saturated = engine_of(reduced)
    for _, prompt, length in trace:
        saturated.submit(0, prompt, (length,))
    saturated.advance(10**18)
    load = LOAD * len(trace) / (saturated.busy_ns / 1e9)
    return load, _scaled(trace, load / (len(trace) / (trace[-1][0] / 1e9)))


def _virtual(trace: list[Row]) -> dict[str, float]:
    reduced = llama_on_h100()
    load, rows = loaded(trace, reduced)
    # Less memory than the load wants, so that some are preempted.
    small = replace(reduced, kv_room_tokens=reduced.kv_room_tokens // 8)
    results = {"virtual_load_requests_per_s": load}
    for name, machine_physics, cached in (
        ("plain", reduced, False),
        ("prefix", reduced, True),
        ("preempting", small, False),
    ):
        best = 0.0
        for _ in range(3):
            machine = engine_of(machine_physics)
            best = max(best, len(rows) / play(machine, rows, cached))
        results[f"virtual_{name}_requests_per_cpu_s"] = best
        results[f"virtual_{name}_steps_per_request"] = machine.steps / len(rows)
        if machine.preemptions:
            results[f"virtual_{name}_preemptions"] = machine.preemptions
        if cached:
            results["virtual_prefix_hit_share"] = machine.prefix_hits_tokens / machine.prefix_queries_tokens
    return results | _memory(reduced, rows)


def play(machine: Engine, rows: list[Row], cached: bool, start_ns: int = 0) -> float:
    """CPU seconds for the rows, to the end of the last request."""
    names = _Names() if cached else None
    began_s = time.process_time()
    for at, prompt, length in rows:
        now_ns = start_ns + at
        machine.advance(now_ns)
        chain = None if names is None else names.chain(prompt)
        machine.submit(now_ns, prompt, (length,), prefix=chain)
    machine.advance(start_ns + 10**18)
    return time.process_time() - began_s


class _Names:
    """Makes chains of block names: the system prompt's where the prompt is longer than it, and new ones."""

    def __init__(self) -> None:
        self._fresh = 0
        self._system = list(range(-SYSTEM_BLOCKS, 0))

    def chain(self, prompt_tokens: int) -> list[int]:
        blocks = prompt_tokens // GPU.kv_block_tokens
        own = blocks - SYSTEM_BLOCKS if blocks > SYSTEM_BLOCKS else blocks
        begin, self._fresh = self._fresh, self._fresh + own
        made = list(range(begin, self._fresh))
        return made if own == blocks else self._system + made


def _memory(reduced: Physics, rows: list[Row]) -> dict[str, float]:
    """Resident megabytes before and after a million requests through one engine with the prefix cache."""
    machine, done, start_ns, before = engine_of(reduced), 0, 0, 0.0
    names = _Names()
    while done < MILLION:
        for at, prompt, length in rows:
            machine.advance(start_ns + at)
            chain = names.chain(prompt)
            machine.submit(start_ns + at, prompt, (length,), prefix=chain)
        done += len(rows)
        start_ns += rows[-1][0] + 1
        if not before:
            before = _rss_mb()
    return {f"rss_mb_after_{len(rows) // 1000}k": before, f"rss_mb_after_{done // 1000}k": _rss_mb()}


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


async def _streams() -> dict[str, float]:
    backend, engine = await recording_backend(spec_of("gpu"), SystemClock())
    had_ns: dict[str, list[tuple[int, int]]] = {}

    async def stream(number: int) -> None:
        await asyncio.sleep(number / STREAMS)
        name = f"prompt {number}"
        request = GenerationRequest(name, "chat", "llama-3.1-8b", (name,), TOKENS, ignore_eos=True, stream=True)
        said, times = 0, had_ns.setdefault(name, [])
        generation = backend.generate(request)
        async for event in generation:
            if isinstance(event, TokenChunk):
                now_ns = time.monotonic_ns()
                times += [(token, now_ns) for token in range(said + 1, said + event.tokens + 1)]
                said += event.tokens
        queued[name] = generation.timing().queued_ns  # type: ignore[union-attr]

    queued: dict[str, int] = {}
    thresholds = gc.get_threshold()
    calm_collector()
    began_s = time.process_time()
    await asyncio.gather(*(stream(number) for number in range(STREAMS)))
    took_s = time.process_time() - began_s
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    await backend.aclose()
    _, due_ns = replayed(engine)
    numbers = {job.queued_ns: number for number, job in enumerate(engine.jobs)}
    late_ms = sorted(
        (now_ns - due_ns[numbers[queued[name]], 0, token]) / 1e6
        for name, times in had_ns.items()
        for token, now_ns in times
    )
    return {
        "streams": STREAMS,
        "stream_tokens": len(late_ms),
        "stream_cpu_us_per_token": took_s / len(late_ms) * 1e6,
        "stream_late_ms_p50": late_ms[len(late_ms) // 2],
        "stream_late_ms_p99": late_ms[len(late_ms) * 99 // 100],
        "stream_late_ms_max": late_ms[-1],
    }
