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
from functools import partial
from math import inf

from app.routing.draws import by_lot, two_of
from app.routing.field import Field
from app.routing.hysteresis import Hysteresis, settled
from app.routing.overload import OverloadRules, none_feasible
from app.routing.patience import in_time, patient, spare_s
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
            own = candidates[winner].prediction.cost_nusd
            return Pick(winner, _alone(candidates, turn), _saving((own,), own, turn.next_nusd), note)
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
        return Pick(winner, reason, _saving(costs, costs[feasible.index(winner)], turn.next_nusd), note)

    if hysteresis is None:  # whom that holds back is known only when all have been looked at
        pick.seek = partial(_seek, band, stay, patience, worth if patience else inf)  # type: ignore[attr-defined]
    return pick


def _seek(
    band: float, stay: float, patience: float, worth: float, request: RouteRequest, field: Field, turn: Turn
) -> None:
    """In order of price until one keeps every promise. Of those that may win then: the incumbent, if it is near enough,
    and those tied, in the order of their lots, until two keep every promise. Where it may be worth waiting for somebody
    cheaper, instead, until one would be in time after that too."""
    order, costs = field.order, field.costs_nusd
    for rank, place in enumerate(order):  # noqa: B007
        if field.look(place).feasible:
            break
    else:
        return
    cheapest = costs[place]
    near = cheapest * (1.0 + stay)
    rest = order[rank + 1 :]
    if any(each.why_not == "harm" and each.prediction.cost_nusd * (1.0 + worth) < cheapest for each in field.looked):
        spare = spare_s(patience, request, turn.now_ns)
        if spare is not None:
            for other in (place, *rest):
                if in_time(field.look(other), spare):
                    return
    if not rest or costs[rest[0]] > near * (1.0 + band):
        return
    base = cheapest
    incumbent = turn.state.sticky.get(f"incumbent:{turn.key}:{request.slo_class}")
    if incumbent is not None and field.views[place].name != incumbent:
        for other in _up_to(near, rest, costs):
            if field.views[other].name == incumbent and field.look(other).feasible:
                base = costs[other]
    limit = base * (1.0 + band)
    tied = [place, *_up_to(limit, rest, costs)]
    kept = 0
    for other in tied if len(tied) <= 2 else by_lot(tied, turn.seed, [field.views[each].salt for each in tied]):
        kept += field.look(other).feasible
        if kept == 2:
            return


def _up_to(limit_nusd: float, places: Sequence[int], costs: Sequence[float]) -> Sequence[int]:
    """Those that cost no more, of places in order of it."""
    for rank, place in enumerate(places):
        if costs[place] > limit_nusd:
            return places[:rank]
    return places


def _alone(candidates: Sequence[Candidate], turn: Turn) -> str:
    """Why the only feasible one of those looked at was taken."""
    if turn.next_nusd is not None:
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


def _saving(costs: Sequence[float], own: float, next_nusd: float | None) -> float:
    """How much dearer the next cheapest backend would be that keeps every promise (or may, not having been looked at),
    relative to the winner."""
    others = sorted(costs)
    others.remove(own)
    other = min(others[0] if others else inf, inf if next_nusd is None else next_nusd)
    return max(0.0, other / own - 1.0) if own > 0.0 and other < inf else 0.0
