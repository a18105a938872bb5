"""Drops a backend whose forecast exceeds the ceiling the client set with `x-turnout-max-cost-usd`.

The forecast is on the reference basis and for the 0.75 quantile of answer lengths: what costs more in the end after all
is recorded, not cut.
"""

from __future__ import annotations

from app.routing.types import BackendView, Facts, RouteRequest


def concerns(request: RouteRequest, facts: Facts) -> bool:
    """Whether it could reject anything."""
    return request.max_cost_nusd is not None


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`over_max_cost` when an answer as long as three in four would cost more than the ceiling."""
    if request.max_cost_nusd is None:
        return None
    cost = view.cost
    answer_nusd = cost.completion_nusd * max(request.completion_tokens, request.completion_tokens_q75)
    forecast_nusd = cost.request_nusd + cost.prompt_nusd * request.prompt_tokens + answer_nusd
    return None if forecast_nusd <= request.max_cost_nusd else "over_max_cost"
