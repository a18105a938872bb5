"""Drops a backend that has already been tried for this very request."""

from __future__ import annotations

from app.routing.types import BackendView, RouteRequest


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`already_tried` after a failed attempt."""
    return "already_tried" if view.name in request.exclude else None
