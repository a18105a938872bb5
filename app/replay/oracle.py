"""The oracle: the same policy, with the engine's own forecast in the predictor's place. It bounds what better
prediction could bring; it is not called optimal.

For a request being decided it forks each engine as it is at that moment and runs the copy ahead, without noise and
without further arrivals, with the answer's true length. Candidates are tried in order of cost; once one keeps every
promise, those more than `BAND` dearer cannot win under `cheapest-slo` (it takes the cheapest feasible, and looks at
slack only within its 3 % band), so they are not run ahead but given `NEVER`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from app.replay.formats import Arrival
from app.replay.stage import Server
from app.routing.predictor import Forecast
from app.routing.state import RoutingState
from app.routing.types import BackendView, Prediction, RouteRequest
from backends.emulator.fork import forecast

BAND = 0.03
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

    def predict(
        self, request: RouteRequest, views: Sequence[BackendView], state: RoutingState, now_ns: int
    ) -> list[Prediction]:
        """What would become of the request at each of the views, in their order."""
        asked = self.asked
        assert asked is not None, "whose decision it is was not said"
        predictions = list(
            self._usual(request._replace(completion_tokens=asked.completion_tokens), views, state, now_ns)
        )
        limit_nusd = inf
        for place in sorted(range(len(views)), key=lambda place: predictions[place].cost_nusd):
            usual, name = predictions[place], views[place].name
            if usual.cost_nusd > limit_nusd:
                predictions[place] = _with(usual, NEVER_S, NEVER_S)
                continue
            ahead = predictions[place] = _with(usual, *self._ahead(asked, self._servers[name], now_ns))
            if limit_nusd == inf and self._keeps(ahead, request, state, name):
                limit_nusd = usual.cost_nusd * (1.0 + BAND)
        return predictions

    def _keeps(self, prediction: Prediction, request: RouteRequest, state: RoutingState, name: str) -> bool:
        """Whether every promise would be kept, those made to requests already there included."""
        slo, load, allowed = request.slo, state.loads.get(name), self._allowed
        resident_s = None if load is None else load.tightest_tpot_slo_s
        return (
            (slo.ttft_s is None or prediction.ttft_s <= slo.ttft_s * allowed)
            and (slo.tpot_s is None or prediction.tpot_s <= slo.tpot_s * allowed)
            and (resident_s is None or prediction.tpot_s <= resident_s * allowed)
            and (slo.e2e_s is None or prediction.e2e_s <= slo.e2e_s * allowed)
        )

    def _ahead(self, asked: Arrival, server: Server, now_ns: int) -> tuple[float, float]:
        """(TTFT, TPOT) in seconds there, from now on."""
        engine = server.engine
        length = min(asked.completion_tokens, server.context_tokens - asked.prompt_tokens)
        demand = engine.demand()
        if length < 1 or server.down or (demand and demand + 1 > server.room):
            return NEVER_S, NEVER_S
        engine.advance(now_ns)
        prefix = server.prefix(asked.blocks, asked.prompt_tokens)
        first_ns, ended_ns = forecast(engine, now_ns, asked.prompt_tokens, (length,), prefix)
        return (first_ns - now_ns) / 1e9, (ended_ns - first_ns) / 1e9 / (length - 1) if length > 1 else 0.0


def _with(usual: Prediction, ttft_s: float, tpot_s: float) -> Prediction:
    return usual._replace(
        ttft_s=ttft_s, ttft_q90_s=ttft_s, tpot_s=tpot_s, tpot_q90_s=tpot_s, prior_ttft_s=ttft_s, prior_tpot_s=tpot_s
    )
