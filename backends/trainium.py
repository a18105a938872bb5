"""AWS Trainium: the Neuron compiler builds static shapes, and few of them.

As on a TPU a prompt is padded and read whole while decode waits, but a compiled graph takes minutes rather than
seconds, so operators keep fewer, wider buckets: prompts 128, 512, 2,048, 8,192, ...; batches of powers of two from 4.
Buckets up to 8,192 tokens are compiled beforehand; a longer one costs 60 s once (an assumption).
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import StaticShapes, Traits
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "trainium"

DIALECTS = ("openai", "bedrock", "sagemaker")
"""vLLM on Neuron, and Amazon's front doors."""

TRAITS = Traits(
    prefill="serial",
    static_shapes=StaticShapes(
        smallest_prompt=128, prompt_factor=4, smallest_batch=4, warm_prompt_tokens=8_192, compile_s=60.0
    ),
)


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, TRAITS)
