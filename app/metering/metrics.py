"""Every Prometheus metric: name, unit, labels, buckets. The only importer of prometheus_client.

Names and label sets are documented in docs/metrics.md; a test holds the two together. Label values come from
closed sets (configured models and backends, declared tenants); anything else becomes `other` and is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from app.metering.cells import Buckets, Cells
from app.metering.types import SharingStatus

LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 640)
TTFT_S = (0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40)
TPOT_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2.5)
OVERHEAD_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
RATIO = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 4, 10)
MARGIN = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2)

OTHER = "other"
MONEY = ("model", "backend", "substrate", "tenant", "kind")


class BackendGauge(NamedTuple):
    """What is read of a backend at scrape time. Chip seconds are engine time times chips; `breaker` is 0 closed,
    1 half-open, 2 open; `gate` why it gets nothing just now; `warmth` is 0 cold, 1 warming, 2 warm, None = never cold;
    `slots` how many requests its cap allows this process and how many it has, None = no cap."""

    backend: str
    substrate: str
    in_flight: int
    waiting: int
    busy_chip_ns: int
    provisioned_chip_ns: int
    capacity_nusd: int | None
    energy_j: float | None
    breaker: int = 0
    gate: str | None = None
    ejections: int = 0
    warmth: int | None = None
    slots: tuple[int, int] | None = None


class SignalGauge(NamedTuple):
    """What the monitor knows of a backend: whether it answers pings (None = not yet known), and how old that is."""

    backend: str
    substrate: str
    up: bool | None
    ages_s: Mapping[str, float]


class Metrics:
    """The registry and its families. `backends()` and `signals()` are asked at every scrape."""

    def __init__(
        self,
        models: Iterable[str],
        backends: Callable[[], Iterable[BackendGauge]],
        tenants: Iterable[str],
        config_hash: str,
        version: str,
        references: Mapping[str, str],
        signals: Callable[[], Iterable[SignalGauge]] = tuple,
    ) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._models = frozenset(models)
        self._tenants = frozenset(tenants)
        self._counters: list[Cells] = []
        self._histograms: list[Buckets] = []
        self._declare_counters()
        self._declare_histograms()
        self.held: Callable[[], Mapping[str, int]] = dict
        """How many requests wait in the gateway, by priority class; set by whoever has the queue."""
        self.sharing: Callable[[], SharingStatus | None] = lambda: None
        """How sharing with other processes goes; set by whoever shares."""
        self.reload_ok = True
        self.reloaded_wall_ns = 0
        self.config_hash = config_hash
        self.references = references
        self.registry.register(_Exported(self, self._counters, self._histograms, backends, signals, version))

    def configured(self, models: Iterable[str], config_hash: str, references: Mapping[str, str]) -> None:
        """Another configuration holds. Names that are gone stay: requests for them may still be in flight."""
        self._models |= frozenset(models)
        self.config_hash = config_hash
        self.references = references

    def reloaded(self, wall_ns: int) -> None:
        """The configuration in the files is the one that runs."""
        self.reload_ok, self.reloaded_wall_ns = True, wall_ns

    def not_reloaded(self) -> None:
        """The configuration in the files could not be taken over."""
        self.reload_ok = False

    def reload_gauges(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        """Prometheus' own names for how its last reload went."""
        ok = GaugeMetricFamily("turnout_config_last_reload_successful", "Whether the last reload was taken over")
        ok.add_metric((), self.reload_ok)
        when = GaugeMetricFamily(
            "turnout_config_last_reload_success_timestamp_seconds", "When a configuration was last taken over"
        )
        when.add_metric((), self.reloaded_wall_ns / 1e9)
        return ok, when

    def model(self, name: str | None) -> str:
        """The label value for a model a client asked for; None where the request was not understood."""
        if name in self._models:
            return name
        if name is not None:
            self.label_overflow.add(("model",))
        return OTHER

    def tenant(self, name: str) -> str:
        """The label value for a tenant."""
        if name in self._tenants:
            return name
        self.label_overflow.add(("tenant",))
        return OTHER

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type: OpenMetrics if the scraper accepts it, else the text format."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def names(self) -> set[str]:
        """Every family's name as documented: counters end in `_total`."""
        return {family.name + ("_total" if family.type == "counter" else "") for family in self.registry.collect()}

    def _counter(self, name: str, documentation: str, labels: tuple[str, ...], scale: float = 1.0) -> Cells:
        cells = Cells(f"turnout_{name}", documentation, labels, scale)
        self._counters.append(cells)
        return cells

    def _histogram(self, name: str, documentation: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> Buckets:
        buckets = Buckets(f"turnout_{name}", documentation, labels, bounds)
        self._histograms.append(buckets)
        return buckets

    def _declare_counters(self) -> None:
        add, nusd = self._counter, 1e-9
        self.requests = add(
            "requests", "Requests by HTTP status; 499 = client gone", ("model", "tenant", "endpoint", "code")
        )
        self.aliases = add("alias_requests", "Requests for an alias, and the model each went to", ("alias", "model"))
        self.tokens = add("tokens", "Tokens by disjoint kind; prompt = uncached", MONEY)
        self.cost = add("cost_usd", "Effective cost: list price, or share of busy chip-hours", MONEY, nusd)
        self.list_cost = add("list_cost_usd", "The same tokens at the backend's public list price", MONEY, nusd)
        self.reference_cost = add("reference_cost_usd", "The same tokens on the model's reference backend", MONEY, nusd)
        self.energy = add(
            "energy_estimate_joules",
            "Estimated energy of busy engine time: TDP x 0.7 x share of it",
            ("model", "backend", "substrate", "tenant"),
            1e-9,
        )
        self.unpriced = add("unpriced_requests", "Attempts whose cost is unknown (not zero)", ("model", "backend"))
        self.estimated_usage = add("estimated_usage", "Attempts whose tokens were not told but counted", ("backend",))
        self.wasted = add("wasted_cost_usd", "Paid for, not delivered", ("backend", "reason"), nusd)
        self.cache_lookups = add("cache_lookups", "Cache look-ups", ("kind", "result", "model"))
        self.cache_saved = add("cache_saved_usd", "What cache hits would have cost", ("kind", "model"), nusd)
        self.cache_saved_tokens = add("cache_saved_tokens", "Tokens cache hits did not generate", ("kind", "model"))
        self.slo = add("slo_requests", "Requests by promise kept", ("model", "objective", "result"))
        self.decisions = add("decisions", "Decisions", ("model", "backend", "policy", "reason"))
        self.rejected = add("candidates_rejected", "Backends that could not win, and why", ("backend", "reason"))
        self.upstream_errors = add("upstream_errors", "Failed attempts", ("backend", "reason"))
        self.monitor_failures = add("monitor_failures", "Pings and scrapes without an answer", ("backend", "signal"))
        self.retries = add("retries", "Attempts beyond a request's first", ("backend", "reason"))
        self.hedges = add("hedges", "Second backends asked beside a slow first, by how it ended", ("backend", "result"))
        self.disconnects = add("client_disconnects", "Clients that left early", ("phase",))
        self.rejections = add("rejections", "Requests turned away", ("tenant", "reason"))
        self.reloads = add("config_reloads", "Reloads by what came of them", ("result",))
        self.sharing_errors = add("shared_state_errors", "Operations on the shared state that failed", ("operation",))
        self.ledger_dropped = add("ledger_dropped_rows", "Ledger rows lost because the queue was full", ())
        self.label_overflow = add("label_overflow", "Label values outside their closed set", ("label",))

    def _declare_histograms(self) -> None:
        add = self._histogram
        by_model = ("model", "backend")
        self.duration = add("request_duration_seconds", "End to end", (*by_model, "stream"), LATENCY_S)
        self.ttft = add("time_to_first_token_seconds", "From request received to first token", by_model, TTFT_S)
        self.tpot = add("time_per_output_token_seconds", "(last - first) / (n - 1)", by_model, TPOT_S)
        self.overhead = add("overhead_seconds", "What the gateway adds", ("stage",), OVERHEAD_S)
        self.queue_wait = add("queue_wait_seconds", "Time in the gateway's queue", ("priority", "result"), LATENCY_S)
        self.service = add("service_seconds", "What a real service says it took", ("backend", "phase"), LATENCY_S)
        self.request_tokens = add("request_tokens", "Length mix", ("model", "kind"), TOKENS)
        self.cache_operation = add("cache_operation_duration_seconds", "Cache operations", ("op", "result"), OVERHEAD_S)
        self.prediction = add("prediction_ratio", "Predicted / actual", ("backend", "quantity"), RATIO)
        self.margin = add("decision_margin_ratio", "How far behind the runner-up was", ("policy",), MARGIN)


def counter_family(cells: Cells) -> CounterMetricFamily:
    """Cells as the exposition wants them."""
    family = CounterMetricFamily(cells.name, cells.documentation, labels=cells.labels)
    for labels, value in cells.items():
        family.add_metric(labels, value * cells.scale)
    if not cells.labels and not cells.items():
        family.add_metric((), 0.0)
    return family


def histogram_family(buckets: Buckets) -> HistogramMetricFamily:
    """Buckets as the exposition wants them."""
    bounds = [*map(floatToGoString, buckets.bounds), "+Inf"]
    family = HistogramMetricFamily(buckets.name, buckets.documentation, labels=buckets.labels)
    for labels, counts, total in buckets.items():
        family.add_metric(labels, list(zip(bounds, counts, strict=True)), total)
    return family


class _Exported(Collector):
    """Cells, backend gauges and info, as the exposition wants them."""

    def __init__(
        self,
        metrics: Metrics,
        counters: Iterable[Cells],
        histograms: Iterable[Buckets],
        backends: Callable[[], Iterable[BackendGauge]],
        signals: Callable[[], Iterable[SignalGauge]],
        version: str,
    ) -> None:
        self._signals = signals
        self._metrics = metrics
        self._counters = tuple(counters)
        self._histograms = tuple(histograms)
        self._backends = backends
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every family, in a stable order."""
        yield from map(counter_family, self._counters)
        yield from map(histogram_family, self._histograms)
        backends = list(self._backends())
        yield from _backend_families(backends)
        yield from _health_families(backends)
        held = GaugeMetricFamily("turnout_held_requests", "Requests waiting in the gateway", labels=("priority",))
        for priority, waiting in self._metrics.held().items():
            held.add_metric((priority,), waiting)
        yield held
        yield from self._signal_families()
        yield from _sharing_families(self._metrics.sharing())
        yield _info("turnout_config_info", "The running configuration", {"hash": self._metrics.config_hash})
        yield _info("turnout_build_info", "The running version", {"version": self._version})
        yield from self._metrics.reload_gauges()
        reference = GaugeMetricFamily(
            "turnout_reference_info", "Which backend a model's reference price is of", labels=("model", "backend")
        )
        for model, backend in self._metrics.references.items():
            reference.add_metric((model, backend), 1)
        yield reference

    def _signal_families(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("turnout_backend_up", "Whether it answers pings", labels=("backend", "substrate"))
        age = GaugeMetricFamily(
            "turnout_state_age_seconds", "Since a live backend last told", labels=("backend", "signal")
        )
        for each in self._signals():
            if each.up is not None:
                up.add_metric((each.backend, each.substrate), each.up)
            for signal, age_s in each.ages_s.items():
                age.add_metric((each.backend, signal), age_s)
        yield from (up, age)


def _backend_families(backends: Iterable[BackendGauge]) -> Iterator[Metric]:
    labels = ("backend", "substrate")
    inflight = GaugeMetricFamily("turnout_inflight_requests", "Sequences in flight", labels=("backend",))
    queued = GaugeMetricFamily("turnout_queue_depth", "Requests waiting at the backend", labels=("backend",))
    provisioned = CounterMetricFamily("turnout_backend_provisioned_chip_seconds", "Chip time bought", labels=labels)
    busy = CounterMetricFamily("turnout_backend_busy_chip_seconds", "Chip time used", labels=labels)
    capacity = CounterMetricFamily(
        "turnout_backend_capacity_cost_usd", "What was bought; idle = this minus cost", labels=labels
    )
    energy = CounterMetricFamily(
        "turnout_backend_energy_estimate_joules", "Estimated from TDP and utilisation, idle included", labels=labels
    )
    for backend in backends:
        where = (backend.backend, backend.substrate)
        inflight.add_metric((backend.backend,), backend.in_flight)
        queued.add_metric((backend.backend,), backend.waiting)
        if backend.capacity_nusd is not None:
            provisioned.add_metric(where, backend.provisioned_chip_ns / 1e9)
            busy.add_metric(where, backend.busy_chip_ns / 1e9)
            capacity.add_metric(where, backend.capacity_nusd / 1e9)
        if backend.energy_j is not None:
            energy.add_metric(where, backend.energy_j)
    yield from (inflight, queued, provisioned, busy, capacity, energy)


def _health_families(backends: Iterable[BackendGauge]) -> Iterator[Metric]:
    breaker = GaugeMetricFamily("turnout_breaker_state", "0 closed, 1 half-open, 2 open", labels=("backend",))
    gated = GaugeMetricFamily("turnout_backend_gated", "Gets nothing just now, and why", labels=("backend", "reason"))
    warmth = GaugeMetricFamily("turnout_backend_warmth", "0 cold, 1 warming up, 2 warm", labels=("backend",))
    slots = GaugeMetricFamily(
        "turnout_backend_slots", "Requests at a time that max_in_flight allows here", labels=("backend", "kind")
    )
    ejections = CounterMetricFamily("turnout_ejections", "Times a backend was shut as an outlier", labels=("backend",))
    for backend in backends:
        breaker.add_metric((backend.backend,), backend.breaker)
        ejections.add_metric((backend.backend,), backend.ejections)
        if backend.gate is not None:
            gated.add_metric((backend.backend, backend.gate), 1)
        if backend.warmth is not None:
            warmth.add_metric((backend.backend,), backend.warmth)
        if backend.slots is not None:
            allowed, used = backend.slots
            slots.add_metric((backend.backend, "allowed"), allowed)
            slots.add_metric((backend.backend, "used"), used)
    yield from (breaker, gated, ejections, warmth, slots)


def _sharing_families(status: SharingStatus | None) -> Iterator[Metric]:
    """Families without a sample where nothing is shared."""
    up = GaugeMetricFamily("turnout_shared_state_up", "Whether the shared state answered the last time")
    processes = GaugeMetricFamily("turnout_shared_state_processes", "Gateway processes that told of late")
    age = GaugeMetricFamily("turnout_shared_state_age_seconds", "How old the oldest of the others' rows is")
    if status is not None:
        up.add_metric((), status.up)
        processes.add_metric((), status.processes)
        age.add_metric((), status.oldest_row_s)
    yield from (up, processes, age)


def _info(name: str, documentation: str, labels: Mapping[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), 1)
    return family
