"""vLLM's metrics, by its names and with its meaning, on a registry of their own.

Families, labels and buckets follow vLLM's V1 engine (`vllm/v1/metrics/loggers.py`), so that boards and gateways made
for it find what they look for. All labels are `model_name` and `engine` (always "0") unless said otherwise. Times
are the engine's: with `--time-scale` a second here passes faster than a second outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from app.metering.cells import Buckets, Cells
from app.metering.metrics import counter_family, histogram_family
from backends.types import BackendSnapshot

LABELS = ("model_name", "engine")
FINISHED = ("stop", "length", "abort")
TTFT_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0,
)  # fmt: skip
"""vLLM's, and three finer ones below: the fastest silicon makes a token in less than its first bucket."""

REQUEST_S = (
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0,
    1920.0, 7680.0,
)  # fmt: skip


class VllmMetrics:
    """The families. `engine` is asked for the engine's own gauges and counters at every scrape."""

    def __init__(
        self,
        model: str,
        context_tokens: int,
        cache_config: Mapping[str, str],
        engine: Callable[[], BackendSnapshot],
    ) -> None:
        self.labels = (model, "0")
        self._counters: list[Cells] = []
        self._histograms: list[Buckets] = []
        self._declare_counters()
        self._declare_histograms(_one_two_five(context_tokens))
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Exported(self, cache_config, engine))

    def finished(self, reason: str) -> None:
        """A choice has ended: `stop`, `length`, or `abort` for one whose client left."""
        self.success.add((*self.labels, reason))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def families(self) -> Iterator[Metric]:
        """Counters and histograms, in order of declaration."""
        yield from map(counter_family, self._counters)
        yield from map(histogram_family, self._histograms)

    def _counter(self, name: str, documentation: str, labels: tuple[str, ...] = LABELS) -> Cells:
        cells = Cells(name, documentation, labels)
        self._counters.append(cells)
        return cells

    def _histogram(self, name: str, documentation: str, bounds: tuple[float, ...]) -> Buckets:
        buckets = Buckets(name, documentation, LABELS, bounds)
        buckets.observe(self.labels, 0.0, times=0)
        self._histograms.append(buckets)
        return buckets

    def _declare_counters(self) -> None:
        add = self._counter
        self.prompt_tokens = add("vllm:prompt_tokens", "Prompt tokens processed")
        self.generation_tokens = add("vllm:generation_tokens", "Tokens generated")
        for cells in (self.prompt_tokens, self.generation_tokens):
            cells.add(self.labels, 0)
        self.success = add("vllm:request_success", "Requests by how they ended", (*LABELS, "finished_reason"))
        for reason in FINISHED:
            self.success.add((*self.labels, reason), 0)
        self.faults = add("turnout_emulate_faults", "Requests that went wrong on demand", (*LABELS, "kind"))

    def _declare_histograms(self, tokens: tuple[float, ...]) -> None:
        add = self._histogram
        self.ttft = add("vllm:time_to_first_token_seconds", "From arrival to first token", TTFT_S)
        self.inter_token = add("vllm:inter_token_latency_seconds", "Between two tokens of a request", TOKEN_S)
        self.time_per_token = add("vllm:time_per_output_token_seconds", "inter_token_latency by its old name", TOKEN_S)
        self.request_time_per_token = add(
            "vllm:request_time_per_output_token_seconds", "(last - first token) / (n - 1) of a request", TOKEN_S
        )
        self.e2e = add("vllm:e2e_request_latency_seconds", "From arrival to last token", REQUEST_S)
        self.queue = add("vllm:request_queue_time_seconds", "From arrival to first scheduled", REQUEST_S)
        self.prefill = add("vllm:request_prefill_time_seconds", "From first scheduled to first token", REQUEST_S)
        self.decode = add("vllm:request_decode_time_seconds", "From first to last token", REQUEST_S)
        self.inference = add("vllm:request_inference_time_seconds", "From first scheduled to last token", REQUEST_S)
        self.request_prompt = add("vllm:request_prompt_tokens", "Prompt tokens of a request", tokens)
        self.request_generation = add("vllm:request_generation_tokens", "Generated tokens of a request", tokens)


class _Exported(Collector):
    """Everything, as the exposition wants it."""

    def __init__(
        self,
        metrics: VllmMetrics,
        cache_config: Mapping[str, str],
        engine: Callable[[], BackendSnapshot],
    ) -> None:
        self._metrics = metrics
        self._cache_config = cache_config
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """Every family, gauges first."""
        now, labels = self._engine(), self._metrics.labels
        for name, documentation, value in (
            ("vllm:num_requests_running", "Sequences in the running batch", now.running),
            ("vllm:num_requests_waiting", "Requests that wait to be scheduled", now.waiting),
            ("vllm:kv_cache_usage_perc", "Share of the KV cache in use; 1 = all of it", now.kv_used_ratio),
        ):
            gauge = GaugeMetricFamily(name, documentation, labels=LABELS)
            gauge.add_metric(labels, value)
            yield gauge
        for name, documentation, count in (
            ("vllm:num_preemptions", "Sequences put back into the queue", now.preemptions),
            ("vllm:prefix_cache_queries", "Prefix cache queries, in tokens", now.prefix_queries_tokens),
            ("vllm:prefix_cache_hits", "Prefix cache hits, in tokens", now.prefix_hits_tokens),
        ):
            cells = Cells(name, documentation, LABELS)
            cells.add(labels, count)
            yield counter_family(cells)
        yield from self._metrics.families()
        info = GaugeMetricFamily(
            "vllm:cache_config_info", "Information of the cache config", labels=(*self._cache_config, "engine")
        )
        info.add_metric((*self._cache_config.values(), labels[1]), 1)
        yield info


def _one_two_five(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, ... up to `most`, as vLLM buckets token counts."""
    bounds: list[float] = []
    decade = 1
    while True:
        for step in (1, 2, 5):
            if step * decade > most:
                return tuple(bounds)
            bounds.append(step * decade)
        decade *= 10
