"""A real small model on this machine's CPU: a process of the gateway's own (`make local`).

What latency to expect of it is measured on this machine (`turnout local`), not computed from a chip.
"""

from __future__ import annotations

from importlib import import_module

from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.errors import BackendConfigError
from backends.types import BackendSpec, LiveSpec, Substrate

SUBSTRATE: Substrate = "local"

DIALECTS = ("openai",)
"""llama.cpp's server speaks it."""


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """Raises: BackendConfigError."""
    if not isinstance(spec, LiveSpec):
        raise BackendConfigError(f"a backend of kind '{SUBSTRATE}' cannot be emulated")
    built: Backend = import_module("backends.upstream.local").local(spec, sheets, clock)
    return built
