"""Drops a backend that the operator has drained."""

from __future__ import annotations

from app.routing.types import BackendView, RouteRequest


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`drained` when no new request may go there."""
    return "drained" if view.drained else None
