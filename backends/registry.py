"""kind -> module, by name: a module of this package that has `SUBSTRATE` and `build` declares a kind.

There is no table to edit: a new substrate is a new file. Such a module imports only what emulation needs; drivers of
real services are imported when one is built.
"""

from __future__ import annotations

import difflib
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import cast

import backends
from backends.base import Backend
from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.traits import Traits
from backends.errors import UnknownKind
from backends.types import BackendSpec, LiveSpec


def build(spec: BackendSpec | LiveSpec, sheets: Datasheets, clock: Clock) -> Backend:
    """A backend as configured, not yet started.

    Raises: UnknownKind; UnknownFigure; DoesNotFit; BackendConfigError.
    """
    return cast("Backend", _module(spec.kind).build(spec, sheets, clock))


def traits(kind: str) -> Traits | None:
    """How a kind's engine deviates from the common one; None for a kind that is not emulated.

    Raises: UnknownKind.
    """
    return cast("Traits | None", getattr(_module(kind), "TRAITS", None))


def dialects(kind: str) -> tuple[str, ...]:
    """What real services of a kind speak, the default first.

    Raises: UnknownKind.
    """
    return cast("tuple[str, ...]", getattr(_module(kind), "DIALECTS", ()))


def kinds() -> tuple[str, ...]:
    """Every kind there is a module for."""
    names = (module.name for module in pkgutil.iter_modules(backends.__path__) if not module.ispkg)
    return tuple(sorted(name for name in names if hasattr(import_module(f"backends.{name}"), "SUBSTRATE")))


def emulated_kinds() -> tuple[str, ...]:
    """The kinds whose silicon can be emulated."""
    return tuple(kind for kind in kinds() if traits(kind) is not None)


def _module(kind: str) -> ModuleType:
    if kind not in kinds():
        near = difflib.get_close_matches(kind, kinds(), n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise UnknownKind(f"there is no backend kind '{kind}'{hint} (there are: {', '.join(kinds())})")
    return import_module(f"backends.{kind}")
