"""Puts an emulated backend together from a spec, the datasheets and a substrate's traits."""

from __future__ import annotations

from dataclasses import replace

from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.backend import EmulatedBackend
from backends.emulator.engine import Engine
from backends.emulator.profile import latency_profile
from backends.emulator.roofline import physics
from backends.emulator.traits import Traits
from backends.errors import BackendConfigError
from backends.types import BackendInfo, BackendSpec, DeploymentInfo, Substrate


def emulated(
    spec: BackendSpec, sheets: Datasheets, clock: Clock, substrate: Substrate, traits: Traits
) -> EmulatedBackend:
    """Raises: UnknownFigure; DoesNotFit; BackendConfigError."""
    chip = sheets.chip(spec.chip)
    if chip.substrate != substrate:
        raise BackendConfigError(f"chip '{spec.chip}' belongs to kind '{chip.substrate}', not '{substrate}'")
    if len(spec.deployments) != 1:
        raise BackendConfigError(
            f"an emulated engine serves one model, '{spec.name}' lists {len(spec.deployments)}: "
            "declare a backend for each"
        )
    deployment = spec.deployments[0]
    model = sheets.model(deployment.model)
    reduced = physics(chip, spec.chips, model, deployment, traits)
    if chip.prefill_budget_tokens is not None:
        traits = replace(traits, prefill_budget=chip.prefill_budget_tokens)
    emulation = spec.emulation
    if emulation.max_sequences is not None:
        reduced = replace(reduced, max_sequences=min(reduced.max_sequences, emulation.max_sequences))
    # Prompt and answer are each rounded up to whole KV blocks, so two blocks less than the room always fit.
    room = reduced.kv_room_tokens - 2 * traits.kv_block_tokens
    context = min(deployment.context_tokens or model.context_tokens, model.context_tokens, room)
    info = BackendInfo(
        name=spec.name,
        substrate=substrate,
        mode="emulated",
        chip=spec.chip,
        chips=spec.chips,
        deployments={
            deployment.model: DeploymentInfo(
                model=deployment.model,
                precision=deployment.precision,
                context_tokens=context,
                profile=latency_profile(reduced, traits),
                calibration=chip.calibration,
                assumptions=chip.assumptions(),
            )
        },
    )

    def new_engine(start_ns: int) -> Engine:
        return Engine(reduced, traits, emulation.seed, emulation.prefill_noise, emulation.decode_noise, start_ns)

    return EmulatedBackend(info, new_engine, clock, emulation.max_waiting)
