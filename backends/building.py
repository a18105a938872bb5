"""What every substrate file shares: a spec says whether its backend is emulated or a real service.

The wire to real services is imported when one is built.
"""

from __future__ import annotations

from importlib import import_module

from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.build import emulated
from backends.emulator.traits import Traits
from backends.errors import BackendConfigError
from backends.types import BackendSpec, LiveSpec, Substrate


def backend(
    spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock, substrate: Substrate, traits: Traits | None
) -> Backend:
    """`traits` None = nobody knows the silicon, so it cannot be emulated.

    Raises: UnknownFigure; DoesNotFit; BackendConfigError.
    """
    if isinstance(spec, LiveSpec):
        built: Backend = import_module("backends.upstream.build").live(spec, sheets, clock, substrate, traits)
        return built
    if traits is None:
        raise BackendConfigError(f"a backend of kind '{substrate}' cannot be emulated")
    return emulated(spec, sheets, clock, substrate, traits)
