"""One decision over 10 and 100 candidates, all signals on. Command: python -m tests.benchmark decision.

`spread`: each backend a tenth of the cheapest's price dearer than the one before, as fleets of different silicon are;
`close`: all within 4 %, so that every one of them may win and must be looked at. Signals: load, promises and prompts on
their way, answers begun lately, learned residuals in several strata, lengths, prefix tables. The collector is set as
the gateway sets it (`app.listening.calm_collector`).
"""

from __future__ import annotations

import random
import time

from app.listening import calm_collector
from app.routing.prefixes import PrefixTable
from app.routing.state import RoutingState
from app.routing.types import BackendView, CostForecast, Reservation
from tests.builders import (
    make_candidate,
    make_outcome,
    make_policy,
    make_profile,
    make_request,
    make_snapshot,
    make_view,
)

ROUNDS = 20_000
BLOCKS = tuple(range(16))
S = 1_000_000_000


def fleet(count: int, step: float) -> tuple[tuple[BackendView, ...], RoutingState]:
    """Candidates of which half keep the promise; `step` is how much dearer each is than the one before."""
    rng = random.Random(1)
    views = tuple(
        make_view(
            f"b{index}",
            profile=make_profile(
                prefill_s_per_token=1e-4 * (1 + index % 10), step_tokens=2048, kv_tokens=500_000, prefix_cache=True
            ),
            cost=CostForecast(100.0 * (1 + step * index), 800.0 * (1 + step * index)),
        )
        for index in range(count)
    )
    state = RoutingState()
    for view in views:
        table = state.prefixes[view.name] = PrefixTable()
        table.dispatched(BLOCKS[: 8 * rng.randrange(3)] or (99,), 1000, 0)
        for number in range(6):
            reservation = Reservation(view.name, 1, 500, 0.05, 0.05, 700, ticket=number)
            state.reserve(reservation, number * S // 10)
            if number < 4:
                state.first_token(reservation, number * S // 10 + S // 20)
        chosen = make_candidate(view)
        for number in range(60):
            noisy = rng.lognormvariate(0, 0.1)
            prediction = chosen.prediction._replace(ttft_stratum=number % 3 * 64 + 10, tpot_stratum=192 + 8)
            outcome = make_outcome(
                chosen=chosen._replace(prediction=prediction),
                ttft_s=prediction.prior_ttft_s * noisy,
                tpot_s=prediction.prior_tpot_s * noisy,
                completion_tokens=rng.randrange(20, 400),
            )
            state.observe(outcome, S)
    return views, state


def run() -> dict[str, float]:
    """Median and p99 in microseconds."""
    calm_collector()
    results: dict[str, float] = {}
    for name, picker, scorers, step in (
        ("cheapest-slo_spread", "cheapest_feasible", (), 0.1),
        ("cheapest-slo_close", "cheapest_feasible", (), 0.0004),
        ("weighted", "max_score", (("cost", 0.5), ("ttft", 0.2), ("tpot", 0.2), ("load", 0.1)), 0.1),
    ):
        for count in (10, 100):
            views, state = fleet(count, step)
            policy, snapshot = make_policy(picker, *scorers), make_snapshot(*views)
            request = make_request(blocks=BLOCKS)
            taken = []
            for seed in range(ROUNDS * 10 // count):
                began = time.perf_counter_ns()
                policy.decide(request, snapshot, state, S, seed, "d")
                taken.append(time.perf_counter_ns() - began)
            taken.sort()
            results[f"{name}_{count}_median_us"] = taken[len(taken) // 2] / 1e3
            results[f"{name}_{count}_p99_us"] = taken[len(taken) * 99 // 100] / 1e3
    return results
