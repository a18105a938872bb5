"""Waiting a little for somebody cheaper, where there is time to lose. Pure.

A prompt that would hold up others too much (`slo`: harm) now, often would not a moment later: answers grow out of
danger with every token. So where the cheapest backend that keeps every promise is dearer by more than `worth` than one
that is kept out by harm alone, the decision is to look again after `LOOK_AGAIN` of the TTFT promise, as long as no more
than `patience` of that has been spent and somebody would still be in time then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.routing.plugins import Pick, Turn
from app.routing.types import Candidate, RouteRequest

LOOK_AGAIN = 0.05


def patient(
    patience: float, worth: float, request: RouteRequest, candidates: Sequence[Candidate], dear: Candidate, turn: Turn
) -> Pick | None:
    """The decision to wait, if that is worth it; `dear` is who would be chosen now."""
    limit_nusd = dear.prediction.cost_nusd / (1.0 + worth)
    if not any(each.why_not == "harm" and each.prediction.cost_nusd < limit_nusd for each in candidates):
        return None
    spare = spare_s(patience, request, turn.now_ns)
    if spare is None or not any(in_time(each, spare) for each in candidates):
        return None
    return Pick(None, "wait", 0.0, (), spare.wait_s)


class Spare(NamedTuple):
    """How long a request may wait, and what is left of its TTFT promise now."""

    wait_s: float
    left_s: float


def spare_s(patience: float, request: RouteRequest, now_ns: int) -> Spare | None:
    """What time there is to wait in, if any."""
    ttft_s = request.slo.ttft_s
    if ttft_s is None or not request.may_hold or request.arrived_ns is None:
        return None
    wait_s = LOOK_AGAIN * ttft_s
    spent_s = max(0.0, (now_ns - request.arrived_ns) / 1e9)
    return None if spent_s + wait_s > patience * ttft_s else Spare(wait_s, ttft_s - spent_s)


def in_time(candidate: Candidate, spare: Spare) -> bool:
    """Whether it would still keep its promises after two such waits, for all that is known now."""
    return candidate.feasible and candidate.prediction.ttft_q90_s + 2.0 * spare.wait_s <= spare.left_s
