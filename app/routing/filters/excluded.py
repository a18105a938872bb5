"""Drops a backend that has already been tried for this very request."""

from __future__ import annotations

from app.routing.types import BackendView, Facts, RouteRequest


def concerns(request: RouteRequest, facts: Facts) -> bool:
    """Whether it could reject anything."""
    return bool(request.exclude)


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`already_tried` after a failed attempt."""
    return "already_tried" if view.name in request.exclude else None
