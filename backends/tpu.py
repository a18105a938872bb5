"""Google TPU: XLA compiles static shapes.

A prompt is padded to the next power of two (16 and up) and read whole, in a step of its own while decode waits; a
batch is padded to the next power of two (8 and up). Buckets up to 16,384 tokens are compiled before the server takes
traffic; a longer one is compiled at its first use (20 s, an assumption). JetStream and vLLM-TPU work this way.
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import StaticShapes, Traits
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "tpu"

DIALECTS = ("openai", "vertex")
"""vLLM and JetStream servers, and Google's Vertex AI."""

TRAITS = Traits(
    prefill="serial",
    static_shapes=StaticShapes(
        smallest_prompt=16, prompt_factor=2, smallest_batch=8, warm_prompt_tokens=16_384, compile_s=20.0
    ),
)


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, TRAITS)
