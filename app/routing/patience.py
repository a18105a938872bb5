"""Waiting a little for somebody cheaper, where there is time to lose. Pure.

A prompt that would hold up others too much (`slo`: harm) now, often would not a moment later: answers grow out of
danger with every token. So where the cheapest backend that keeps every promise is dearer by more than `worth` than one
that is kept out by harm alone, the decision is to look again after `LOOK_AGAIN` of the TTFT promise, as long as no more
than `patience` of that has been spent and somebody would still be in time then.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.routing.plugins import Pick, Turn
from app.routing.slo import remaining
from app.routing.types import Candidate, RouteRequest

LOOK_AGAIN = 0.05


def patient(
    patience: float, worth: float, request: RouteRequest, candidates: Sequence[Candidate], dear: Candidate, turn: Turn
) -> Pick | None:
    """The decision to wait, if that is worth it; `dear` is who would be chosen now."""
    ttft_s = request.slo.ttft_s
    if ttft_s is None or not request.may_hold or request.arrived_ns is None:
        return None
    limit_nusd = dear.prediction.cost_nusd / (1.0 + worth)
    if not any(each.why_not == "harm" and each.prediction.cost_nusd < limit_nusd for each in candidates):
        return None
    wait_s = LOOK_AGAIN * ttft_s
    left_s = remaining(request, turn.now_ns).ttft_s or 0.0
    if ttft_s - left_s + wait_s > patience * ttft_s:
        return None
    if not any(each.feasible and each.prediction.ttft_q90_s + 2.0 * wait_s <= left_s for each in candidates):
        return None
    return Pick(None, "wait", 0.0, (), wait_s)
