"""From a configuration to what decisions are made with: policies, and the snapshot of backends."""

from __future__ import annotations

from collections.abc import Mapping

from app.config.deciding import ExplorationConfig
from app.config.load import LoadedConfig, cold_start_of
from app.config.models import Config
from app.metering import cost
from app.routing import discovery
from app.routing.exploration import Exploration
from app.routing.policy import Policy, WeightedScorer
from app.routing.predictor import forecaster
from app.routing.types import COMPLETIONS, BackendView, CostForecast, Snapshot
from backends.base import Backend
from backends.types import Capability

DEFAULT_UTILISATION = 0.5
"""What a service that charges by the token is taken to run at, where its energy is estimated."""


def policies(config: Config) -> dict[str, Policy]:
    """Every configured policy, by name."""
    filters = discovery.hard_filters()
    routing = config.routing
    made = {}
    for name, policy in config.policies.items():
        total = sum(scorer.weight for scorer in policy.scorers)
        made[name] = Policy(
            name,
            filters,
            tuple(
                WeightedScorer(each.use, discovery.scorer(each.use, each.params), each.weight / total)
                for each in policy.scorers
            ),
            discovery.picker(policy.picker.use, policy.picker.params),
            routing.slo_margin,
            routing.most_harm,
            forecaster(routing.cost_basis),
            routing.cost_basis,
            _exploration(routing.exploration),
        )
    return made


def _exploration(config: ExplorationConfig) -> Exploration | None:
    if not config.epsilon:
        return None
    return Exploration(config.epsilon, config.usd_per_minute, config.stale_s)


def snapshot(
    loaded: LoadedConfig,
    backends: Mapping[str, Backend],
    rates: Mapping[str, cost.Rates],
    drained: Mapping[str, bool],
) -> Snapshot:
    """What decisions may know of the backends; `drained` is what operators said of them by hand."""
    views: dict[str, list[BackendView]] = {model: [] for model in loaded.config.models}
    cold_starts = {each.name: cold_start_of(each) for each in loaded.config.backends}
    quality = {(each.name, d.model): d.quality for each in loaded.config.backends for d in each.deployments}
    for each in loaded.config.backends:
        info = backends[each.name].info
        also = COMPLETIONS if "completion" in info.endpoints else frozenset[Capability]()
        for model, deployment in info.deployments.items():
            views[model].append(
                BackendView(
                    each.name,
                    info.substrate,
                    model,
                    deployment.context_tokens,
                    deployment.capabilities | also,
                    deployment.profile,
                    cost.forecast(rates[each.name], deployment.profile),
                    drained.get(each.name, each.drained),
                    deployment.calibration == "calibrated",
                    cost.energy(info.power, deployment.profile, _reference_utilisation(rates[each.name])),
                    quality[each.name, model],
                    cold_starts[each.name],
                )
            )
    return Snapshot(loaded.hash, {model: tuple(listed) for model, listed in views.items()})


def _reference_utilisation(rates: cost.Rates) -> float:
    return rates.reference_utilisation if isinstance(rates, cost.ChipHourRates) else DEFAULT_UTILISATION


def references(config: Config, snapshot: Snapshot) -> dict[str, CostForecast]:
    """The forecast of each model's reference backend."""
    return {
        name: view.cost
        for name, model in config.models.items()
        for view in snapshot.views[name]
        if view.name == model.reference_backend
    }
