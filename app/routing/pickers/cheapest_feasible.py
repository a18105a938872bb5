"""The default: cheapest backend whose predicted 0.9 quantiles keep every promise.

Some feasible: c* = the smallest forecast cost; among those within `band` (3 %) of c*, two are drawn and the one
with more slack wins (power of two choices: several gateways that see the same state do not all pile onto one).
None feasible: the smallest violation; within 2 % of it the cheaper one. Reads: feasible, violation, slack, cost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.routing.plugins import Pick, Picker
from app.routing.types import Candidate, RouteRequest

VIOLATION_BAND = 1.02


def make(band: float = 0.03) -> Picker:
    """`band` is the relative cost difference that does not matter."""

    def pick(request: RouteRequest, candidates: Sequence[Candidate], seed: int, cursor: int) -> Pick:
        feasible = [index for index, candidate in enumerate(candidates) if candidate.feasible]
        if not feasible:
            return _least_violation(candidates)
        costs = [candidates[index].prediction.cost_nusd for index in feasible]
        limit = min(costs) * (1.0 + band)
        tied = [index for index, cost in zip(feasible, costs, strict=True) if cost <= limit]
        if len(tied) > 2:
            tied = random.Random(seed).sample(tied, 2)
        winner = max(tied, key=lambda index: candidates[index].slack)
        if len(feasible) == 1:
            return Pick(winner, "only_feasible" if len(candidates) > 1 else "only_candidate", 0.0)
        reason = "cheapest_feasible" if len(tied) == 1 else "more_slack"
        return Pick(winner, reason, _saving(candidates, feasible, winner))

    return pick


def _saving(candidates: Sequence[Candidate], feasible: Sequence[int], winner: int) -> float:
    """How much dearer the next cheapest feasible backend would be, relative to the winner."""
    cost = candidates[winner].prediction.cost_nusd
    next_cost = min(candidates[index].prediction.cost_nusd for index in feasible if index != winner)
    return max(0.0, next_cost / cost - 1.0) if cost > 0 else 0.0


def _least_violation(candidates: Sequence[Candidate]) -> Pick:
    limit = min(candidate.violation for candidate in candidates) * VIOLATION_BAND
    near = [index for index, candidate in enumerate(candidates) if candidate.violation <= limit]
    winner = min(near, key=lambda index: candidates[index].prediction.cost_nusd)
    return Pick(winner, "least_violation", 0.0)
