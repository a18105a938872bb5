"""Puts a live backend together from a spec: what is expected of it comes from a chip's physics or is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backends.clock import Clock
from backends.datasheet import Datasheets
from backends.emulator.build import deployed
from backends.emulator.traits import Traits
from backends.errors import BackendConfigError
from backends.types import BackendInfo, DeploymentInfo, DeploymentSpec, LiveDeploymentSpec, LiveSpec, Substrate
from backends.upstream import dialects
from backends.upstream.backend import LiveBackend
from backends.upstream.dialects.base import Aws, Dialect, Service
from backends.upstream.transport import HttpxTransport, Limits, Transport


def live(
    spec: LiveSpec,
    sheets: Datasheets,
    clock: Clock,
    substrate: Substrate,
    traits: Traits | None,
    transport: Transport | None = None,
) -> LiveBackend:
    """`transport` stands in for httpx.

    Raises: UnknownFigure; DoesNotFit; BackendConfigError.
    """
    dialect, service = dialect_of(spec)
    limits = Limits(spec.timeouts.connect_s, spec.timeouts.idle_s, spec.max_connections)
    info = BackendInfo(
        name=spec.name,
        substrate=substrate,
        mode="live",
        chip=spec.chip,
        chips=spec.chips,
        deployments=deployments(spec, sheets, substrate, traits),
        endpoints=dialect.endpoints,
    )

    def new_transport() -> Transport:
        return transport or HttpxTransport(spec.name, spec.url, limits)

    upstream_models = {each.model: each.upstream_model or each.model for each in spec.deployments}
    return LiveBackend(
        info, dialect, service, upstream_models, spec.timeouts, new_transport, clock, spec.forward_headers
    )


def dialect_of(spec: LiveSpec) -> tuple[Dialect, Service]:
    """How a service is spoken to.

    Raises: BackendConfigError.
    """
    service = Service(spec.name, spec.url.rstrip("/"), spec.api_key, spec.api_version, spec.aws and Aws(*spec.aws))
    return dialects.named(spec.dialect or dialects.DEFAULT)(service), service


def deployments(
    spec: LiveSpec, sheets: Datasheets, substrate: Substrate, traits: Traits | None
) -> Mapping[str, DeploymentInfo]:
    """What is expected of each model, by name.

    Raises: UnknownFigure; DoesNotFit; BackendConfigError.
    """
    # What the wire cannot ask for, no model behind it has: such requests go elsewhere rather than be refused.
    lacks = dialects.named(spec.dialect or dialects.DEFAULT).lacks
    able = [replace(each, capabilities=each.capabilities - lacks) for each in spec.deployments]
    return {each.model: _deployment(spec, each, sheets, substrate, traits) for each in able}


def _deployment(
    spec: LiveSpec, each: LiveDeploymentSpec, sheets: Datasheets, substrate: Substrate, traits: Traits | None
) -> DeploymentInfo:
    if spec.profile is not None:
        sheet = sheets.models.get(each.model)
        context = each.context_tokens or (None if sheet is None else sheet.context_tokens)
        if context is None:
            raise BackendConfigError(f"there is no datasheet for model '{each.model}': say its context_tokens")
        return DeploymentInfo(each.model, each.precision or "unknown", context, spec.profile, each.capabilities)
    if spec.chip is None or spec.chips is None or traits is None:
        raise BackendConfigError("what latency to expect must be known: declare `profile`, or `chip` and `chips`")
    if each.precision is None:
        raise BackendConfigError(f"to expect the latency of '{each.model}' from {spec.chip}, its precision is needed")
    if len(spec.deployments) != 1:
        raise BackendConfigError(
            "a chip's latency is computed for one model: declare a `profile`, or a backend for each"
        )
    wanted = DeploymentSpec(each.model, each.precision, each.context_tokens, each.kv_precision)
    info = deployed(spec.chip, spec.chips, wanted, sheets, substrate, traits).info
    return DeploymentInfo(
        info.model,
        info.precision,
        info.context_tokens,
        info.profile,
        each.capabilities,
        info.calibration,
        info.assumptions,
    )
