"""Asking, now and then, a backend of which little is known: bounded in share, in cost, and in whom it may hurt. Pure.

With probability epsilon a decision goes to a backend that has not been asked for `stale_s`, or fewer than 20 times in
effect, instead of the one picked: without it a backend once found slow would stay without traffic, and so without the
observations that could rehabilitate it. Never to one that would have to warm up for it. Only requests of priority 0 or
below; only where the promise is kept by the expected (not the 0.9 quantile) latency, unless the priority is negative;
and the extra cost of a minute stays below `usd_per_minute`. The propensity of the choice is on the receipt, so that
what was logged can be evaluated offline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.routing.draws import uniform
from app.routing.plugins import Pick, Turn
from app.routing.slo import fit, remaining
from app.routing.state import RoutingState
from app.routing.types import Candidate, RouteRequest

FEW = 20.0
MINUTE_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Exploration:
    """How much may be explored."""

    epsilon: float = 0.01
    usd_per_minute: float = 0.01
    stale_s: float = 60.0


def draws(rules: Exploration, seed: int) -> bool:
    """Whether a decision is one of those that may explore."""
    return uniform(seed) < rules.epsilon


def explored(
    rules: Exploration, request: RouteRequest, candidates: Sequence[Candidate], turn: Turn, pick: Pick
) -> tuple[Pick, float]:
    """The pick, or another in its place, and the probability with which it came about."""
    if not draws(rules, turn.seed) or request.priority > 0 or len(candidates) < 2 or pick.position is None:
        return pick, 1.0
    unknown = _unknown(rules, request, candidates, turn)
    if not unknown:
        return pick, 1.0
    place = unknown[int(uniform(~turn.seed) * len(unknown))]
    propensity = rules.epsilon / len(unknown)
    if place == pick.position:
        return pick, 1.0 - rules.epsilon + propensity
    extra_nusd = candidates[place].prediction.cost_nusd - candidates[pick.position].prediction.cost_nusd
    minute, spent_nusd = float(turn.now_ns // MINUTE_NS), 0.0
    if turn.note("explore-minute", -1.0) == minute:
        spent_nusd = turn.note("explore-spent", 0.0)
    spent_nusd += max(0.0, extra_nusd)
    if spent_nusd > rules.usd_per_minute * 1e9:
        return pick, 1.0
    notes = (*pick.sticky, (f"explore-minute:{turn.key}", minute), (f"explore-spent:{turn.key}", spent_nusd))
    return Pick(place, "explored", 0.0, notes), propensity


def _unknown(rules: Exploration, request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> list[int]:
    slo = remaining(request, turn.now_ns)
    found = []
    for place, candidate in enumerate(candidates):
        if candidate.prediction.warm_up_s or not _little_known(turn.state, candidate, turn.now_ns, rules.stale_s):
            continue
        prediction = candidate.prediction
        hopeful = prediction._replace(
            ttft_q90_s=prediction.ttft_s, tpot_q90_s=prediction.tpot_s, pace_q90_s=prediction.tpot_s
        )
        load = turn.state.loads.get(candidate.view.name)
        resident_s = None if load is None else load.tightest_tpot_slo_s
        if request.priority < 0 or not fit(hopeful, slo, resident_s, 0.0).violation:
            found.append(place)
    return found


def _little_known(state: RoutingState, candidate: Candidate, now_ns: int, stale_s: float) -> bool:
    learned = state.learned.get(candidate.view.key)
    if learned is None:
        return True
    pool = learned.ttft.pool
    return pool.effective_samples(now_ns) < FEW or now_ns - pool.seen_ns > stale_s * 1e9
