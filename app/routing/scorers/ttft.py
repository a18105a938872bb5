"""Quick to the first token is good: s_ref / (s_ref + TTFT), with s_ref = `ref_s`. Reads: predicted TTFT."""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make(ref_s: float = 0.5) -> Scorer:
    """The scorer, with its reference point."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        return ref_s / (ref_s + candidate.prediction.ttft_s)

    return score
