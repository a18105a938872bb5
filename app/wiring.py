"""The one module that knows concrete classes: it builds a gateway from a configuration, and takes it down again."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from app import __version__, aliases, vocabularies
from app.api.admin import admin_api
from app.api.front import AsgiApp, CommonHeaders, Front
from app.api.hot import HotEndpoints
from app.api.public import public_api
from app.api.response_headers import ResponseHeaders
from app.bookkeeper import Bookkeeper, depth_by_class
from app.build import compiled
from app.cache.build import build as build_cache
from app.cache.tiers import AnswerCache
from app.caching import caching
from app.config.changes import same_backend
from app.config.load import LoadedConfig, load, redacted, to_spec
from app.config.models import BackendConfig, Config, LiveBackendConfig, RedisSharing
from app.dispatch.build import terms
from app.dispatch.dispatcher import Dispatcher
from app.edition import Edition, Spent
from app.errors import StartupError
from app.fleet.build import policies, references
from app.fleet.build import snapshot as build_snapshot
from app.fleet.fleet import Fleet
from app.fleet.monitor import Monitor, Page, Target
from app.fleet.receipts import Receipts
from app.fleet.sharing.loop import Sharer
from app.fleet.sharing.store import Store
from app.fleet.state_file import dump
from app.ids import Ids
from app.metering import cost
from app.metering.ledger.ledger import Ledger
from app.metering.meter import Meter, PriceTable
from app.metering.metrics import BackendGauge, Metrics, SignalGauge
from app.planning import Planner
from app.reload import Reloader
from app.service import CompletionService
from backends.base import Backend
from backends.clock import Clock, SystemClock
from backends.errors import TurnoutBackendError
from backends.registry import build as build_backend

TENANTS = ("default",)


@dataclass(slots=True)
class Gateway:
    """Both applications and what they share. What a configuration decides is the running edition's."""

    app: Front
    admin_app: AsgiApp
    metrics: Metrics
    ledger: Ledger
    reloader: Reloader
    monitor: Monitor
    sharer: Sharer
    _why_not_ready: list[str]

    @property
    def edition(self) -> Edition:
        return self.reloader.current

    @property
    def fleet(self) -> Fleet:
        return self.edition.fleet

    @property
    def cache(self) -> AnswerCache | None:
        return self.edition.cache

    @property
    def service(self) -> CompletionService:
        return self.edition.service

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.edition.loaded.config.models)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; on leaving, take it down in reverse."""
        self.ledger.start()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.ledger.aclose)
            stack.push_async_callback(self._close_edition)
            try:
                await self.fleet.start()
            except TurnoutBackendError as error:
                raise StartupError(str(error)) from error
            self.edition.know_backends()
            stack.push_async_callback(self.monitor.aclose)
            self.monitor.watch(_targets(self.edition))
            stack.push_async_callback(self.sharer.aclose)
            self.sharer.follow(self.edition.loaded.config.sharing)
            stack.push_async_callback(self.reloader.aclose)
            self.reloader.start()
            self._why_not_ready.clear()
            yield
            self.drain()

    def drain(self) -> None:
        """Stop being ready; what is in flight goes on."""
        if "draining" not in self._why_not_ready:
            self._why_not_ready.append("draining")

    async def _close_edition(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if self.cache is not None:
                stack.push_async_callback(self.cache.aclose)
            stack.push_async_callback(self.service.aclose)
            stack.push_async_callback(self.fleet.aclose)


def build(
    loaded: LoadedConfig,
    clock: Clock | None = None,
    backends: Mapping[str, Backend] | None = None,
    read: Callable[[], LoadedConfig] | None = None,
) -> Gateway:
    """A gateway, not yet running. Tests may bring their own clock and backends (by configured name); `read` is where a
    reload takes its configuration from, the same file if not given.

    Raises: ConfigError; BackendConfigError.
    """
    clock = clock or SystemClock()
    why_not_ready = ["starting"]
    metrics = _metrics(loaded, lambda: reloader.current.gauges(), lambda: _signals(monitor))
    ledger = _ledger(loaded.config, metrics)
    press = _Press(clock, Ids(), metrics, ledger, backends, {})
    first = press.edition(loaded, None)
    monitor = Monitor(
        first.fleet.state,
        clock,
        loaded.config.routing.seed,
        _page,
        lambda backend, signal: metrics.monitor_failures.add((backend, signal)),
    )

    sharer = Sharer(
        lambda: reloader.current.fleet,
        clock,
        secrets.token_hex(8),
        _store,
        lambda operation: metrics.sharing_errors.add((operation,)),
    )
    metrics.sharing = sharer.status

    def install(edition: Edition) -> None:
        front.hot = edition.hot
        monitor.watch(_targets(edition))
        sharer.follow(edition.loaded.config.sharing)
        press.installed(edition)

    reloader = Reloader(first, read or partial(load, loaded.path), press.edition, install, metrics, clock)
    public = public_api(
        lambda: reloader.current.service.planner,
        lambda model: reloader.current.fleet.substrates(model),
        lambda model: reloader.current.fleet.quality(model),
        lambda: why_not_ready[0] if why_not_ready else None,
    )

    def headers() -> ResponseHeaders:
        return reloader.current.headers

    press.installed(first)
    front = Front(first.hot, CommonHeaders(public, headers, press.ids, clock), lambda: gateway.running())
    admin = CommonHeaders(
        admin_api(_Desk(reloader, metrics, monitor, sharer, clock, why_not_ready)), headers, press.ids, clock
    )
    gateway = Gateway(front, admin, metrics, ledger, reloader, monitor, sharer, why_not_ready)
    return gateway


@dataclass(frozen=True, slots=True)
class _Press:
    """Makes editions: of what outlives a configuration, and of what a configuration says."""

    clock: Clock
    ids: Ids
    metrics: Metrics
    ledger: Ledger
    given: Mapping[str, Backend] | None
    carries: dict[str, int]

    def edition(self, loaded: LoadedConfig, before: Edition | None) -> Edition:
        """What follows from a configuration; `before` runs now, and its backends run on where they are the same."""
        config, clock = loaded.config, self.clock
        made = {each.name: self._backend(each, loaded, before) for each in config.backends}
        rates = {each.name: cost.rates(each.pricing, each.chips) for each in config.backends}
        drained = {} if before is None else _drained_by_hand(before, config)
        snapshot = build_snapshot(loaded, made, rates, drained)
        if before is None:
            receipts = Receipts(config.routing.receipts_kept, f"d-{self.ids.prefix}-")
            fleet = Fleet(made, snapshot, policies(config), receipts, config.routing.seed)
        else:
            fleet = before.fleet.successor(made, snapshot, policies(config), config.routing.seed, drained)
        forecasts = references(config, snapshot)
        meter = Meter(PriceTable(rates, forecasts), self.metrics, self.ledger, self.carries)
        books = Bookkeeper(meter, self.metrics, clock, loaded.hash)
        same_cache = before is not None and before.loaded.config.cache == config.cache
        cache = before.cache if before is not None and same_cache else build_cache(config.cache, clock)
        planner = Planner(
            config.models,
            config.slo,
            config.routing.default_policy,
            aliases.table(config.models, config.aliases),
            vocabularies.counters(config),
        )
        dispatch = terms(config, books.unqueued)
        dispatcher = Dispatcher(fleet, clock, dispatch, books.decided)
        service = CompletionService(planner, fleet, dispatcher, caching(config, cache), books, clock, loaded.epoch)
        headers = ResponseHeaders(clock, loaded.hash)
        limit = config.server.body_limit_bytes
        hot = HotEndpoints(service, books, headers, self.ids, clock, limit, _forwarded(config))
        spent = _spent(before, made)
        return Edition(loaded, fleet, cache, service, hot, headers, rates, spent, forecasts, dispatch, clock)

    def _backend(self, each: BackendConfig, loaded: LoadedConfig, before: Edition | None) -> Backend:
        if before is not None and same_backend(before.loaded, loaded, each.name):
            return before.fleet.backends[each.name]
        if self.given is not None:
            return self.given[each.name]
        return build_backend(to_spec(each), loaded.sheets, self.clock)

    def installed(self, edition: Edition) -> None:
        """An edition has begun to serve."""
        config = edition.loaded.config
        self.metrics.configured(config.models, edition.loaded.hash, _reference_names(config))
        edition.fleet.caps.configure(
            {each.name: each.max_in_flight for each in config.backends if each.max_in_flight is not None},
            shared=isinstance(config.sharing, RedisSharing),
            now_ns=self.clock.now_ns(),
        )
        edition.fleet.know_warmth(self.clock.now_ns())
        self.metrics.held = lambda: depth_by_class(edition.dispatch.queue)
        edition.fleet.receipts.resize(config.routing.receipts_kept)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the admin port is the front of."""

    reloader: Reloader
    shown: Metrics
    monitor: Monitor
    sharer: Sharer
    clock: Clock
    why_not_ready: list[str]

    def fleet(self) -> Fleet:
        return self.reloader.current.fleet

    def cache(self) -> AnswerCache | None:
        return self.reloader.current.cache

    def token(self) -> str | None:
        return self.reloader.current.loaded.config.server.admin_token

    def config(self) -> Mapping[str, Any]:
        return redacted(self.reloader.current.loaded.config)

    def status(self) -> Mapping[str, Any]:
        loaded, fleet, shown = self.reloader.current.loaded, self.fleet(), self.shown
        stands = {name: each.warmth for name in fleet.backends if (each := fleet.warmth(name, self.clock.now_ns()))}
        return {
            "version": __version__,
            "compiled": compiled(),
            "ready": not self.why_not_ready,
            "reason": self.why_not_ready[0] if self.why_not_ready else None,
            "config": loaded.hash,
            "path": str(loaded.path),
            "reload": {"successful": shown.reload_ok, "last_success_epoch_s": shown.reloaded_wall_ns / 1e9},
            "models": list(loaded.config.models),
            "backends": {
                "total": len(fleet.backends),
                "drained": fleet.drained(),
                "failing": [name for name in fleet.backends if fleet.troubles.of(name) is not None],
                "cold": [name for name, warmth in stands.items() if warmth == "cold"],
                "warming": [name for name, warmth in stands.items() if warmth == "warming"],
            },
            "sharing": None if (shared := self.sharer.status()) is None else shared._asdict(),
            "in_flight": sum(load.sequences for load in fleet.state.loads.values()),
        }

    def state(self) -> Mapping[str, Any]:
        fleet = self.fleet()
        return {
            "config": self.reloader.current.loaded.hash,
            "next_decision": fleet.receipts.next_number(),
            "drained_by_hand": dict(fleet.drained_by_hand),
            "state": dump(fleet.state, self.clock.now_ns()),
        }

    def watched(self, name: str) -> Mapping[str, Any] | None:
        return self.monitor.plain(name)

    def now_ns(self) -> int:
        return self.clock.now_ns()

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return self.shown.render(accept)

    async def reload(self, *, dry_run: bool) -> Mapping[str, Any]:
        return await self.reloader.reload(dry_run=dry_run)


def _targets(edition: Edition) -> list[Target]:
    """Who is to be looked after."""
    return [
        Target(edition.fleet.backends[each.name], told.metrics_url, told.interval_s, told.timeout_s)
        for each in edition.loaded.config.backends
        if isinstance(each, LiveBackendConfig) and (told := each.monitor) is not None
    ]


def _page(target: Target) -> Page:
    """Imported where there is one: an emulated fleet needs no HTTP client."""
    page: Page = import_module("backends.upstream.page").Page(target.name, target.metrics_url, target.timeout_s)
    return page


def _store(config: RedisSharing) -> Store:
    """Imported where it is configured."""
    store: Store = import_module("app.fleet.sharing.redis").RedisStore(config)
    return store


def _signals(monitor: Monitor) -> Iterable[SignalGauge]:
    for watch in monitor:
        info, ping = watch.target.backend.info, watch.signals["ping"]
        up = False if ping.error is not None else True if ping.ever else None
        yield SignalGauge(info.name, info.substrate, up, monitor.ages_s(watch))


def _spent(before: Edition | None, made: Mapping[str, Backend]) -> Mapping[str, Spent]:
    """What backends that run on have cost, for their prices to go on from."""
    if before is None:
        return {}
    return {name: before.spending(name) for name, backend in made.items() if before.fleet.backends.get(name) is backend}


def _drained_by_hand(before: Edition, config: Config) -> dict[str, bool]:
    """What an operator has said of backends holds until the configuration says something new of them."""
    said = {each.name: each.drained for each in before.loaded.config.backends}
    return {
        each.name: before.fleet.drained_by_hand[each.name]
        for each in config.backends
        if each.name in before.fleet.drained_by_hand and said[each.name] == each.drained
    }


def _reference_names(config: Config) -> dict[str, str]:
    return {name: model.reference_backend for name, model in config.models.items() if model.reference_backend}


def _metrics(
    loaded: LoadedConfig,
    gauges: Callable[[], Iterable[BackendGauge]],
    signals: Callable[[], Iterable[SignalGauge]],
) -> Metrics:
    config = loaded.config
    return Metrics(config.models, gauges, TENANTS, loaded.hash, __version__, _reference_names(config), signals)


def _ledger(config: Config, metrics: Metrics) -> Ledger:
    ledger = config.ledger
    return Ledger(
        ledger.path,
        ledger.flush_interval_s,
        ledger.batch_rows,
        ledger.queue_rows,
        dropped=lambda: metrics.ledger_dropped.add(()),
    )


def _forwarded(config: Config) -> frozenset[bytes]:
    """Clients' headers that some service is to get."""
    live = [each for each in config.backends if isinstance(each, LiveBackendConfig)]
    return frozenset(name.encode() for each in live for name in each.forward_headers)
