"""Trying what a configuration describes: each scorer, picker and backend is made once, so that what cannot be made is
reported where it stands and not when the gateway starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
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
from backends.types import BackendSpec, LatencyProfile, LiveSpec

CONTEXT = 1500
"""Tokens of context that a profile's time per token is told for (`LatencyProfile.tpot_s`)."""


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


def vocabularies(config: Config, source: Source) -> None:
    """A vocabulary that is asked for must be there; its package is not imported for that."""
    for name, model in config.models.items():
        if model.vocabulary is not None and find_spec("bpe_openai") is None:
            say = "a vocabulary needs bpe-openai: pip install 'turnout[tokens]'"
            source.problems.append(source.problem(("models", name, "vocabulary"), say))


def backends(
    specs: Sequence[BackendSpec | LiveSpec], sheets: Datasheets, source: Source
) -> dict[str, list[LatencyProfile]]:
    """How fast each model's backends are expected to be.

    Those that cannot be built (no such chip or precision, too little memory) are problems, added to the source.
    """
    clock, found = SystemClock(), dict[str, list[LatencyProfile]]()
    for index, spec in enumerate(specs):
        try:
            made = build(spec, sheets, clock)
        except BackendConfigError as error:
            source.problems.append(source.problem(("backends", index, "name"), f"'{spec.name}': {error}"))
            continue
        for model, deployment in made.info.deployments.items():
            found.setdefault(model, []).append(deployment.profile)
    return found


def out_of_reach(config: Config, profiles: Mapping[str, Sequence[LatencyProfile]]) -> tuple[str, ...]:
    """Models whose own promise no backend is expected to keep, not even to one request of one token on an idle one."""
    found: list[str] = []
    for name, model in config.models.items():
        slo = config.slo[model.slo]
        fastest: list[tuple[str, float | None, Callable[[LatencyProfile], float]]] = [
            ("ttft_ms", slo.ttft_ms, _least_ttft_s),
            ("tpot_ms", slo.tpot_ms, lambda profile: profile.tpot_s(1) - CONTEXT * profile.decode_s_per_context_token),
            ("e2e_ms", slo.e2e_ms, _least_ttft_s),
        ]
        for what, promised_ms, least_s in fastest:
            least_ms = min((least_s(profile) * 1e3 for profile in profiles.get(name, ())), default=None)
            if promised_ms is not None and least_ms is not None and least_ms > promised_ms:
                found.append(
                    f"model '{name}': no backend can keep {what} {promised_ms:g} of its SLO class '{model.slo}': the "
                    f"fastest is expected to take {least_ms:.3g} ms, idle and for the shortest prompt"
                )
    return tuple(found)


def _least_ttft_s(profile: LatencyProfile) -> float:
    return profile.network_s + profile.overhead_s + profile.prefill_s_per_token


def _refs(
    at: tuple[str, ...], policy: PolicyConfig
) -> Iterator[tuple[Sequence[str | int], ModuleType, ScorerRef | PickerRef]]:
    for place, scorer in enumerate(policy.scorers):
        yield (*at, "scorers", place), scorers, scorer
    yield (*at, "picker"), pickers, policy.picker
