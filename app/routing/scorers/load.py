"""Idle is good: 1 - in_flight / max_sequences, never below 0. Reads: this gateway's own count in flight."""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make() -> Scorer:
    """The scorer, with its reference point."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        return max(0.0, 1.0 - candidate.in_flight / candidate.view.profile.max_sequences)

    return score
