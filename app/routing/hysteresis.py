"""Not changing one's mind with every request: a backend found full stays out until it is clearly not. Pure.

A Schmitt trigger for each deployment and SLO class: it turns off when a typical request of the class finds the promise
out of reach there (q90 / SLO > 1 - m), and on again below `back_on` of that, after at least `dwell_s`. A request far
longer than the class's mean says nothing of the class, so it turns nothing off; and a prompt that would harm others
(`slo`: harm) is about that prompt, not about the backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.routing.plugins import Turn
from app.routing.types import Candidate, RouteRequest, Sticky

TYPICAL = 1.5
"""Up to this many times the mean prompt a request is typical of its class."""


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """How much better it must have become, and how long that takes at least."""

    back_on: float = 0.85
    dwell_s: float = 2.0


def settled(
    rules: Hysteresis, request: RouteRequest, candidates: Sequence[Candidate], turn: Turn
) -> tuple[list[int], Sticky]:
    """Places of the feasible candidates that are not held back, and notes to keep."""
    typical = request.prompt_tokens <= TYPICAL * turn.state.length(request.model).prompt_tokens
    sticky, notes, feasible = turn.state.sticky, [], []
    for place, candidate in enumerate(candidates):
        name = f"off:{turn.key}:{candidate.view.name}:{request.slo_class}"
        off_ns = float(sticky.get(name, 0.0))
        if not candidate.feasible:
            if typical and not off_ns and candidate.why_not != "harm":
                notes.append((name, float(turn.now_ns)))
            continue
        if off_ns:
            if turn.now_ns - off_ns < rules.dwell_s * 1e9 or 1.0 - candidate.slack > rules.back_on:
                continue
            notes.append((name, 0.0))
        feasible.append(place)
    return feasible, tuple(notes)
