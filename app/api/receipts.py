"""The receipt: a decision as JSON, for `x-turnout-debug`, dry runs, /admin/decisions and `turnout explain`."""

from __future__ import annotations

from typing import Any

from app.routing.types import Candidate, Decision


def receipt(decision: Decision) -> dict[str, Any]:
    """Every candidate with what was predicted of it, who was rejected and why, who won and why."""
    request = decision.request
    chosen = decision.chosen
    return {
        "id": decision.id,
        "config": decision.config_hash,
        "policy": decision.policy,
        "seed": decision.seed,
        "chosen": None if chosen is None else chosen.view.name,
        "substrate": None if chosen is None else chosen.view.substrate,
        "reason": decision.reason,
        "margin": decision.margin,
        "request": {
            "model": request.model,
            "alias": request.alias,
            "prompt_tokens": request.prompt_tokens,
            "completion_tokens": request.completion_tokens,
            "max_completion_tokens": request.max_completion_tokens,
            "choices": request.choices,
            "max_cost_usd": None if request.max_cost_nusd is None else request.max_cost_nusd / 1e9,
            "slo": {
                "ttft_s": request.slo.ttft_s,
                "tpot_s": request.slo.tpot_s,
                "e2e_s": request.slo.e2e_s,
            },
        },
        "candidates": [_candidate(candidate) for candidate in decision.candidates],
        "rejected": [{"backend": name, "reason": reason} for name, reason in decision.rejected],
        "dearer": list(decision.dearer),
        "propensity": decision.propensity,
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    view, prediction = candidate.view, candidate.prediction
    return {
        "backend": view.name,
        "substrate": view.substrate,
        "in_flight": candidate.in_flight,
        "feasible": candidate.feasible,
        "why_not": candidate.why_not,
        "violation": candidate.violation,
        "slack": candidate.slack,
        "predicted": {
            "ttft_s": prediction.ttft_s,
            "ttft_q90_s": prediction.ttft_q90_s,
            "tpot_s": prediction.tpot_s,
            "tpot_q90_s": prediction.tpot_q90_s,
            "pace_q90_s": prediction.pace_q90_s,
            "e2e_s": prediction.e2e_s,
            "wait_s": prediction.wait_s,
            "warm_up_s": prediction.warm_up_s,
            "cached_tokens": prediction.cached_tokens,
            "harm": prediction.harm,
            "cost_usd": prediction.cost_nusd / 1e9,
        },
        "scores": dict(candidate.scores),
        "calibrated": view.calibrated,
        "price_assumed": view.cost.assumed,
    }
