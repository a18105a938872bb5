"""The oracle: the same policy, with the engine's own forecast in the predictor's place. It bounds what better
prediction could bring; it is not called optimal.

For a request being decided it forks each engine as it is at that moment and runs the copy ahead, without noise and
without further arrivals, with the true lengths of the request's answer and of everyone's who is there already. Whoever
joins slows the others: if a promise to one of them, which would be kept without the newcomer, would be broken with it,
the prediction says so (`harm`). Candidates are tried in order of
cost; once one keeps every promise, those more than `BAND` dearer cannot win under `cheapest-slo` (it takes the cheapest
feasible, or stays with one up to 5 % dearer, and looks at slack only within 3 % of that), so they are not run ahead but
given `NEVER_S`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf

from app.replay.formats import Arrival
from app.replay.stage import Server
from app.routing.predictor import Forecast
from app.routing.slo import remaining
from app.routing.state import RoutingState
from app.routing.types import BackendView, Prediction, RouteRequest, Slo
from backends.emulator.fork import Fate, forecast_all, residents
from backends.emulator.jobs import Job

Promised = Callable[[Job], tuple[int, Slo] | None]
"""When the request of an engine's job arrived (ns), and what it was promised; None of one that is not known."""

RESIDENTS_ROOM = 0.98
"""Noise is still to come: a promise to a resident counts as kept up to this share of it."""

BAND = 0.09
NEVER_S = 1e6
"""Longer than any promise; finite, because violations are computed from it."""


class Oracle:
    """`predict` stands in for the forecast `usual`, from which only costs are taken (of the answer's true length);
    `asked` is the request it is asked about."""

    def __init__(self, servers: Mapping[str, Server], usual: Forecast, margin: float) -> None:
        self._servers = servers
        self._usual = usual
        self._allowed = 1.0 - margin
        self.asked: Arrival | None = None
        self.promised: Promised = lambda job: None

    def predict(
        self, request: RouteRequest, views: Sequence[BackendView], state: RoutingState, now_ns: int
    ) -> list[Prediction]:
        """What would become of the request at each of the views, in their order."""
        asked = self.asked
        assert asked is not None, "whose decision it is was not said"
        predictions = list(
            self._usual(request._replace(completion_tokens=asked.completion_tokens), views, state, now_ns)
        )
        limit_nusd, slo = inf, remaining(request, now_ns)
        for place in sorted(range(len(views)), key=lambda place: predictions[place].cost_nusd):
            usual, name = predictions[place], views[place].name
            if usual.cost_nusd > limit_nusd:
                predictions[place] = _with(usual, NEVER_S, NEVER_S)
                continue
            ahead = predictions[place] = self._ahead(usual, asked, slo, self._servers[name], now_ns)
            if limit_nusd == inf and self._keeps(ahead, slo, state, name):
                limit_nusd = usual.cost_nusd * (1.0 + BAND)
        return predictions

    def _keeps(self, prediction: Prediction, slo: Slo, state: RoutingState, name: str) -> bool:
        """Whether every promise would be kept, those made to requests already there included."""
        load, allowed = state.loads.get(name), self._allowed
        resident_s = None if load is None else load.tightest_tpot_slo_s
        return (
            prediction.harm == 0.0
            and (slo.ttft_s is None or prediction.ttft_s <= slo.ttft_s * allowed)
            and (slo.tpot_s is None or prediction.tpot_s <= slo.tpot_s * allowed)
            and (resident_s is None or prediction.tpot_s <= resident_s * allowed)
            and (slo.e2e_s is None or prediction.e2e_s <= slo.e2e_s * allowed)
        )

    def _ahead(self, usual: Prediction, asked: Arrival, slo: Slo, server: Server, now_ns: int) -> Prediction:
        """What would become of the request there, from now on."""
        engine = server.engine
        length = min(asked.completion_tokens, server.context_tokens - asked.prompt_tokens)
        demand = engine.demand()
        if length < 1 or server.down or (demand and demand + 1 > server.room):
            return _with(usual, NEVER_S, NEVER_S)
        engine.advance(now_ns)
        prefix = server.prefix(asked.blocks, asked.prompt_tokens)

        def latest_ns(job: Job, first_token_ns: int) -> float:
            """When a request must have ended if its promise, or the newcomer's own, is to be kept."""
            promised = self.promised(job)
            if promised is None:
                return _latest_ns(now_ns, slo, first_token_ns, length, self._allowed)
            return _latest_ns(*promised, first_token_ns, job.lengths[0], RESIDENTS_ROOM)

        fate, others = forecast_all(engine, now_ns, asked.prompt_tokens, (length,), prefix, latest_ns)
        ttft_s, tpot_s = _times(fate, now_ns, length)
        worst = self._worst(server, others)
        if worst > 1.0:
            return _with(usual, ttft_s, tpot_s, harm=worst)
        return _with(usual, ttft_s, tpot_s)

    def _worst(self, server: Server, others: Mapping[Job, Fate]) -> float:
        """By how much a resident's promise would be broken that could be kept; at most 1 = none."""
        broken = [(job, ratio) for job, fate in others.items() if (ratio := self._ratio(job, fate)) > RESIDENTS_ROOM]
        if not broken:
            return 0.0
        without = residents(server.engine)
        savable = [ratio for job, ratio in broken if self._ratio(job, without[job]) <= 1.0 and ratio > RESIDENTS_ROOM]
        return max(savable, default=0.0) / RESIDENTS_ROOM

    def _ratio(self, job: Job, fate: Fate) -> float:
        """The largest share that a request takes of what it was promised."""
        promised = self.promised(job)
        if promised is None:
            return 0.0
        arrived_ns, slo = promised
        ttft_s, tpot_s = _times(fate, arrived_ns, job.lengths[0])
        return max(
            0.0 if slo.ttft_s is None else ttft_s / slo.ttft_s,
            0.0 if slo.tpot_s is None else tpot_s / slo.tpot_s,
            0.0 if slo.e2e_s is None else (fate.ended_ns - arrived_ns) / 1e9 / slo.e2e_s,
        )


def _latest_ns(arrived_ns: int, slo: Slo, first_token_ns: int, length: int, allowed: float) -> float:
    """The end that keeps every promise but that of the first token, if that is kept; 0 if it is not."""
    if slo.ttft_s is not None and first_token_ns - arrived_ns > slo.ttft_s * allowed * 1e9:
        return 0.0
    paced_ns = inf if slo.tpot_s is None else first_token_ns + slo.tpot_s * allowed * 1e9 * (length - 1)
    return min(paced_ns, inf if slo.e2e_s is None else arrived_ns + slo.e2e_s * allowed * 1e9)


def _times(fate: Fate, from_ns: int, length: int) -> tuple[float, float]:
    """(TTFT, TPOT) in seconds."""
    tpot_s = (fate.ended_ns - fate.first_token_ns) / 1e9 / (length - 1) if length > 1 else 0.0
    return (fate.first_token_ns - from_ns) / 1e9, tpot_s


def _with(usual: Prediction, ttft_s: float, tpot_s: float, harm: float = 0.0) -> Prediction:
    return usual._replace(
        ttft_s=ttft_s,
        ttft_q90_s=ttft_s,
        tpot_s=tpot_s,
        tpot_q90_s=tpot_s,
        pace_q90_s=tpot_s,
        prior_ttft_s=ttft_s,
        prior_tpot_s=tpot_s,
        harm=harm,
    )
