"""Little energy is good: j_ref / (j_ref + joules), with j_ref = `ref_j`; unknown power scores 0.

Reads: joules per token, estimated from what the chips draw (TDP). Source: docs/emulator.md.
"""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make(ref_j: float = 500.0) -> Scorer:
    """The scorer, with its reference point."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        energy = candidate.view.energy
        if energy is None:
            return 0.0
        unread = request.prompt_tokens - candidate.prediction.cached_tokens
        return ref_j / (ref_j + energy.prompt_j * unread + energy.completion_j * request.completion_tokens)

    return score
