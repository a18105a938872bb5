"""One decision over 10 and 100 candidates. Command: python -m tests.benchmark decision."""

from __future__ import annotations

import time

from app.routing.state import RoutingState
from app.routing.types import BackendView, CostForecast, Reservation
from tests.builders import make_policy, make_profile, make_request, make_snapshot, make_view

ROUNDS = 20_000


def fleet(count: int) -> tuple[tuple[BackendView, ...], RoutingState]:
    """Candidates of which half keep the promise, all with something in flight and something learned."""
    views = tuple(
        make_view(
            f"b{index}",
            profile=make_profile(prefill_s_per_token=1e-4 * (1 + index % 10)),
            cost=CostForecast(100.0 + index, 800.0 + index),
        )
        for index in range(count)
    )
    state = RoutingState()
    for view in views:
        state.reserve(Reservation(view.name, 3, 500, 0.05), 0)
        state.corrections(view.key)
    return views, state


def run() -> dict[str, float]:
    """Median and p99 in microseconds."""
    results: dict[str, float] = {}
    for name, picker, scorers in (
        ("cheapest-slo", "cheapest_feasible", ()),
        ("weighted", "max_score", (("cost", 0.5), ("ttft", 0.2), ("tpot", 0.2), ("load", 0.1))),
    ):
        for count in (10, 100):
            views, state = fleet(count)
            policy, snapshot, request = make_policy(picker, *scorers), make_snapshot(*views), make_request()
            taken = []
            for seed in range(ROUNDS * 10 // count):
                began = time.perf_counter_ns()
                policy.decide(request, snapshot, state, 0, seed, "d")
                taken.append(time.perf_counter_ns() - began)
            taken.sort()
            results[f"{name}_{count}_median_us"] = taken[len(taken) // 2] / 1e3
            results[f"{name}_{count}_p99_us"] = taken[len(taken) * 99 // 100] / 1e3
    return results
