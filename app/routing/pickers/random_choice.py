"""Any of them, each as likely. A baseline to compare with."""

from __future__ import annotations

from collections.abc import Sequence

from app.routing.draws import one_of
from app.routing.plugins import Pick, Picker, Turn
from app.routing.types import Candidate, RouteRequest


def make() -> Picker:
    """No parameters."""
    return pick


def pick(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
    """Reason `drawn`."""
    return Pick(one_of(range(len(candidates)), turn.seed), "drawn" if len(candidates) > 1 else "only_candidate")
