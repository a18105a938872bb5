"""Shipped datasheets, and specs of backends that fit."""

from __future__ import annotations

from functools import cache

from app.config.load import load, to_spec
from backends.datasheet import Datasheets
from backends.types import BackendSpec, DeploymentSpec, EmulationSpec

QUIET = EmulationSpec(prefill_noise=0.0, decode_noise=0.0)


@cache
def sheets() -> Datasheets:
    """Every shipped chip and model."""
    return load().sheets


@cache
def shipped_specs() -> dict[str, BackendSpec]:
    """The shipped fleet, by name."""
    specs = map(to_spec, load().config.backends)
    return {spec.name: spec for spec in specs if isinstance(spec, BackendSpec)}


def spec_of(kind: str, model: str = "llama-3.1-8b", emulation: EmulationSpec = QUIET) -> BackendSpec:
    """A shipped backend of a kind serving a model."""
    found = next(spec for spec in shipped_specs().values() if spec.kind == kind and spec.deployments[0].model == model)
    return BackendSpec(found.name, kind, found.chip, found.chips, found.deployments, emulation)


def deployment(model: str = "llama-3.1-8b", precision: str = "fp8") -> tuple[DeploymentSpec, ...]:
    return (DeploymentSpec(model, precision),)
