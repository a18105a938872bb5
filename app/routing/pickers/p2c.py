"""Power of two choices by load: two are drawn, the one with the smaller share of its slots taken wins.

Reads: this gateway's own count in flight. Source: Mitzenmacher, "The Power of Two Choices in Randomized Load
Balancing", 2001.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.routing.draws import two_of
from app.routing.plugins import Pick, Picker, Turn
from app.routing.types import Candidate, RouteRequest


def make() -> Picker:
    """No parameters."""
    return pick


def pick(request: RouteRequest, candidates: Sequence[Candidate], turn: Turn) -> Pick:
    """Reason `less_loaded`."""
    if len(candidates) == 1:
        return Pick(0, "only_candidate")
    drawn = two_of(range(len(candidates)), turn.seed, [candidate.view.salt for candidate in candidates])
    return Pick(min(drawn, key=lambda place: _taken(candidates[place])), "less_loaded")


def _taken(candidate: Candidate) -> float:
    return candidate.in_flight / candidate.view.profile.max_sequences
