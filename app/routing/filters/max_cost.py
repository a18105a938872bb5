"""Drops a backend whose forecast exceeds the ceiling the client set with `x-turnout-max-cost-usd`."""

from __future__ import annotations

from app.routing.predictor import cost_nusd
from app.routing.types import BackendView, RouteRequest


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`over_max_cost` when the reference forecast is above the ceiling."""
    if request.max_cost_nusd is None:
        return None
    if cost_nusd(request, view.cost, "reference") <= request.max_cost_nusd:
        return None
    return "over_max_cost"
