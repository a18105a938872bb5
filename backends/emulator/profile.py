"""What a router may assume of a deployment: the engine's own physics, linearised, without a look at its state.

k and o come from reading 512 and 2,048 prompt tokens on an idle engine, the bend beyond from 16,384; d0 and d1 from
decoding one sequence and as many as fit, at 1,500 tokens of context each. Where prompts are padded to buckets a
factor f apart, a line is off by up to a factor f; k is scaled by sqrt(f), which leaves at most sqrt(f) either way. A
queue, a cold bucket and noise are not in it: that is for the router's own corrections to learn.
"""

from __future__ import annotations

from math import sqrt

from backends.emulator import batching
from backends.emulator.roofline import Physics
from backends.emulator.traits import Traits
from backends.types import REFERENCE_CONTEXT_TOKENS, STRAIGHT_PROMPT_TOKENS, LatencyProfile

SHORT_PROMPT, LONG_PROMPT, VERY_LONG_PROMPT = 512, STRAIGHT_PROMPT_TOKENS, 16384


def latency_profile(physics: Physics, traits: Traits) -> LatencyProfile:
    """The prior of a deployment."""
    short_s, long_s = (prefill_s(physics, traits, tokens) for tokens in (SHORT_PROMPT, LONG_PROMPT))
    per_token_s = (long_s - short_s) / (LONG_PROMPT - SHORT_PROMPT)
    # Past that attention, which grows with the square, is what bends the line.
    bent_s = prefill_s(physics, traits, VERY_LONG_PROMPT) - long_s - per_token_s * (VERY_LONG_PROMPT - LONG_PROMPT)
    padding = sqrt(traits.static_shapes.prompt_factor) if traits.static_shapes is not None else 1.0
    one_s = decode_s(physics, traits, 1)
    most = physics.max_sequences
    per_sequence_s = (decode_s(physics, traits, most) - one_s) / (most - 1) if most > 1 else 0.0
    return LatencyProfile(
        overhead_s=max(0.0, short_s - per_token_s * SHORT_PROMPT),
        prefill_s_per_token=per_token_s * padding,
        decode_base_s=one_s - per_sequence_s,
        decode_s_per_sequence=per_sequence_s,
        max_sequences=most,
        prefill=traits.prefill,
        decode_s_per_context_token=physics.decode_line(most, most * REFERENCE_CONTEXT_TOKENS)[1],
        kv_tokens=physics.kv_room_tokens,
        prefix_cache=traits.prefix_cache,
        step_tokens=None if traits.static_shapes is not None else traits.prefill_budget,
        lag_steps=1 if traits.schedule_ahead else 0,
        prefill_s_per_token_pair=max(0.0, bent_s) / (VERY_LONG_PROMPT * (VERY_LONG_PROMPT - LONG_PROMPT)),
    )


def prefill_s(physics: Physics, traits: Traits, tokens: int) -> float:
    """Seconds for an idle engine to read a prompt."""
    total, start = 0.0, 0
    while start < tokens:
        chunk = batching.chunks([tokens - start], 0, traits)[0]
        padded = chunk if traits.static_shapes is None else traits.static_shapes.prompt_bucket(chunk)
        total += physics.step_s(0, 0, [(start, padded)])
        start += chunk
    return total


def decode_s(physics: Physics, traits: Traits, lanes: int) -> float:
    """Seconds of a decode step at the reference context."""
    padded = lanes if traits.static_shapes is None else traits.static_shapes.batch_bucket(lanes)
    return physics.step_s(padded, lanes * REFERENCE_CONTEXT_TOKENS)
