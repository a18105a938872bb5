"""Cerebras WSE-3: weights and KV live in the SRAM of whole wafers; layers are laid out across them.

Reading weights costs nothing that bandwidth could explain; a step is layers x time-per-layer (fitted to published
speeds). KV room is what SRAM is left beside the weights, so few sequences fit, and no more than there are layers;
prompts are not kept for later (no prefix cache: an assumption).
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import Traits
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "cerebras"

DIALECTS = ("cerebras", "openai")
"""Cerebras' cloud."""

TRAITS = Traits(law="pipeline", prefill_budget=8192, kv_block_tokens=1, prefix_cache=False)


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, TRAITS)
