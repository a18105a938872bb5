"""Groq LPU: one deterministic pipeline over hundreds of chips, everything in SRAM.

The compiler schedules every cycle, so a step takes layers x time-per-layer whatever the batch, without noise: a
user's speed does not depend on the others. The pipeline has a stage per layer, so no more sequences than layers can
be in it; the next one waits for a place. SRAM has no room to keep prompts for later (no prefix cache: an assumption).
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import Traits
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "groq"

DIALECTS = ("groq", "openai")
"""Groq's cloud."""

TRAITS = Traits(law="pipeline", prefill_budget=8192, noisy=False, prefix_cache=False)


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, TRAITS)
