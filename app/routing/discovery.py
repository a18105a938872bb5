"""Finds filters, scorers and pickers by module name: a new one is one new file, no table to edit."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from app.routing import filters, pickers, scorers
from app.routing.plugins import HardFilter, Picker, Scorer


class UnknownPlugin(LookupError):
    """No module of that name among the filters, scorers or pickers; `params` its factory does not know."""


def hard_filters() -> tuple[HardFilter, ...]:
    """Every filter in the package, by name; all of them always run, unless one says that it is not concerned."""
    found = ((name, _module(filters, name)) for name in names(filters))
    return tuple(HardFilter(name, module.reject, getattr(module, "concerns", None)) for name, module in found)


def scorer(name: str, params: Mapping[str, float]) -> Scorer:
    """Raises: UnknownPlugin."""
    return cast("Scorer", _make(scorers, name, params))


def picker(name: str, params: Mapping[str, float]) -> Picker:
    """Raises: UnknownPlugin."""
    return cast("Picker", _make(pickers, name, params))


def pickers_by_score() -> tuple[str, ...]:
    """The pickers that choose by score (their module says `BY_SCORE = True`)."""
    return tuple(name for name in names(pickers) if getattr(_module(pickers, name), "BY_SCORE", False))


def names(package: ModuleType) -> tuple[str, ...]:
    """Module names in a plugin package, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(package.__path__)))


def _module(package: ModuleType, name: str) -> ModuleType:
    if name not in names(package):
        raise UnknownPlugin(f"{package.__name__} has no '{name}' (there are: {', '.join(names(package))})")
    return import_module(f"{package.__name__}.{name}")


def _make(package: ModuleType, name: str, params: Mapping[str, float]) -> Any:
    make = cast("Callable[..., Any]", _module(package, name).make)
    try:
        return make(**params)
    except TypeError as error:
        raise UnknownPlugin(f"{package.__name__}.{name}: {error}") from error
