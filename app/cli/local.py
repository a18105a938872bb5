"""`turnout local`: what the small model does on this machine, measured, and a configuration that serves it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

from app.cli.loading import CHECK_FAILED, json_option
from app.config.load import load
from backends import registry
from backends.base import Backend
from backends.clock import Clock, SystemClock
from backends.errors import BackendConfigError, BackendError
from backends.types import GenerationRequest, LatencyProfile, LiveDeploymentSpec, LiveSpec, LocalServer, TokenChunk

MODEL = "smollm2-135m"
SHORT_WORDS, LONG_WORDS = 20, 420
ANSWER_TOKENS = 32
ROUNDS = 3
UNMEASURED = LatencyProfile(1.0, 1e-3, 0.1, 0.0, 1, "parallel")
"""Never shown, never routed by: a backend must be built to be measured."""


class Measured(NamedTuple):
    """Medians, in seconds: the first token after a short and a long prompt (and how many tokens those had), and each
    further token alone and with every slot taken."""

    short_ttft_s: float
    long_ttft_s: float
    short_tokens: float
    long_tokens: float
    tpot_s: float
    full_tpot_s: float
    slots: int

    def profile(self) -> dict[str, float]:
        """As the configuration's `profile`."""
        per_token_s = max(0.0, (self.long_ttft_s - self.short_ttft_s) / max(1.0, self.long_tokens - self.short_tokens))
        more_s = max(0.0, self.full_tpot_s - self.tpot_s) / max(1, self.slots - 1)
        return {
            "ttft_ms": round(max(1.0, (self.short_ttft_s - per_token_s * self.short_tokens) * 1e3), 2),
            "ttft_ms_per_1k_prompt_tokens": round(per_token_s * 1e6, 1),
            "tpot_ms": round(self.tpot_s * 1e3, 2),
            "tpot_ms_per_sequence": round(more_s * 1e3, 2),
            "max_sequences": self.slots,
        }


class Timed(NamedTuple):
    """One answer."""

    ttft_s: float
    tpot_s: float
    prompt_tokens: int


@click.command()
@click.option("--threads", default=1, show_default=True, help="Of the CPU, for the model.")
@click.option("--slots", default=2, show_default=True, help="Answers at a time.")
@click.option("--context", default=4096, show_default=True, help="Tokens of context of each.")
@click.option("--write", type=click.Path(path_type=Path), default=None, help="Write the configuration there.")
@json_option
def command(threads: int, slots: int, context: int, write: Path | None, as_json: bool) -> None:
    """Measure the local model on this machine (a quarter of a minute) and print a configuration that serves it.

    It is a model of 135 million parameters: it proves the plumbing and is no assistant.
    """
    server = LocalServer(threads, slots, context)
    try:
        measured = asyncio.run(_measured(server))
    except (BackendError, BackendConfigError) as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    if as_json:
        print(json.dumps({"measured": measured._asdict(), "profile": measured.profile()}))
    text = configuration(measured, server)
    if write is not None:
        write.write_text(text)
    if not as_json:
        print(f"written: {write}" if write is not None else text, end="\n" if write is not None else "")


def configuration(measured: Measured, server: LocalServer) -> str:
    """A whole configuration, its latency the measured one."""
    profile = ", ".join(f"{name}: {value}" for name, value in measured.profile().items())
    return f"""\
# Written by `turnout local`: latency as measured on this machine, idle but for the model.
version: 1
extends: shipped
models:
  {MODEL}: {{slo: batch, default_max_tokens: 256, max_tokens_cap: {server.context_tokens // 2}}}
backends:
  - name: this-machine
    mode: live
    kind: local
    server: {{threads: {server.threads}, slots: {server.slots}, context_tokens: {server.context_tokens}}}
    profile: {{{profile}}}
    timeouts: {{first_byte_s: 120, idle_s: 120, whole_s: 600}}
    deployments:
      # A small model: it proves the plumbing and is no assistant.
      - {{model: {MODEL}, context_tokens: {server.context_tokens}, quality: 0.05, capabilities: [n, json_schema]}}
    pricing: {{type: tokens, usd_per_million_prompt: 0, usd_per_million_completion: 0,
              source: "this machine, its power not counted", confidence: assumed}}
"""


async def measure(backend: Backend, slots: int, clock: Clock) -> Measured:
    """Of a backend that has started and nobody else uses.

    Raises: BackendError.
    """
    await _timed(backend, clock, SHORT_WORDS, 0)  # the first answer is slower than any other
    short = [await _timed(backend, clock, SHORT_WORDS, 1 + round_) for round_ in range(ROUNDS)]
    long = [await _timed(backend, clock, LONG_WORDS, 11 + round_) for round_ in range(ROUNDS)]
    full: list[Timed] = []
    for round_ in range(ROUNDS):
        seeds = [100 + round_ * slots + slot for slot in range(slots)]
        full += await asyncio.gather(*(_timed(backend, clock, SHORT_WORDS, seed) for seed in seeds))
    return Measured(
        median(each.ttft_s for each in short),
        median(each.ttft_s for each in long),
        median(each.prompt_tokens for each in short),
        median(each.prompt_tokens for each in long),
        median(each.tpot_s for each in short),
        median(each.tpot_s for each in full),
        slots,
    )


async def _measured(server: LocalServer) -> Measured:
    deployment = LiveDeploymentSpec(MODEL, context_tokens=server.context_tokens)
    spec = LiveSpec("local", "local", "", (deployment,), profile=UNMEASURED, server=server)
    backend = registry.build(spec, load().sheets, SystemClock())
    await backend.start()
    try:
        return await measure(backend, server.slots, SystemClock())
    finally:
        await backend.aclose()


async def _timed(backend: Backend, clock: Clock, words: int, seed: int) -> Timed:
    """One streamed answer. Every prompt begins differently, so that none is read from a cache."""
    prompt = f"{seed} " + " ".join(_words(words, seed))
    body = {"messages": [{"role": "user", "content": prompt}], "stream": True, "temperature": 0, "ignore_eos": True}
    request = GenerationRequest(
        f"measure-{seed}", "chat", MODEL, (prompt,), ANSWER_TOKENS, stream=True, body=json.dumps(body).encode()
    )
    generation = backend.generate(request)
    started_ns, times_ns = clock.now_ns(), list[int]()
    try:
        async for event in generation:
            if type(event) is TokenChunk:
                times_ns.append(clock.now_ns())
        usage = generation.usage()
    finally:
        await generation.aclose()
    if len(times_ns) < 2:
        raise BackendConfigError("the local model gave no answer that could be timed")
    tpot_s = (times_ns[-1] - times_ns[0]) / (len(times_ns) - 1) / 1e9
    return Timed((times_ns[0] - started_ns) / 1e9, tpot_s, usage.prompt_tokens + usage.cached_tokens)


def _words(count: int, seed: int) -> Sequence[str]:
    listed = "river stone table light winter market garden engine letter window".split()
    return [listed[(place * 7 + seed) % len(listed)] for place in range(count)]
