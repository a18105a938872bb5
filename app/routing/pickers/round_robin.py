"""Takes turns, in configuration order, whatever the predictions say. A baseline, and a fair one."""

from __future__ import annotations

from collections.abc import Sequence

from app.routing.plugins import Pick, Picker
from app.routing.types import Candidate, RouteRequest


def make() -> Picker:
    """No parameters."""
    return pick


def pick(request: RouteRequest, candidates: Sequence[Candidate], seed: int, cursor: int) -> Pick:
    """Reason `turn`."""
    return Pick(cursor % len(candidates), "turn", 0.0, cursor + 1)
