"""Fast to the last token is good: s_ref / (s_ref + E2E), with s_ref = `ref_s`. Reads: predicted end-to-end time."""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make(ref_s: float = 5.0) -> Scorer:
    """The scorer, with its reference point."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        return ref_s / (ref_s + candidate.prediction.e2e_s)

    return score
