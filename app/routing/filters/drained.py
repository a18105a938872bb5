"""Drops a backend that the operator has drained."""

from __future__ import annotations

from app.routing.types import BackendView, Facts, RouteRequest


def concerns(request: RouteRequest, facts: Facts) -> bool:
    """Whether it could reject anything."""
    return facts.any_drained


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`drained` when no new request may go there."""
    return "drained" if view.drained else None
