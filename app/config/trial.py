"""Trying what a configuration describes: each scorer, picker and backend is made once, so that what cannot be made is
reported where it stands and not when the gateway starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from inspect import Parameter, signature
from types import ModuleType

from app.config.deciding import PickerRef, PolicyConfig, ScorerRef
from app.config.models import Config
from app.config.source import Source
from app.config.validate import suggestion
from app.routing import pickers, scorers
from backends.clock import SystemClock
from backends.datasheet import Datasheets
from backends.errors import BackendConfigError
from backends.registry import build
from backends.types import BackendSpec, LiveSpec


def policies(config: Config, source: Source) -> None:
    """Parameters that a scorer or picker does not know, or lacks; problems are added to the source."""
    for name, policy in config.policies.items():
        for at, package, ref in _refs(("policies", name), policy):
            known = signature(import_module(f"{package.__name__}.{ref.use}").make).parameters
            listed = ", ".join(known) or "none"
            for param in ref.params:
                if param not in known:
                    hint = suggestion(param, known)
                    message = f"'{ref.use}' has no such parameter{hint} (there are: {listed})"
                    source.problems.append(source.problem((*at, "params", param), message))
            for param, details in known.items():
                if details.default is Parameter.empty and param not in ref.params:
                    source.problems.append(source.problem(at, f"'{ref.use}' needs the parameter '{param}'"))


def backends(specs: Sequence[BackendSpec | LiveSpec], sheets: Datasheets, source: Source) -> None:
    """Backends that cannot be built: no such chip or precision, too little memory; problems are added to the source."""
    clock = SystemClock()
    for index, spec in enumerate(specs):
        try:
            build(spec, sheets, clock)
        except BackendConfigError as error:
            source.problems.append(source.problem(("backends", index, "name"), f"'{spec.name}': {error}"))


def _refs(
    at: tuple[str, ...], policy: PolicyConfig
) -> Iterator[tuple[Sequence[str | int], ModuleType, ScorerRef | PickerRef]]:
    for place, scorer in enumerate(policy.scorers):
        yield (*at, "scorers", place), scorers, scorer
    yield (*at, "picker"), pickers, policy.picker
