"""The declared quality of a deployment, from 0 to 1. Reads: `quality` in the configuration."""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make() -> Scorer:
    """No parameters."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        return candidate.view.quality

    return score
