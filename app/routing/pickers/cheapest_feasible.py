"""The default: cheapest backend whose predicted 0.9 quantiles keep every promise.

Some feasible: c* = the smallest forecast cost, or the incumbent's (whoever was chosen last for this model and SLO
class) if it is feasible and no more than `stay` (5 %) above that; among those within `band` (3 %) of c*, two are drawn
and the one with more slack wins (power of two choices: several gateways that see the same state do not all pile onto
one).
None feasible: `overload`. Where the winner is far dearer than one that is kept out by harm alone: `patience`.
Reads: feasible, violation, slack, cost.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.routing.draws import two_of
from app.routing.hysteresis import Hysteresis, settled
from app.routing.overload import OverloadRules, none_feasible
from app.routing.patience import patient
from app.routing.plugins import Pick, Picker, Turn
from app.routing.types import Candidate, RouteRequest


def make(
    band: float = 0.03,
    stay: float = 0.05,
    v_max: float = 0.25,
    lenient_share: float = 0.1,
    lenience: float = 10.0,
    patience: float = 0.85,
    worth: float = 0.25,
    back_on: float = 1.0,
    dwell_s: float = 0.0,
) -> Picker:
    """`band` is the relative cost difference that does not matter, `stay` the saving that is worth a change, `worth`
    the one that is worth waiting for, for up to `patience` of the TTFT promise; `back_on` and `dwell_s` are
    `hysteresis`'s (1 and 0: none)."""
    rules = OverloadRules(v_max, lenient_share, lenience)
    hysteresis = Hysteresis(back_on, dwell_s) if back_on < 1.0 or dwell_s else None

    def pick(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
        feasible = [place for place, candidate in enumerate(candidates) if candidate.feasible]
        if not feasible:
            return none_feasible(rules, request, candidates, turn)
        if hysteresis is None:
            return among(request, candidates, feasible, turn)
        still, notes = settled(hysteresis, request, candidates, turn)
        made = among(request, candidates, still or feasible, turn)
        return made._replace(sticky=(*made.sticky, *notes))

    def among(request: RouteRequest, candidates: Sequence[Candidate], feasible: Sequence[int], turn: Turn) -> Pick:
        name = f"incumbent:{turn.key}:{request.slo_class}"
        incumbent = turn.state.sticky.get(name)
        if patience and len(feasible) < len(candidates):
            dear = min([candidates[place] for place in feasible], key=lambda each: each.prediction.cost_nusd)
            if (later := patient(patience, worth, request, candidates, dear, turn)) is not None:
                return later
        if len(feasible) == 1:
            winner = feasible[0]
            note = () if candidates[winner].view.name == incumbent else ((name, candidates[winner].view.name),)
            return Pick(winner, _alone(candidates, turn), 0.0, note)
        costs = [candidates[place].prediction.cost_nusd for place in feasible]
        base = min(costs)
        if incumbent is not None:
            base = _or_the_incumbents(candidates, feasible, costs, base, base * (1.0 + stay), incumbent)
        limit = base * (1.0 + band)
        tied = [place for place, cost in zip(feasible, costs, strict=True) if cost <= limit]
        if len(tied) == 1:
            winner, reason = tied[0], "cheapest_feasible"
        else:
            first, second = two_of(tied, turn.seed, [candidate.view.salt for candidate in candidates])
            winner = second if candidates[second].slack > candidates[first].slack else first
            reason = "more_slack"
        note = () if candidates[winner].view.name == incumbent else ((name, candidates[winner].view.name),)
        return Pick(winner, reason, _saving(costs, costs[feasible.index(winner)]), note)

    pick.reach = (1.0 + stay) * (1.0 + band)  # type: ignore[attr-defined]  # who is dearer than that cannot win
    return pick


def _alone(candidates: Sequence[Candidate], turn: Turn) -> str:
    """Why the only feasible one of those looked at was taken."""
    if turn.dearer:
        return "cheapest_feasible"
    return "only_feasible" if len(candidates) > 1 else "only_candidate"


def _or_the_incumbents(
    candidates: Sequence[Candidate],
    feasible: Sequence[int],
    costs: Sequence[float],
    cheapest: float,
    limit: float,
    incumbent: object,
) -> float:
    """What whoever was chosen last would cost, if that is feasible and not too dear."""
    for place, cost in zip(feasible, costs, strict=True):
        if cost <= limit and candidates[place].view.name == incumbent:
            return cost
    return cheapest


def _saving(costs: Sequence[float], own: float) -> float:
    """How much dearer the next cheapest feasible backend would be, relative to the winner."""
    ranked = sorted(costs)
    other = ranked[1] if ranked[0] == own else ranked[0]
    return max(0.0, other / own - 1.0) if own > 0 else 0.0
