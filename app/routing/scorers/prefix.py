"""A prompt read before is good: the share of it that is believed to be in the backend's prefix cache.

Reads: predicted prefix hits.
"""

from __future__ import annotations

from app.routing.plugins import Scorer
from app.routing.types import Candidate, RouteRequest


def make() -> Scorer:
    """No parameters."""

    def score(request: RouteRequest, candidate: Candidate) -> float:
        return candidate.prediction.cached_tokens / max(1, request.prompt_tokens)

    return score
