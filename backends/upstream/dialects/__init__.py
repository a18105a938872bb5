"""What services speak, a module each: a dialect goes by the name of its module."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from backends.upstream.dialects.base import Dialect

DEFAULT = "openai"


def names() -> tuple[str, ...]:
    """Every dialect there is a module for."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return tuple(name for name in modules if hasattr(import_module(f"{__name__}.{name}"), "DIALECT"))


def named(name: str) -> type[Dialect]:
    """The class of a dialect. `name` is one that a substrate's file lists."""
    found: type[Dialect] = import_module(f"{__name__}.{name}").DIALECT
    return found
