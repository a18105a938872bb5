"""What a request would take and cost on a backend: the profile's physics, corrected by what was observed.

    wait = pending_prompt_tokens * k  +  [in_flight >= C] * (in_flight - C + 1) * service / C
    TTFT = (network + overhead + k * prompt_tokens + wait) * correction
    TPOT = (d0 + d1 * min(in_flight + n, C)) * correction
    E2E  = TTFT + (completion_tokens_per_choice - 1) * TPOT

The 0.9 quantiles use the same priors times the learned quantile factor. The prior sees only the profile and
this gateway's own count of what is in flight: never an emulator's state (a router of real servers has none).
"""

from __future__ import annotations

from typing import Literal

from app.routing.state import RoutingState
from app.routing.types import BackendView, CostForecast, Prediction, RouteRequest

CostBasis = Literal["reference", "marginal"]


def predict(request: RouteRequest, view: BackendView, state: RoutingState, basis: CostBasis) -> Prediction:
    """Latency (seconds) and cost (nano-USD) of `request` on `view` as things stand."""
    profile = view.profile
    load = state.loads.get(view.name)
    in_flight = load.sequences if load else 0
    choices = request.choices
    limit = profile.max_sequences

    prior_tpot_s = profile.tpot_s(in_flight + choices)
    answer_tokens = request.completion_tokens / choices
    wait_s = 0.0
    if load and profile.prefill != "parallel":
        wait_s = load.pending_prompt_tokens * profile.prefill_s_per_token
    if in_flight + choices > limit:
        ahead = in_flight + choices - limit
        wait_s += ahead * answer_tokens * prior_tpot_s / limit
    prior_ttft_s = profile.network_s + profile.overhead_s + profile.prefill_s_per_token * request.prompt_tokens + wait_s

    corrections = state.corrections.get((view.name, view.model))
    if corrections is None:
        ttft_factor, ttft_q90, tpot_factor, tpot_q90 = 1.0, 1.3, 1.0, 1.3
    else:
        ttft, tpot = corrections
        ttft_factor, ttft_q90, tpot_factor, tpot_q90 = (
            ttft.factor,
            ttft.factor_q90,
            tpot.factor,
            tpot.factor_q90,
        )
    ttft_s = prior_ttft_s * ttft_factor
    tpot_s = prior_tpot_s * tpot_factor
    ttft_q90_s = prior_ttft_s * ttft_q90
    tpot_q90_s = prior_tpot_s * tpot_q90
    steps = max(0.0, answer_tokens - 1.0)
    return Prediction(
        ttft_s,
        ttft_q90_s,
        tpot_s,
        tpot_q90_s,
        ttft_s + steps * tpot_s,
        ttft_q90_s + steps * tpot_q90_s,
        wait_s,
        cost_nusd(request, view.cost, basis),
        prior_ttft_s,
        prior_tpot_s,
    )


def cost_nusd(request: RouteRequest, cost: CostForecast, basis: CostBasis) -> float:
    """Forecast cost of the request in nano-USD, on the basis the operator chose."""
    if basis == "marginal":
        return (
            cost.request_nusd
            + cost.marginal_prompt_nusd * request.prompt_tokens
            + cost.marginal_completion_nusd * request.completion_tokens
        )
    return (
        cost.request_nusd + cost.prompt_nusd * request.prompt_tokens + cost.completion_nusd * request.completion_tokens
    )
