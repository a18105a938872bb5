"""Whether a prediction keeps the promises made: feasibility, how badly it fails, and how much room is left.

    feasible   q90(TTFT) <= SLO (1 - m)  and  q90(TPOT) <= SLO (1 - m)  and  q90(E2E) <= SLO (1 - m)
    violation  0.8 max(0, TTFT/SLO - 1) + 0.2 max(0, TPOT/SLO - 1) + max(0, E2E/SLO - 1)   on the quantiles
    slack      min over promises of (SLO - q90) / SLO

A resident's TPOT promise binds the newcomer too: whoever joins a batch slows everyone in it.
"""

from __future__ import annotations

from typing import NamedTuple

from app.routing.types import Prediction, Slo

TTFT_WEIGHT = 0.8
TPOT_WEIGHT = 0.2
E2E_WEIGHT = 1.0


class Fit(NamedTuple):
    """How a prediction stands against the promises."""

    feasible: bool
    violation: float
    slack: float
    why_not: str


def fit(prediction: Prediction, slo: Slo, resident_tpot_slo_s: float | None, margin: float) -> Fit:
    """Hold a prediction against a request's own SLO and the tightest TPOT promised to residents."""
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
        ratio = prediction.tpot_q90_s / tpot_slo_s
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
    return Fit(not why_not, violation, 1.0 - largest, why_not)
