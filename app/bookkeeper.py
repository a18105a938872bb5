"""Where a request's story becomes figures: a ledger row per attempt or cache hit, one observation per request.

What is billed is decided in `app.metering.cost`, where it goes in `app.metering.meter`; here it is put together from
what the service, the attempt and the wire know.
"""

from __future__ import annotations

from math import inf
from typing import Any, Literal

from app.answers import Answer, LiveAnswer, replayed_usage
from app.cache.base import CachedAnswer
from app.call import Call
from app.dispatch.admission import Admission, Place
from app.dispatch.attempt import Attempt
from app.dispatch.refusals import TURNED_AWAY
from app.errors import ApiError
from app.flights import Source
from app.metering.cost import CostLines
from app.metering.meter import Meter
from app.metering.metrics import Metrics
from app.metering.types import RequestRecord
from app.planning import Plan
from app.routing.types import Decision
from backends import errors
from backends.clock import Clock
from backends.types import Usage

Stage = Literal["cache", "score", "total"]
LookUp = Literal["hit", "stale", "miss"]
SavedKind = Literal["exact", "semantic", "coalesced"]

HTTP_TOO_MANY_REQUESTS = 429
SERVICE_PHASES = ("queue", "prompt", "completion", "total")

Times = tuple[float | None, float | None, float]
"""TTFT, TPOT and end to end, in seconds; None where there is none, or where nobody can tell."""

_NEVER: Times = (inf, inf, inf)

ERROR_REASONS: tuple[tuple[type[errors.BackendError], str], ...] = (
    (errors.RequestRefused, "refused"),
    (errors.Saturated, "saturated"),
    (errors.BackendTimeout, "timeout"),
    (errors.Unavailable, "connect"),
    (errors.StreamCut, "cut_stream"),
)


class Bookkeeper:
    """Turns events of the service into ledger rows and metrics."""

    def __init__(self, meter: Meter, metrics: Metrics, clock: Clock, config_hash: str) -> None:
        self._meter = meter
        self._metrics = metrics
        self._clock = clock
        self._config_hash = config_hash

    def stage(self, stage: Stage, duration_ns: int) -> None:
        """Time the gateway itself took for a part of a request."""
        self._metrics.overhead.observe((stage,), duration_ns / 1e9)

    def decided(self, decision: Decision, duration_ns: int) -> None:
        """A decision that something will be dispatched on."""
        metrics = self._metrics
        self.stage("score", duration_ns)
        for backend, reason in decision.rejected:
            metrics.rejected.add((backend, reason.partition(":")[0]))
        if decision.chosen is None:
            return
        metrics.decisions.add((decision.request.model, decision.chosen.view.name, decision.policy, decision.reason))
        metrics.margin.observe((decision.policy,), decision.margin)
        for candidate in decision.candidates:
            if not candidate.feasible:
                metrics.rejected.add((candidate.view.name, "predicted_slo"))

    def unqueued(self, place: Place, waited_s: float, placed: bool) -> None:
        """A request has left the gateway's queue, for a backend (`placed`) or not."""
        self._metrics.queue_wait.observe((_priority(place.priority), "placed" if placed else "left"), waited_s)

    def cache_lookup(self, model: str, result: LookUp, duration_ns: int) -> None:
        """A look-up in the response cache."""
        self.stage("cache", duration_ns)
        self._metrics.cache_lookups.add(("exact", result, model))
        self._metrics.cache_operation.observe(("get", result), duration_ns / 1e9)

    def hit(self, call: Call, plan: Plan, cached: CachedAnswer, kind: SavedKind = "exact") -> None:
        """An answer from the cache: nothing to pay, something saved."""
        self._saved(call, plan, kind, cached.backend, cached.substrate, cached.usage, cached.cost_nusd)

    def coalesced(self, call: Call, plan: Plan, source: Source) -> None:
        """An answer that was made for somebody else at the same time."""
        backend, substrate = source.made_by
        saved_nusd = None if source.cost is None else source.cost.total_nusd
        self._metrics.cache_lookups.add(("coalesced", "hit", plan.model))
        self._saved(call, plan, "coalesced", backend, substrate, source.usage(), saved_nusd)

    def _saved(
        self,
        call: Call,
        plan: Plan,
        kind: SavedKind,
        backend: str,
        substrate: str,
        usage: Usage,
        saved_nusd: int | None,
    ) -> None:
        result = "hit" if kind == "exact" else kind
        slo = plan.route.slo
        record = RequestRecord(
            request_id=call.request_id,
            attempt=0,
            wall_ns=self._clock.wall_ns(),
            tenant=call.tenant,
            endpoint=call.endpoint,
            stream=call.stream,
            model=plan.model,
            backend=backend,
            substrate=substrate,
            config_hash=self._config_hash,
            outcome="cached",
            reason=result,
            cache=result,
            usage=replayed_usage(usage),
            slo_ttft_s=slo.ttft_s,
            slo_tpot_s=slo.tpot_s,
            slo_e2e_s=slo.e2e_s,
            tags=call.options.tags,
        )
        self._meter.record_hit(record, saved_nusd, kind)

    def settle(self, call: Call, plan: Plan, attempt: Attempt, cache: str) -> CostLines | None:
        """An attempt has ended: bill it. Returns what it cost, None if unknown."""
        decision, slo = attempt.decision, plan.route.slo
        prediction, view = attempt.chosen.prediction, attempt.chosen.view
        started_ns, ended_ns = call.started_ns, attempt.ended_ns or self._clock.now_ns()
        record = RequestRecord(
            request_id=call.request_id,
            attempt=attempt.number,
            wall_ns=self._clock.wall_ns(),
            tenant=call.tenant,
            endpoint=call.endpoint,
            stream=call.stream,
            model=plan.model,
            backend=view.name,
            substrate=view.substrate,
            policy=decision.policy,
            decision_id=decision.id,
            config_hash=self._config_hash,
            outcome=attempt.end or "failed",
            reason=_reason(attempt.error) if attempt.end == "failed" else "hedge" if attempt.lost else decision.reason,
            cache=cache,
            usage=attempt.usage(),
            share=attempt.engine_share(),
            ttft_s=None if attempt.first_token_ns is None else (attempt.first_token_ns - started_ns) / 1e9,
            tpot_s=attempt.tpot_s(),
            e2e_s=(ended_ns - started_ns) / 1e9,
            predicted_ttft_s=prediction.ttft_s,
            predicted_tpot_s=prediction.tpot_s,
            predicted_cost_nusd=prediction.cost_nusd,
            slo_ttft_s=slo.ttft_s,
            slo_tpot_s=slo.tpot_s,
            slo_e2e_s=slo.e2e_s,
            tags=call.options.tags,
        )
        bill = self._meter.record(record)
        self._observe(record, attempt, bill.effective)
        return bill.effective

    def finished(
        self,
        endpoint: str,
        model: str | None,
        call: Call | None,
        answer: Answer | None,
        error: ApiError | None,
        status: int,
        took_ns: int,
        sending_ns: int,
    ) -> None:
        """A request has been answered, one way or another; `sending_ns` is how long its reader kept us waiting."""
        metrics = self._metrics
        label = metrics.model(model)
        if call is not None and model is not None and call.model != model:
            metrics.aliases.add((call.model, model))
        tenant = metrics.tenant("default" if call is None else call.tenant)
        metrics.requests.add((label, tenant, endpoint, str(status)))
        if status == 499:
            phase = "before_first_token" if answer is None else "streaming"
            metrics.disconnects.add((phase,))
        if status in (429, 503):
            code = None if error is None else error.error_code
            why = code if code in TURNED_AWAY else "overload" if status == 429 else "no_backend"
            metrics.rejections.add((tenant, why))
        self._judge(label, call, answer, error, took_ns)
        if answer is None or call is None:
            return
        backend = "" if answer.decision is None or answer.decision.chosen is None else answer.decision.chosen.view.name
        metrics.duration.observe((label, backend, "true" if call.stream else "false"), took_ns / 1e9)
        self.stage("total", took_ns - answer.waited_ns - sending_ns)

    def _observe(self, record: RequestRecord, attempt: Attempt, cost: CostLines | None) -> None:
        metrics, backend = self._metrics, record.backend or ""
        labels = (record.model, backend)
        if energy_j := attempt.energy_j():
            where = (record.model, backend, record.substrate or "", metrics.tenant(record.tenant))
            metrics.energy.add(where, round(energy_j * 1e9))
        if record.ttft_s is not None:
            metrics.ttft.observe(labels, record.ttft_s)
        if attempt.flight.why == "hedge":
            metrics.hedges.add((backend, "lost" if attempt.lost else "failed" if record.outcome == "failed" else "won"))
        elif attempt.number > 1:
            metrics.retries.add((backend, attempt.flight.why))
        if times := attempt.service_times():
            for phase, took_s in zip(SERVICE_PHASES, times, strict=True):
                if took_s is not None:
                    metrics.service.observe((backend, phase), took_s)
        if record.usage.estimated:
            metrics.estimated_usage.add((backend,))
        if record.outcome == "failed":
            metrics.upstream_errors.add((backend, record.reason))
        if record.outcome != "ok":
            return
        usage = record.usage
        metrics.request_tokens.observe((record.model, "prompt"), usage.prompt_tokens + usage.cached_tokens)
        metrics.request_tokens.observe((record.model, "completion"), usage.completion_tokens)
        if record.tpot_s is not None:
            metrics.tpot.observe(labels, record.tpot_s)
        for quantity, predicted, actual in (
            ("ttft", record.predicted_ttft_s, record.ttft_s),
            ("tpot", record.predicted_tpot_s, record.tpot_s),
            ("cost", record.predicted_cost_nusd, None if cost is None else cost.total_nusd),
        ):
            if predicted is not None and actual:
                metrics.prediction.observe((backend, quantity), predicted / actual)

    def _judge(
        self, model: str, call: Call | None, answer: Answer | None, error: ApiError | None, took_ns: int
    ) -> None:
        """Which promises were kept. One that was not made is not counted, nor one to a client that left early or
        asked for what cannot be; a request that failed or was turned away kept none."""
        if call is None:
            return
        actual: Times | None
        if answer is None:
            if error is None or error.decision is None or error.status < HTTP_TOO_MANY_REQUESTS:
                return
            slo, actual = error.decision.request.slo, _NEVER
        else:
            slo, actual = answer.slo, _times(answer, call.started_ns, took_ns)
        if actual is None:
            return
        for objective, promised_s, actual_s in zip(("ttft", "tpot", "e2e"), slo, actual, strict=True):
            if promised_s is not None and actual_s is not None:
                self._metrics.slo.add((model, objective, "good" if actual_s <= promised_s else "bad"))


def _times(answer: Answer, started_ns: int, took_ns: int) -> Times | None:
    """What an answer took; None if its client did not stay for it."""
    if not isinstance(answer, LiveAnswer):
        return took_ns / 1e9, None, took_ns / 1e9
    attempt = answer.attempt
    if attempt.end == "failed":
        return _NEVER
    if attempt.end != "ok" or attempt.ended_ns is None:
        return None
    ttft_s = None if attempt.first_token_ns is None else (attempt.first_token_ns - started_ns) / 1e9
    return ttft_s, attempt.tpot_s(), (attempt.ended_ns - started_ns) / 1e9


def depth_by_class(queue: Admission[Any] | None) -> dict[str, int]:
    """How many requests wait, by the class of their priority."""
    depth = {"high": 0, "normal": 0, "low": 0}
    for priority, waiting in ({} if queue is None else queue.depth()).items():
        depth[_priority(priority)] += waiting
    return depth


def _priority(priority: int) -> str:
    """A label from a closed set: clients choose among 201 numbers."""
    return "high" if priority > 0 else "normal" if priority == 0 else "low"


def _reason(error: errors.BackendError | None) -> str:
    """Why an attempt failed; `error` is also what a bug is."""
    return next((reason for kind, reason in ERROR_REASONS if isinstance(error, kind)), "error")
