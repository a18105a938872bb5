"""Hosted APIs: a model behind an address, on silicon that nobody names.

Always live; what latency to expect of it is declared.
"""

from __future__ import annotations

from backends import building
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "hosted"

DIALECTS = ("openai", "anthropic", "azure", "bedrock", "sagemaker", "vertex")
"""Whatever has an address."""


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: BackendConfigError."""
    return building.backend(spec, sheets, clock, SUBSTRATE, None)
