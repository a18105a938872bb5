"""How long steps take: physics, padding to compiled shapes, first-use compilation, seeded noise.

Noise is a lognormal factor of mean 1. One factor is drawn for the whole of a decode segment, with the spread that the
mean of so many independent steps has.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import exp, sqrt
from statistics import NormalDist
from typing import Protocol

from backends.emulator.traits import Read, Traits

NS_PER_S = 1e9
QUANTILE_BITS = 12
NORMAL = tuple(NormalDist().inv_cdf((index + 0.5) / (1 << QUANTILE_BITS)) for index in range(1 << QUANTILE_BITS))
"""The standard normal as equally likely values: a draw is a look-up."""


class StepPhysics(Protocol):
    """What the engine asks of a deployment's physics (`roofline.Physics`)."""

    @property
    def kv_room_tokens(self) -> int: ...

    @property
    def max_sequences(self) -> int: ...

    def step_s(self, lanes: int, context_tokens: int, reads: Sequence[Read] = ()) -> float:
        """Seconds for one step."""
        ...

    def decode_line(self, lanes: int, context_tokens: int) -> tuple[float, float]:
        """(seconds, seconds per token of context) of a step that reads no prompt, near that context."""
        ...


class Pace:
    """Times of steps, with everything that makes them so; owns the engine's only random numbers."""

    __slots__ = ("_bits", "_compiled", "_decode_sigma", "_prefill_sigma", "_random", "_shapes", "_traits", "physics")

    def __init__(
        self, physics: StepPhysics, traits: Traits, seed: int, prefill_noise: float, decode_noise: float
    ) -> None:
        self.physics = physics
        self._traits = traits
        self._shapes = traits.static_shapes
        self._prefill_sigma = prefill_noise if traits.noisy else 0.0
        self._decode_sigma = decode_noise if traits.noisy else 0.0
        self._random = random.Random(seed)
        self._bits = self._random.getrandbits
        self._compiled: set[int] = set()

    def fork(self, *, noisy: bool) -> Pace:
        """An independent copy: with the same noise to come, or with none."""
        prefill, decode = (self._prefill_sigma, self._decode_sigma) if noisy else (0.0, 0.0)
        twin = Pace(self.physics, self._traits, 0, prefill, decode)
        twin._compiled = set(self._compiled)
        if noisy:
            twin._random.setstate(self._random.getstate())
        return twin

    def decode(self, lanes: int, context_tokens: int, steps: int) -> tuple[float, float]:
        """(nanoseconds of the first of so many steps, how many more each further one takes)."""
        padded = lanes if self._shapes is None else self._shapes.batch_bucket(lanes)
        base_s, per_token_s = self.physics.decode_line(padded, context_tokens)
        scale = NS_PER_S
        if self._decode_sigma:
            sigma = self._decode_sigma / sqrt(steps)
            scale *= exp(sigma * (NORMAL[self._bits(QUANTILE_BITS)] - 0.5 * sigma))
        return (base_s + per_token_s * context_tokens) * scale, per_token_s * lanes * scale

    def mixed(self, lanes: int, context_tokens: int, reads: Sequence[Read]) -> float:
        """Nanoseconds of a step that reads parts of prompts (with static shapes, all that is left of one) and decodes
        `lanes` beside them."""
        extra_s = 0.0
        if (shapes := self._shapes) is not None:
            start, tokens = reads[0]
            bucket = shapes.prompt_bucket(tokens)
            reads = ((start, bucket),)
            if bucket > shapes.warm_prompt_tokens and bucket not in self._compiled:
                self._compiled.add(bucket)
                extra_s = shapes.compile_s
        seconds = self.physics.step_s(lanes, context_tokens, reads)
        if self._prefill_sigma:
            sigma = self._prefill_sigma
            seconds *= exp(sigma * (NORMAL[self._bits(QUANTILE_BITS)] - 0.5 * sigma))
        return (seconds + extra_s) * NS_PER_S
