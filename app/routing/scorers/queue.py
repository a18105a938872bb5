"""SGLang's cache-aware cost: (prompt tokens to be read) x (requests there + 1); s = ref / (ref + that).

`ref_tokens` is the product that scores one half. Reads: predicted prefix hits, this gateway's own count in flight.
"""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make(ref_tokens: float = 4096.0) -> Scorer:
    """The scorer, with its reference point."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        unread = request.prompt_tokens - candidate.prediction.cached_tokens
        return ref_tokens / (ref_tokens + unread * (candidate.in_flight + 1))

    return score
