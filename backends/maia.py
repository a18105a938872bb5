"""Microsoft Maia 200: matrix engines for FP8 and FP4 only; BF16 runs on the vector engine.

A model kept in BF16 therefore computes at a sixteenth of the FP8 rate. That ratio is an assumption: Microsoft states
no BF16 figure (datasheet `maia200`, bf16_tflops). At FP8 and FP4 the engine is the common one.
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import Traits
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "maia"

DIALECTS = ("openai", "azure")
"""Azure AI is Maia's front door."""

TRAITS = Traits(compute_divisor={"bf16": 16.0})


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, TRAITS)
