"""How fast a backend is, found by asking it: a few prompts, alone and as many at a time as it has slots.

What a client would see is timed, from asking to each token. A straight line through short and long prompts gives the
fixed part and the part per prompt token; the pace alone and in company gives what a sequence adds to a step. Medians of
three, on a machine that may be busy: the router corrects it by what it sees. Nothing here is a benchmark.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from backends.base import Backend
from backends.clock import Clock
from backends.errors import Unavailable
from backends.types import GenerationRequest, LatencyProfile, TokenChunk

WORDS = "plan route chip table load north river count light paper green stone".split()
SHORT_WORDS, LONG_WORDS, TOKENS, TIMES = 16, 192, 16, 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer: its prompt's length, and what its reader saw, in seconds."""

    prompt_tokens: int
    ttft_s: float
    tpot_s: float


async def measure(backend: Backend, model: str, slots: int, clock: Clock) -> LatencyProfile:
    """What to expect of a backend that nobody else is using.

    Raises: BackendError.
    """
    await _ask(backend, model, clock, 0, SHORT_WORDS)  # the first one finds everything cold
    numbers = iter(range(1, 1000))
    short = [await _ask(backend, model, clock, next(numbers), SHORT_WORDS) for _ in range(TIMES)]
    long = [await _ask(backend, model, clock, next(numbers), LONG_WORDS) for _ in range(TIMES)]
    together: list[Sample] = []
    while slots > 1 and len(together) < TIMES:
        asked = [_ask(backend, model, clock, next(numbers), SHORT_WORDS) for _ in range(slots)]
        together += await asyncio.gather(*asked)
    return fit(short, long, together, slots)


def fit(short: Sequence[Sample], long: Sequence[Sample], together: Sequence[Sample], slots: int) -> LatencyProfile:
    """The profile that the samples show; `together` were asked `slots` at a time, the others alone.

    Raises: Unavailable for samples that show none (no tokens, prompts of one length).
    """
    short_tokens, long_tokens = (median(each.prompt_tokens for each in samples) for samples in (short, long))
    short_s, long_s = (median(each.ttft_s for each in samples) for samples in (short, long))
    alone_s = median(each.tpot_s for each in (*short, *long))
    if long_tokens <= short_tokens or alone_s <= 0:
        raise Unavailable("its speed cannot be measured: it counts no tokens")
    per_token_s = max(0.0, (long_s - short_s) / (long_tokens - short_tokens))
    per_sequence_s = 0.0
    if together:
        together_s = median(each.tpot_s for each in together)
        per_sequence_s = max(0.0, (together_s - alone_s) / (slots - 1))
        if per_sequence_s > alone_s:  # company costs more than it should: right for a full house, the case that hurts
            alone_s = per_sequence_s = together_s / slots
    return LatencyProfile(
        overhead_s=max(0.0, short_s - per_token_s * short_tokens),
        prefill_s_per_token=per_token_s,
        decode_base_s=alone_s - per_sequence_s,
        decode_s_per_sequence=per_sequence_s,
        max_sequences=slots,
        prefill="shared",  # llama.cpp puts prompts and decode into one batch
    )


def told(profile: LatencyProfile) -> str:
    """What was found, for people."""
    ttft_ms, prompt_ms = profile.overhead_s * 1e3, profile.prefill_s_per_token * 1e6
    alone, full = (1 / profile.tpot_s(sequences) for sequences in (1, profile.max_sequences))
    return (
        f"first token after {ttft_ms:.3g} ms + {prompt_ms:.3g} ms per 1,000 prompt tokens, {alone:.3g} tokens/s alone, "
        f"{full:.3g} each with all {profile.max_sequences} slots in use"
    )


async def _ask(backend: Backend, model: str, clock: Clock, number: int, words: int) -> Sample:
    # The number comes first: no prompt begins as another does, so that none is found read already.
    prompt = " ".join([str(number), *(WORDS[(number + place) % len(WORDS)] for place in range(words))])
    fields = {"prompt": prompt, "ignore_eos": True, "cache_prompt": False, "stream": True}
    request = GenerationRequest(
        f"measure-{number}", "completion", model, (prompt,),
        max_tokens=TOKENS, min_tokens=TOKENS, ignore_eos=True, stream=True, body=json.dumps(fields).encode(),
    )  # fmt: skip
    generation = backend.generate(request)
    began_ns, seen_ns = clock.now_ns(), list[int]()
    try:
        async for event in generation:
            if isinstance(event, TokenChunk):
                seen_ns.append(clock.now_ns())
    finally:
        await generation.aclose()
    usage = generation.usage()
    if usage.completion_tokens < 2 or len(seen_ns) < 2:
        raise Unavailable(f"{backend.info.name} answered {usage.completion_tokens} tokens where {TOKENS} were asked")
    return Sample(
        usage.prompt_tokens + usage.cached_tokens,
        (seen_ns[0] - began_ns) / 1e9,
        (seen_ns[-1] - seen_ns[0]) / 1e9 / (usage.completion_tokens - 1),
    )
