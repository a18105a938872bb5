"""Takes the highest weighted score; exact ties are drawn by the decision's seed, never always the first."""

from __future__ import annotations

import random
from collections.abc import Sequence

from app.routing.plugins import Pick, Picker, Turn
from app.routing.types import Candidate, RouteRequest

BY_SCORE = True
"""This picker needs scorers; one without this mark does not look at them."""


def make() -> Picker:
    """No parameters."""
    return pick


def pick(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
    """Reason `best_score`; the margin is (best - second) / second."""
    if len(candidates) == 1:
        return Pick(0, "only_candidate", 0.0)
    totals = [sum(value for _, value in candidate.scores) for candidate in candidates]
    best = max(totals)
    tied = [index for index, total in enumerate(totals) if total == best]
    winner = tied[0] if len(tied) == 1 else random.Random(turn.seed).choice(tied)
    runner_up = max(total for index, total in enumerate(totals) if index != winner)
    margin = (best - runner_up) / runner_up if runner_up > 0 else 0.0
    return Pick(winner, "best_score", margin)
