"""What a substrate may declare of its engine. Declarations only; the mechanics are in this package's other files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backends.types import PrefillMode


@dataclass(frozen=True, slots=True)
class StaticShapes:
    """Shapes are compiled: prompts and batches are padded up to a bucket, and a bucket not yet seen is compiled once.

    Buckets up to `warm_prompt_tokens` are compiled before the server takes traffic, as operators do.
    """

    smallest_prompt: int
    prompt_factor: int
    smallest_batch: int
    warm_prompt_tokens: int
    compile_s: float

    def prompt_bucket(self, tokens: int) -> int:
        """The compiled prompt length that holds `tokens`."""
        bucket = self.smallest_prompt
        while bucket < tokens:
            bucket *= self.prompt_factor
        return bucket

    def batch_bucket(self, lanes: int) -> int:
        """The compiled batch that holds `lanes`."""
        bucket = self.smallest_batch
        while bucket < lanes:
            bucket *= 2
        return bucket


@dataclass(frozen=True, slots=True)
class Traits:
    """How a substrate's engine deviates from the common one (which is a GPU's: chunked prefill, paged KV, roofline).

    law               `roofline`: a step is the larger of compute and memory, plus KV reads, plus time per layer.
                      `pipeline`: weights and KV sit in SRAM; a step is layers x time per layer for every sequence,
                      whatever the batch, as long as there are no more sequences than layers to hold them.
    prefill_budget    tokens of prompt and decode one step may serve; ignored with `static_shapes`
    static_shapes     None = any shape runs as it is
    noisy             False = the engine is scheduled by its compiler and always takes the same time
    compute_divisor   precision -> by how much the matrix engine's FP8 rate is divided for it
    kv_block_tokens   KV is handed out in blocks of this many tokens
    schedule_ahead    a step is made up while the one before it runs, so that the chip never waits for the scheduler:
                      who arrives meanwhile joins a step later (vLLM's async scheduling, SGLang's overlap scheduler)
    prefix_cache      whether blocks of a prompt stay in memory for the next prompt that begins with the same tokens
    """

    law: Literal["roofline", "pipeline"] = "roofline"
    prefill: PrefillMode = "shared"
    prefill_budget: int = 2048
    static_shapes: StaticShapes | None = None
    noisy: bool = True
    compute_divisor: Mapping[str, float] | None = None
    kv_block_tokens: int = 16
    schedule_ahead: bool = False
    prefix_cache: bool = True


GPU = Traits()
"""The common engine."""
