"""Puts an emulated backend together from a spec, the datasheets and a substrate's traits."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from backends.clock import Clock
from backends.datasheet import ChipSheet, Datasheets, ModelSheet
from backends.emulator.backend import EmulatedBackend
from backends.emulator.cold import ColdEngine
from backends.emulator.engine import Engine
from backends.emulator.power import power
from backends.emulator.profile import latency_profile
from backends.emulator.roofline import Physics, physics
from backends.emulator.traits import Traits
from backends.errors import BackendConfigError, DoesNotFit
from backends.types import BackendInfo, BackendSpec, Capability, DeploymentInfo, DeploymentSpec, Substrate

CAPABILITIES = frozenset[Capability](("n", "tools", "json_schema", "embeddings"))
"""What every emulated deployment can do."""


class Deployed(NamedTuple):
    """A model on a group of chips: what a router is told of it, and the physics and traits behind that."""

    info: DeploymentInfo
    physics: Physics
    traits: Traits


def deployed(
    chip_name: str,
    chips: int,
    deployment: DeploymentSpec,
    sheets: Datasheets,
    substrate: Substrate,
    traits: Traits,
    max_sequences: int | None = None,
    prefix_cache: bool = True,
) -> Deployed:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    chip = sheets.chip(chip_name)
    if chip.substrate != substrate:
        raise BackendConfigError(f"chip '{chip_name}' belongs to kind '{chip.substrate}', not '{substrate}'")
    if chip.prefill_budget_tokens is not None:
        traits = replace(traits, prefill_budget=chip.prefill_budget_tokens)
    traits = replace(traits, prefix_cache=traits.prefix_cache and prefix_cache)
    model = sheets.model(deployment.model)
    reduced = physics(chip, chips, model, deployment, traits)
    if max_sequences is not None:
        reduced = replace(reduced, max_sequences=min(reduced.max_sequences, max_sequences))
    # Prompt and answer are each rounded up to whole KV blocks, so two blocks less than the room always fit.
    room = reduced.kv_room_tokens - 2 * traits.kv_block_tokens
    if deployment.context_tokens is not None and deployment.context_tokens > room:
        raise DoesNotFit(
            f"context_tokens {deployment.context_tokens:,} of {model.title} does not fit: {chips} x {chip.title} leave "
            f"room for {room:,} tokens of KV cache"
        )
    info = DeploymentInfo(
        model=deployment.model,
        precision=deployment.precision,
        context_tokens=min(deployment.context_tokens or model.context_tokens, model.context_tokens, room),
        profile=latency_profile(reduced, traits),
        capabilities=CAPABILITIES,
        calibration=_calibration(chip, model, traits),
        assumptions=chip.assumptions(),
    )
    return Deployed(info, reduced, traits)


def _calibration(chip: ChipSheet, model: ModelSheet, traits: Traits) -> Literal["calibrated", "uncalibrated"]:
    """A chip is calibrated with what was measured on it: not for models with experts where none has been."""
    measured = chip.moe_mfu is not None and chip.moe_mfu.confidence == "fitted"
    return "uncalibrated" if traits.law == "roofline" and model.moe is not None and not measured else chip.calibration


def emulated(
    spec: BackendSpec, sheets: Datasheets, clock: Clock, substrate: Substrate, traits: Traits
) -> EmulatedBackend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    if len(spec.deployments) != 1:
        raise BackendConfigError(
            f"an emulated engine serves one model, '{spec.name}' lists {len(spec.deployments)}: "
            "declare a backend for each"
        )
    emulation = spec.emulation
    deployment, reduced, traits = deployed(
        spec.chip, spec.chips, spec.deployments[0], sheets, substrate, traits, emulation.max_sequences,
        emulation.prefix_cache,
    )  # fmt: skip
    info = BackendInfo(
        name=spec.name,
        substrate=substrate,
        mode="emulated",
        chip=spec.chip,
        chips=spec.chips,
        deployments={deployment.model: deployment},
        power=power(sheets.chip(spec.chip), spec.chips),
    )

    def new_engine(start_ns: int) -> Engine:
        told = (reduced, traits, emulation.seed, emulation.prefill_noise, emulation.decode_noise, start_ns)
        return Engine(*told) if spec.cold_start is None else ColdEngine(spec.cold_start, *told)

    block_tokens = traits.kv_block_tokens if traits.prefix_cache else None
    return EmulatedBackend(info, new_engine, clock, emulation.max_waiting, block_tokens)
