"""Takes turns, in configuration order, whatever the predictions say. A baseline, and a fair one."""

from __future__ import annotations

from collections.abc import Sequence

from app.routing.plugins import Pick, Picker, Turn
from app.routing.types import Candidate, RouteRequest


def make() -> Picker:
    """No parameters."""
    return pick


def pick(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
    """Reason `turn`."""
    cursor = int(turn.note("cursor", 0))
    return Pick(cursor % len(candidates), "turn", 0.0, ((f"cursor:{turn.key}", cursor + 1),))
