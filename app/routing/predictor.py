"""What a request would take and cost on a backend: the profile's physics, corrected by what was observed.

    wait = pending_prompt_tokens * k  +  max(0, in_flight + n - C) * service / C
    TTFT = (network + overhead + k * prompt_tokens + wait) * correction
    TPOT = (d0 + d1 * min(in_flight + n, C)) * correction
    E2E  = TTFT + (completion_tokens_per_choice - 1) * TPOT

The 0.9 quantiles use the same priors times the learned quantile factor. The prior sees only the profile and
this gateway's own count of what is in flight: never an emulator's state (a router of real servers has none).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from app.routing.state import PRIOR_Q90, RoutingState
from app.routing.types import BackendView, CostForecast, Prediction, RouteRequest

CostBasis = Literal["reference", "marginal"]
Forecast = Callable[[RouteRequest, Sequence[BackendView], RoutingState, int], Sequence[Prediction]]
"""(request, views, state, now_ns) -> a prediction for each view, in order."""

UNCORRECTED = (1.0, PRIOR_Q90, 1.0, PRIOR_Q90)


def predictor(request: RouteRequest, state: RoutingState, basis: CostBasis) -> Callable[[BackendView], Prediction]:
    """A function from a backend to what `request` would take (seconds) and cost (nano-USD) there, as things stand.

    What belongs to the request is looked up once: with 10 candidates that is a fifth of a decision's time.
    """
    prompt_tokens, choices = request.prompt_tokens, request.choices
    answer_tokens = request.completion_tokens / choices
    steps = max(0.0, answer_tokens - 1.0)
    loads, corrections = state.loads, state.corrections

    def predict(view: BackendView) -> Prediction:
        profile, name = view.profile, view.name
        k, limit = profile.prefill_s_per_token, profile.max_sequences
        load = loads.get(name)
        wait_s = 0.0
        sequences = choices
        if load is not None:
            sequences += load.sequences
            if profile.prefill != "parallel":
                wait_s = load.pending_prompt_tokens * k
        over = sequences - limit
        decoding = limit if over > 0 else sequences
        tpot = profile.decode_base_s + profile.decode_s_per_sequence * decoding
        if over > 0:
            wait_s += over * answer_tokens * tpot / limit
        ttft = profile.network_s + profile.overhead_s + k * prompt_tokens + wait_s

        learned = corrections.get((name, view.model))
        if learned is None:
            ttft_factor, ttft_q90, tpot_factor, tpot_q90 = UNCORRECTED
        else:
            first, later = learned
            ttft_factor, ttft_q90 = first.factor, first.factor_q90
            tpot_factor, tpot_q90 = later.factor, later.factor_q90
        return Prediction(
            ttft * ttft_factor,
            ttft * ttft_q90,
            tpot * tpot_factor,
            tpot * tpot_q90,
            steps,
            wait_s,
            cost_nusd(request, view.cost, basis),
            ttft,
            tpot,
        )

    return predict


def forecaster(basis: CostBasis) -> Forecast:
    """The forecast every policy uses, costs on the given basis (seconds, nano-USD)."""

    def forecast(
        request: RouteRequest, views: Sequence[BackendView], state: RoutingState, now_ns: int
    ) -> list[Prediction]:
        return [*map(predictor(request, state, basis), views)]

    return forecast


def predict(request: RouteRequest, view: BackendView, state: RoutingState, basis: CostBasis) -> Prediction:
    """One prediction, for whoever needs only one."""
    return predictor(request, state, basis)(view)


def cost_nusd(request: RouteRequest, cost: CostForecast, basis: CostBasis) -> float:
    """Forecast cost of the request in nano-USD, on the basis the operator chose."""
    if basis == "reference":
        return (
            cost.request_nusd
            + cost.prompt_nusd * request.prompt_tokens
            + cost.completion_nusd * request.completion_tokens
        )
    return (
        cost.request_nusd
        + cost.marginal_prompt_nusd * request.prompt_tokens
        + cost.marginal_completion_nusd * request.completion_tokens
    )
