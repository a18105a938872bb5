"""Drops a backend that lacks something the request needs (tools, JSON schema, images, ...)."""

from __future__ import annotations

from app.routing.types import BackendView, Facts, RouteRequest


def concerns(request: RouteRequest, facts: Facts) -> bool:
    """Whether it could reject anything."""
    return bool(request.capabilities)


def reject(request: RouteRequest, view: BackendView) -> str | None:
    """`unsupported:<names>` when a needed capability is missing."""
    if request.capabilities <= view.capabilities:
        return None
    return "unsupported:" + ",".join(sorted(request.capabilities - view.capabilities))
