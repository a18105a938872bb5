"""Valid values with defaults, overridden by keyword."""

from __future__ import annotations

from typing import Any

from app.routing import discovery
from app.routing.policy import Policy, WeightedScorer
from app.routing.predictor import predict
from app.routing.slo import fit
from app.routing.state import RoutingState
from app.routing.types import BackendView, Candidate, CostForecast, Outcome, RouteRequest, Slo, Snapshot
from backends.types import LatencyProfile


def make_profile(**fields: Any) -> LatencyProfile:
    defaults: dict[str, Any] = {
        "overhead_s": 0.02,
        "prefill_s_per_token": 1e-4,
        "decode_base_s": 0.01,
        "decode_s_per_sequence": 1e-4,
        "max_sequences": 64,
        "prefill": "shared",
    }
    return LatencyProfile(**(defaults | fields))


def make_view(name: str = "a", **fields: Any) -> BackendView:
    defaults: dict[str, Any] = {
        "substrate": "gpu",
        "model": "m",
        "context_tokens": 8192,
        "capabilities": frozenset({"n"}),
        "profile": make_profile(),
        "cost": CostForecast(100.0, 800.0),
    }
    return BackendView(name=name, **(defaults | fields))


def make_request(**fields: Any) -> RouteRequest:
    defaults: dict[str, Any] = {
        "model": "m",
        "policy": "cheapest-slo",
        "prompt_tokens": 1000,
        "completion_tokens": 200,
        "max_completion_tokens": 400,
        "slo": Slo(ttft_s=1.0, tpot_s=0.05),
    }
    made = defaults | fields
    return RouteRequest(**({"longest_prompt_tokens": made["prompt_tokens"]} | made))


def make_snapshot(*views: BackendView) -> Snapshot:
    return Snapshot("cafe00000000", {"m": views})


def make_policy(picker: str = "cheapest_feasible", *scorers: tuple[str, float], **fields: Any) -> Policy:
    return Policy(
        fields.pop("name", "test"),
        discovery.hard_filters(),
        tuple(WeightedScorer(name, discovery.scorer(name, {}), weight) for name, weight in scorers),
        discovery.picker(picker, {}),
        **fields,
    )


def make_candidate(view: BackendView | None = None, request: RouteRequest | None = None) -> Candidate:
    """A candidate as an idle, unknown backend has it."""
    view, request = view or make_view(), request or make_request()
    prediction = predict(request, view, RoutingState(), "reference")
    return Candidate(view, prediction, 0, *fit(prediction, request.slo, None, 0.05))


def make_outcome(**fields: Any) -> Outcome:
    return Outcome(
        fields.pop("request", None) or make_request(), fields.pop("chosen", None) or make_candidate(), **fields
    )
