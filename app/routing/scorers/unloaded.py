"""Fast to the last token when nobody else is there: s_ref / (s_ref + E2E of the profile alone). Reads: the profile.

With `max_score` it always takes the fastest silicon, however long its queue: a baseline.
"""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make(ref_s: float = 5.0) -> Scorer:
    """The scorer, with its reference point."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        profile = candidate.view.profile
        ttft_s = profile.network_s + profile.overhead_s + profile.prefill_s_per_token * request.prompt_tokens
        return ref_s / (ref_s + ttft_s + candidate.prediction.steps * profile.tpot_s(request.choices))

    return score
