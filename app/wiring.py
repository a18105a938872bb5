"""The one module that knows concrete classes: it builds a gateway from a configuration, and takes it down again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from app import __version__
from app.api.admin import admin_api
from app.api.front import AsgiApp, CommonHeaders, Front
from app.api.hot import HotEndpoints
from app.api.public import public_api
from app.api.response_headers import ResponseHeaders
from app.bookkeeper import Bookkeeper, depth_by_class
from app.cache.base import ResponseCache
from app.cache.build import build as build_cache
from app.config.load import LoadedConfig, redacted, to_spec
from app.config.models import BackendConfig, CacheOff, Config, ExplorationConfig
from app.dispatch.build import terms
from app.dispatch.dispatcher import Dispatcher
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.ids import Ids
from app.metering import cost
from app.metering.ledger.ledger import Ledger
from app.metering.meter import Meter, PriceTable
from app.metering.metrics import BackendGauge, Metrics
from app.planning import Planner
from app.routing import discovery
from app.routing.exploration import Exploration
from app.routing.policy import Policy, WeightedScorer
from app.routing.predictor import forecaster
from app.routing.types import BackendView, CostForecast, Snapshot
from app.service import CachePolicy, CompletionService
from backends.base import Backend
from backends.clock import Clock, SystemClock
from backends.registry import build as build_backend

TENANTS = ("default",)

DEFAULT_UTILISATION = 0.5
"""What a service that charges by the token is taken to run at, where its energy is estimated."""


@dataclass(slots=True)
class Gateway:
    """Both applications and what they share."""

    app: AsgiApp
    admin_app: AsgiApp
    fleet: Fleet
    metrics: Metrics
    ledger: Ledger
    cache: ResponseCache
    service: CompletionService
    models: tuple[str, ...]
    _why_not_ready: list[str] = field(default_factory=lambda: ["starting"])

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; on leaving, take it down in reverse."""
        self.ledger.start()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.ledger.aclose)
            stack.push_async_callback(self.cache.aclose)
            stack.push_async_callback(self.service.aclose)
            stack.push_async_callback(self.fleet.aclose)
            await self.fleet.start()
            self._why_not_ready.clear()
            yield
            self.drain()

    def drain(self) -> None:
        """Stop being ready; what is in flight goes on."""
        if "draining" not in self._why_not_ready:
            self._why_not_ready.append("draining")


def build(loaded: LoadedConfig, clock: Clock | None = None, backends: Mapping[str, Backend] | None = None) -> Gateway:
    """A gateway, not yet running. Tests may bring their own clock and backends (by configured name).

    Raises: ConfigError; BackendConfigError.
    """
    clock = clock or SystemClock()
    config, ids = loaded.config, Ids()
    made = backends or _backends(loaded, clock)
    rates = {each.name: cost.rates(each.pricing, each.chips) for each in config.backends}
    snapshot = _snapshot(loaded, made, rates)
    receipts = Receipts(config.routing.receipts_kept, f"d-{ids.prefix}-")
    fleet = Fleet(made, snapshot, _policies(config), receipts, config.routing.seed)
    metrics = _metrics(loaded, fleet, rates, clock)
    ledger = _ledger(config, metrics)
    meter = Meter(PriceTable(rates, _references(config, snapshot)), metrics, ledger)
    books = Bookkeeper(meter, metrics, clock, loaded.hash)
    cache = build_cache(config.cache, clock)
    planner = Planner(config.models, config.slo, config.routing.default_policy)
    dispatch = terms(config, books.unqueued)
    metrics.held = lambda: depth_by_class(dispatch.queue)
    dispatcher = Dispatcher(fleet, clock, dispatch, books.decided)
    service = CompletionService(planner, fleet, dispatcher, cache, _cache_policy(config), books, clock, loaded.epoch)

    why_not_ready = ["starting"]
    headers = ResponseHeaders(clock, loaded.hash)
    hot = HotEndpoints(service, books, headers, ids, clock, config.server.body_limit_bytes)
    public = public_api(planner, fleet.substrates, lambda: why_not_ready[0] if why_not_ready else None)
    admin = admin_api(fleet, metrics, lambda: redacted(config), config.server.admin_token, clock)
    gateway = Gateway(
        app=Front(hot, CommonHeaders(public, headers, ids, clock), lambda: gateway.running()),
        admin_app=CommonHeaders(admin, headers, ids, clock),
        fleet=fleet,
        metrics=metrics,
        ledger=ledger,
        cache=cache,
        service=service,
        models=tuple(config.models),
        _why_not_ready=why_not_ready,
    )
    return gateway


def _metrics(loaded: LoadedConfig, fleet: Fleet, rates: Mapping[str, cost.Rates], clock: Clock) -> Metrics:
    config = loaded.config
    references = {name: model.reference_backend for name, model in config.models.items() if model.reference_backend}
    return Metrics(
        config.models,
        lambda: _gauges(config.backends, fleet, rates, clock.now_ns()),
        TENANTS,
        loaded.hash,
        __version__,
        references,
    )


def _ledger(config: Config, metrics: Metrics) -> Ledger:
    ledger = config.ledger
    return Ledger(
        ledger.path,
        ledger.flush_interval_s,
        ledger.batch_rows,
        ledger.queue_rows,
        dropped=lambda: metrics.ledger_dropped.add(()),
    )


def _backends(loaded: LoadedConfig, clock: Clock) -> dict[str, Backend]:
    return {each.name: build_backend(to_spec(each), loaded.sheets, clock) for each in loaded.config.backends}


def _policies(config: Config) -> dict[str, Policy]:
    filters = discovery.hard_filters()
    routing = config.routing
    policies = {}
    for name, policy in config.policies.items():
        total = sum(scorer.weight for scorer in policy.scorers)
        policies[name] = Policy(
            name,
            filters,
            tuple(
                WeightedScorer(each.use, discovery.scorer(each.use, each.params), each.weight / total)
                for each in policy.scorers
            ),
            discovery.picker(policy.picker.use, policy.picker.params),
            routing.slo_margin,
            forecaster(routing.cost_basis),
            _exploration(routing.exploration),
        )
    return policies


def _exploration(config: ExplorationConfig) -> Exploration | None:
    if not config.epsilon:
        return None
    return Exploration(config.epsilon, config.usd_per_minute, config.stale_s)


def _snapshot(loaded: LoadedConfig, backends: Mapping[str, Backend], rates: Mapping[str, cost.Rates]) -> Snapshot:
    views: dict[str, list[BackendView]] = {model: [] for model in loaded.config.models}
    quality = {(each.name, d.model): d.quality for each in loaded.config.backends for d in each.deployments}
    for each in loaded.config.backends:
        info = backends[each.name].info
        for model, deployment in info.deployments.items():
            views[model].append(
                BackendView(
                    each.name,
                    info.substrate,
                    model,
                    deployment.context_tokens,
                    deployment.capabilities,
                    deployment.profile,
                    cost.forecast(rates[each.name], deployment.profile),
                    each.drained,
                    deployment.calibration == "calibrated",
                    cost.energy(info.power, deployment.profile, _reference_utilisation(rates[each.name])),
                    quality[each.name, model],
                )
            )
    return Snapshot(loaded.hash, {model: tuple(listed) for model, listed in views.items()})


def _reference_utilisation(rates: cost.Rates) -> float:
    return rates.reference_utilisation if isinstance(rates, cost.ChipHourRates) else DEFAULT_UTILISATION


def _references(config: Config, snapshot: Snapshot) -> dict[str, CostForecast]:
    return {
        name: view.cost
        for name, model in config.models.items()
        for view in snapshot.views[name]
        if view.name == model.reference_backend
    }


def _cache_policy(config: Config) -> CachePolicy:
    if isinstance(config.cache, CacheOff):
        return CachePolicy(enabled=False, always=False)
    return CachePolicy(enabled=True, always=config.cache.when == "always")


def _gauges(
    backends: Iterable[BackendConfig], fleet: Fleet, rates: Mapping[str, cost.Rates], now_ns: int
) -> Iterable[BackendGauge]:
    for each in backends:
        backend = fleet.backends[each.name]
        now, load, rate = backend.snapshot(), fleet.state.loads.get(each.name), rates[each.name]
        provisioned_ns = now.busy_ns + now.idle_ns
        # A live service tells no engine time, and what is not known is not counted as zero.
        owned = isinstance(rate, cost.ChipHourRates) and backend.info.mode == "emulated"
        chips, health = each.chips or 0, fleet.health.look(each.name, now_ns)
        yield BackendGauge(
            each.name,
            backend.info.substrate,
            load.sequences if load else 0,
            now.waiting,
            now.busy_ns * chips,
            provisioned_ns * chips,
            cost.price_of_time(rate, provisioned_ns) if owned else None,  # type: ignore[arg-type]
            None if (power := backend.info.power) is None else power.energy_j(now.busy_ns, now.idle_ns),
            ("closed", "half_open", "open").index(health.breaker),
            health.gate,
            health.ejections,
        )
