"""Cheap is good: c_ref / (c_ref + cost), with c_ref = `ref_usd` (that cost scores 0.5).

Reads: forecast cost.
"""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make(ref_usd: float = 0.001) -> Scorer:
    """The scorer, with its reference point."""
    ref_nusd = ref_usd * 1e9

    def score(request: RouteRequest, candidate: Candidate) -> float:
        return ref_nusd / (ref_nusd + candidate.prediction.cost_nusd)

    return score
