"""Whether a prediction keeps the promises made: feasibility, how badly it fails, and how much room is left.

    feasible   q90(TTFT) <= SLO (1 - m)  and  q90(pace) <= SLO (1 - m)  and  q90(E2E) <= SLO (1 - m)
               and  harm <= min(1, most_harm * prompt tokens / the model's mean * clip(answers seen / 64, 0.2, 1))
    violation  0.8 max(0, TTFT/SLO - 1) + 0.2 max(0, TPOT/SLO - 1) + max(0, E2E/SLO - 1)   on the quantiles
    slack      min over promises of (SLO - q90) / SLO

Time that a request has spent in the gateway already comes off its TTFT and end-to-end promises (`remaining`).
The pace is TPOT beside as much reading of prompts as of late. A resident's TPOT promise binds the newcomer too: whoever
joins a batch slows everyone in it. And whoever's prompt is read beside them holds them up: how many promises to others
are expected to break by that (`predictor`) is the harm. A long prompt may do more of it: what it costs elsewhere, and
so what a broken promise saves, grows with its length, and a fixed number of promises is best spent where each saves
most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import NamedTuple

from app.routing.state import Lengths, Load, RoutingState
from app.routing.types import BackendView, Candidate, Prediction, RouteRequest, Slo

TTFT_WEIGHT = 0.8
TPOT_WEIGHT = 0.2
E2E_WEIGHT = 1.0
MOST_HARM = 0.03
"""How many promises to others a request of the usual length may be expected to break, unless configured otherwise."""

MOST_HARM_LOOKED_AT = 1.0
"""More than that need not be known exactly, since nobody may do more."""

ANSWERS_KNOWN, LEAST_KNOWN = 64, 0.2
"""So many answers tell how long answers are; with fewer less harm is allowed, but never less than a fifth."""

NOTHING_KNOWN = Lengths()

_made = tuple.__new__
"""A NamedTuple's own constructor takes twice as long."""

SPENT_S = 1e-6
"""What is left of a promise whose time has passed: too little for anybody."""


class Fit(NamedTuple):
    """How a prediction stands against the promises."""

    feasible: bool
    violation: float
    slack: float
    why_not: str


def remaining(request: RouteRequest, now_ns: int) -> Slo:
    """The request's promises, less the time since it arrived."""
    slo, arrived_ns = request.slo, request.arrived_ns
    if arrived_ns is None or now_ns <= arrived_ns:
        return slo
    spent_s = (now_ns - arrived_ns) / 1e9
    ttft_s = None if slo.ttft_s is None else max(SPENT_S, slo.ttft_s - spent_s)
    return _made(Slo, (ttft_s, slo.tpot_s, None if slo.e2e_s is None else max(SPENT_S, slo.e2e_s - spent_s)))


def harm_allowed(most_harm: float, request: RouteRequest, state: RoutingState) -> float:
    """How many promises to others this request may be expected to break; few, while little is known of answers."""
    lengths = state.lengths.get(request.model, NOTHING_KNOWN)
    known = min(1.0, max(LEAST_KNOWN, len(lengths.window) / ANSWERS_KNOWN))
    return min(MOST_HARM_LOOKED_AT, most_harm * known * request.prompt_tokens / lengths.prompt_tokens)


def fitted(
    views: Sequence[BackendView],
    predictions: Sequence[Prediction],
    loads: Mapping[str, Load],
    slo: Slo,
    margin: float,
    most_harm: float,
) -> list[Candidate]:
    """Candidates with how each stands. What keeps its promises, as most do, is told by two divisions."""
    allowed, quick = 1.0 - margin, slo.e2e_s is None
    ttft_slo_s, own_tpot_slo_s = slo.ttft_s or inf, slo.tpot_s or inf
    candidates = []
    for place, view in enumerate(views):
        prediction = predictions[place]
        load = loads.get(view.name)
        in_flight, resident_s, tpot_slo_s = 0, None, own_tpot_slo_s
        if load is not None:
            in_flight, resident_s = load.sequences + load.others.sequences, load.tightest_tpot_slo_s
            others_s = load.others.tightest_tpot_slo_s
            if others_s is not None and (resident_s is None or others_s < resident_s):
                resident_s = others_s
            if resident_s is not None and resident_s < tpot_slo_s:
                tpot_slo_s = resident_s
        largest = prediction[1] / ttft_slo_s
        pace = prediction[4] / tpot_slo_s
        if pace > largest:
            largest = pace
        if quick and largest <= allowed and prediction.harm <= most_harm:
            feasible, violation, slack, why_not = True, 0.0, 1.0 - largest, ""
        else:
            feasible, violation, slack, why_not = _standing(prediction, slo, resident_s, margin, most_harm)
        standing = (view, prediction, in_flight, feasible, violation, slack, why_not, ())
        candidates.append(_made(Candidate, standing))
    return candidates


def fit(
    prediction: Prediction, slo: Slo, resident_tpot_slo_s: float | None, margin: float, most_harm: float = MOST_HARM
) -> Fit:
    """Hold a prediction against a request's own SLO and the tightest TPOT promised to residents."""
    return Fit(*_standing(prediction, slo, resident_tpot_slo_s, margin, most_harm))


def _standing(
    prediction: Prediction, slo: Slo, resident_tpot_slo_s: float | None, margin: float, most_harm: float
) -> tuple[bool, float, float, str]:
    """The fields of a `Fit`."""
    allowed = 1.0 - margin
    violation, largest, why_not = 0.0, 0.0, ""

    if slo.ttft_s is not None:
        largest = ratio = prediction.ttft_q90_s / slo.ttft_s
        if ratio > allowed:
            violation = TTFT_WEIGHT * max(0.0, ratio - 1.0)
            why_not = "ttft"
    tpot_slo_s, whose = slo.tpot_s, "tpot"
    if resident_tpot_slo_s is not None and (tpot_slo_s is None or resident_tpot_slo_s < tpot_slo_s):
        tpot_slo_s, whose = resident_tpot_slo_s, "resident_tpot"
    if tpot_slo_s is not None:
        ratio = prediction.pace_q90_s / tpot_slo_s
        if ratio > largest:
            largest = ratio
        if ratio > allowed:
            violation += TPOT_WEIGHT * max(0.0, ratio - 1.0)
            why_not = f"{why_not}+{whose}" if why_not else whose
    if slo.e2e_s is not None:
        ratio = prediction.e2e_q90_s / slo.e2e_s
        if ratio > largest:
            largest = ratio
        if ratio > allowed:
            violation += E2E_WEIGHT * max(0.0, ratio - 1.0)
            why_not = f"{why_not}+e2e" if why_not else "e2e"
    if prediction.harm > most_harm:
        violation += TPOT_WEIGHT * prediction.harm
        why_not = f"{why_not}+harm" if why_not else "harm"
    return not why_not, violation, 1.0 - largest, why_not
