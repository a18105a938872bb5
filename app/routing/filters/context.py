"""Drops a backend whose context cannot hold the longest prompt and at least one token of answer.

The prompt's length is an estimate here; a backend that counts exactly may still refuse.
"""

from __future__ import annotations

from app.routing.types import BackendView, Facts, RouteRequest

ESTIMATE_TOLERANCE = 1.3
"""The estimate may be this much too high before a prompt that really fits is turned away."""


def concerns(request: RouteRequest, facts: Facts) -> bool:
    """Whether it could reject anything."""
    return request.longest_prompt_tokens >= facts.shortest_context_tokens * ESTIMATE_TOLERANCE


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`context` when a prompt is too long even if the estimate is 30 % too high."""
    if request.longest_prompt_tokens < view.context_tokens * ESTIMATE_TOLERANCE:
        return None
    return "context"
