"""The steady state of a closed loop, in closed form: what the engine settles to when C clients each ask again at once.

It is what published benchmarks measure. Per cycle a sequence's prompt is read once (by everybody's step time) and its
answer decoded, while the others' prompts are read too:

    lanes  b     = min(C, room / occupancy, slots, what the prompt budget can feed)
    TPOT         = t_decode(b) + (b - 1) / (answer - 1) * m
    m            = (t_mixed(b, chunk) - t_decode(b)) * prompt / chunk      chunked prefill, chunk = budget - b
                 = t_prefill(bucket)                                       static shapes: decode waits
    throughput   = b * answer / (m + t_decode * prompt steps + (answer - 1) * TPOT)

Occupancy is prompt + answer where the software reserves it (TensorRT-LLM's guaranteed-no-evict), prompt + answer / 2
where it pages. A test holds this against the engine itself (tests/unit/backends/test_steady.py). Everything is kept as
the parts of a step (`Physics.parts`), so that a fit can try other constants without making the physics anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from backends.datasheet import Constants
from backends.emulator.roofline import Physics
from backends.emulator.traits import Traits

Parts = tuple[float, float, float, float]
UNIT = Constants(mfu=1.0, mbu=1.0, layer_time_us=0.0, moe_mfu=1.0)
"""Constants that change nothing: of physics made with a chip's own."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A load: `concurrency` clients (infinite = saturated), each with the same prompt and answer lengths in tokens."""

    concurrency: float
    prompt_tokens: float
    answer_tokens: float


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What a group of chips settles to under a load, as the parts of its steps.

    `decode` is a step that decodes `lanes`, `mixed` one that reads `chunk_tokens` of prompts besides (or, with static
    shapes, a whole prompt alone), `chunk_s` how many such steps a prompt takes. `decode_layers` and
    `mixed_layers` count their times per layer.
    """

    lanes: float
    prompt_tokens: float
    answer_tokens: float
    decode: Parts
    mixed: Parts
    prompt_steps: float
    serial: bool
    moe: bool
    decode_layers: float
    mixed_layers: float

    def tpot_s(self, known: Constants = UNIT) -> float:
        """Seconds per output token after the first, mean over requests."""
        decode_s, prompt_s = self._times(known)
        return decode_s + (self.lanes - 1) / max(1.0, self.answer_tokens - 1) * prompt_s

    def output_tokens_per_s(self, known: Constants = UNIT) -> float:
        """Answer tokens a second of the whole group."""
        decode_s, prompt_s = self._times(known)
        waiting_s = 0.0 if self.serial else decode_s * max(1.0, self.prompt_steps)
        cycle_s = prompt_s + waiting_s + (self.answer_tokens - 1) * self.tpot_s(known)
        return self.lanes * self.answer_tokens / cycle_s

    def prompt_alone_s(self, known: Constants = UNIT) -> float:
        """Seconds to read one prompt, beyond what the steps it shares take anyway."""
        return self._times(known)[1]

    def _times(self, known: Constants) -> tuple[float, float]:
        mfu = known.mfu if not self.moe or known.moe_mfu is None else known.moe_mfu
        layer_s = known.layer_time_us * 1e-6
        decode_s = _seconds(self.decode, mfu, known.mbu) + self.decode_layers * layer_s
        mixed_s = _seconds(self.mixed, mfu, known.mbu) + self.mixed_layers * layer_s
        return decode_s, mixed_s if self.serial else max(0.0, mixed_s - decode_s) * self.prompt_steps


def steady_state(
    physics: Physics, traits: Traits, load: ClosedLoop, max_lanes: float, reserved: bool, moe: bool
) -> SteadyState:
    """What the engine settles to. `max_lanes` bounds the batch beside the KV room; `reserved`: a sequence is let in
    once its whole answer is sure of room. Physics made with a chip's constants go with `UNIT`, and the reverse."""
    prompt, answer = load.prompt_tokens, max(2.0, load.answer_tokens)
    occupancy = prompt + (answer if reserved else answer / 2)
    lanes = max(1.0, min(load.concurrency, max_lanes, physics.kv_room_tokens / occupancy))
    context = prompt + answer / 2
    shapes = traits.static_shapes
    layers, prompt_layers = physics.layers * physics.layer_weight, physics.layers * physics.prompt_layer_weight
    if shapes is not None:
        bucket = shapes.prompt_bucket(int(prompt))
        decode = physics.parts(shapes.batch_bucket(int(lanes)), lanes * context, 0, 0.0)
        mixed = physics.parts(0, 0, bucket, physics.attention(0, bucket))
        steps = 1.0
    else:
        # Steps that are full of prompt feed no more lanes than this.
        lanes = max(1.0, min(lanes, traits.prefill_budget / (1 + prompt / (answer - 1))))
        chunk = max(1.0, traits.prefill_budget - lanes)
        decode = physics.parts(lanes, lanes * context, 0, 0.0)
        mixed = physics.parts(lanes, lanes * context, chunk, physics.attention(0, prompt) / prompt * chunk)
        steps = prompt / chunk
    return SteadyState(
        lanes=lanes,
        prompt_tokens=prompt,
        answer_tokens=answer,
        decode=_with(decode, layers * physics.layer_s),
        mixed=_with(mixed, prompt_layers * physics.layer_s),
        prompt_steps=steps,
        serial=shapes is not None,
        moe=moe,
        decode_layers=layers,
        mixed_layers=prompt_layers,
    )


def unloaded(physics: Physics, traits: Traits, prompt_tokens: float, moe: bool) -> tuple[SteadyState, ...]:
    """The steps that read one prompt on an idle engine, as states whose `decode` is the step: see `ttft_s`."""
    shapes = traits.static_shapes
    layers = physics.layers * physics.prompt_layer_weight
    found, start = [], 0.0
    while start < prompt_tokens:
        size = min(prompt_tokens - start, inf if shapes is not None else traits.prefill_budget)
        padded = size if shapes is None else shapes.prompt_bucket(int(size))
        parts = _with(physics.parts(0, 0, padded, physics.attention(start, start + padded)), layers * physics.layer_s)
        found.append(SteadyState(1.0, size, 2.0, parts, parts, 1.0, True, moe, layers, layers))
        start += size
    return tuple(found)


def ttft_s(steps: tuple[SteadyState, ...], known: Constants = UNIT) -> float:
    """Seconds to the first token on an idle engine: the steps that read the prompt, one after the other."""
    return sum(step.prompt_alone_s(known) for step in steps)


def _with(parts: Parts, extra_s: float) -> Parts:
    return parts[0], parts[1], parts[2], parts[3] + extra_s


def _seconds(parts: Parts, mfu: float, mbu: float) -> float:
    compute_s, weights_s, other_s, fixed_s = parts
    return max(compute_s / mfu, weights_s / mbu) + other_s / mbu + fixed_s
