"""What to do when no backend is predicted to keep the promise: bend it a little, or choose who must wait. Pure.

Equalising lateness is the worst answer to overload: once every backend is a little late, every request is. So:

    no one could keep it even idle     the promise is at fault: the least violation
    V_min <= v_max, and lenience left  the least violation; lenience is a bucket of `lenience` requests that fills by
                                       `lenient_share` of one with every decision without a feasible backend
    priority < 0                       shed (429), with a predicted time to come back
    it may wait                        held in the gateway's queue: decided on again when a place comes free
    priority 0, it has waited          shed: a late answer would cost others theirs
    priority > 0, it must be served    sacrificed: the backend that violates most already takes it, so that the others
                                       stay able to keep their promises; one that is cold only if all are

V is `slo.fit`'s violation. Source: simulated in research (least violation kept 23 % of promises at twice the capacity,
shedding 87 %, sacrifice 75 %); the priority rule is llm-d's, holding is Dynamo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.routing.plugins import Pick, Turn
from app.routing.slo import fit, remaining
from app.routing.types import Candidate, RouteRequest

VIOLATION_BAND = 1.02
SHORTEST_RETRY_S, LONGEST_RETRY_S = 0.1, 30.0


@dataclass(frozen=True, slots=True)
class OverloadRules:
    """How far promises may be bent."""

    v_max: float = 0.25
    lenient_share: float = 0.1
    lenience: float = 10.0


def none_feasible(rules: OverloadRules, request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
    """Who takes the request, if anybody does now."""
    least = min(candidate.violation for candidate in candidates)
    if _impossible(request, candidates, turn):
        return Pick(_least_violation(candidates, least), "least_violation")
    credit = min(rules.lenience, turn.note("lenience", rules.lenience) + rules.lenient_share)
    name = f"lenience:{turn.key}"
    if least <= rules.v_max and credit >= 1.0:
        return Pick(_least_violation(candidates, least), "least_violation", 0.0, ((name, credit - 1.0),))
    kept = ((name, credit),)
    if request.priority < 0:
        return Pick(None, "shed", 0.0, kept, retry_after_s(candidates))
    if request.may_hold:
        return Pick(None, "hold", 0.0, kept, retry_after_s(candidates))
    if request.priority <= 0:
        return Pick(None, "shed", 0.0, kept, retry_after_s(candidates))
    worst = max(range(len(candidates)), key=lambda place: _sacrifice(candidates[place]))
    return Pick(worst, "overflow", 0.0, kept)


def retry_after_s(candidates: Sequence[Candidate]) -> float:
    """When the first queue is predicted to have drained."""
    soonest = min(candidate.prediction.wait_s + candidate.prediction.warm_up_s for candidate in candidates)
    return min(LONGEST_RETRY_S, max(SHORTEST_RETRY_S, soonest))


def _sacrifice(candidate: Candidate) -> tuple[bool, float]:
    return not candidate.prediction.warm_up_s, candidate.violation


def _least_violation(candidates: Sequence[Candidate], least: float) -> int:
    """The cheapest of those within 2 % of the least."""
    near = [place for place, candidate in enumerate(candidates) if candidate.violation <= least * VIOLATION_BAND]
    return min(near, key=lambda place: candidates[place].prediction.cost_nusd)


def _impossible(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> bool:
    """Whether every backend would miss the promise with nobody else there."""
    slo = remaining(request, turn.now_ns)
    for candidate in candidates:
        profile, prediction = candidate.view.profile, candidate.prediction
        alone_tpot_s = min(prediction.prior_tpot_s, profile.tpot_s(request.choices))
        alone_ttft_s = prediction.prior_ttft_s
        if candidate.in_flight:
            alone_ttft_s -= prediction.wait_s + prediction.prior_tpot_s
        warm_up_s = prediction.warm_up_s  # with nobody there it would have to warm up nonetheless
        warm_q90_s = prediction.ttft_q90_s - warm_up_s
        alone = prediction._replace(
            harm=0.0,
            ttft_q90_s=warm_up_s + warm_q90_s * max(0.0, alone_ttft_s) / (prediction.prior_ttft_s or 1.0),
            tpot_q90_s=prediction.tpot_q90_s * alone_tpot_s / (prediction.prior_tpot_s or 1.0),
            pace_q90_s=prediction.pace_q90_s * alone_tpot_s / (prediction.prior_tpot_s or 1.0),
        )
        if not fit(alone, slo, None, 0.0).violation:
            return False
    return True
