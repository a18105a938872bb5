"""Cerebras WSE-3: weights and KV live in the SRAM of whole wafers; layers are laid out across them.

Reading weights costs nothing that bandwidth could explain; a step is layers x time-per-layer (fitted to published
speeds). KV room is what SRAM is left beside the weights, so few sequences fit, and no more than there are layers.
"""

from __future__ import annotations

from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.build import emulated
from backends.emulator.traits import Traits
from backends.types import BackendSpec, Substrate

SUBSTRATE: Substrate = "cerebras"

TRAITS = Traits(law="pipeline", prefill_budget=8192, kv_block_tokens=1)


def build(spec: BackendSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    return emulated(spec, sheets, clock, SUBSTRATE, TRAITS)
