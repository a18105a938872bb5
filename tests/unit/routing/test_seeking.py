"""Looking only at backends that may win chooses as looking at all does."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from app.routing.state import RoutingState
from app.routing.types import BackendView, CostForecast, Reservation
from tests.builders import make_policy, make_profile, make_request, make_snapshot, make_view

PRICES = (100.0, 100.0, 101.0, 102.5, 104.0, 108.0, 130.0, 400.0)


def fleet(rng: random.Random) -> tuple[tuple[BackendView, ...], RoutingState]:
    """Some identical, some full, some slow."""
    views = tuple(
        make_view(
            f"b{index}",
            cost=CostForecast(price := rng.choice(PRICES), 8 * price),
            profile=make_profile(decode_base_s=rng.choice((0.01, 0.01, 0.02, 0.06))),
        )
        for index in range(rng.randrange(1, 9))
    )
    state = RoutingState()
    for _ in range(64):
        state.length("m").answer(rng.randrange(20, 400))
    for view in views:
        for ticket in range(rng.choice((0, 0, 1, 4, 40))):
            place = Reservation(view.name, 1, 200, 0.05, rng.choice((0.0, 0.02)), 400, ticket=ticket)
            state.reserve(place, 0)
            if rng.random() < 0.8:
                state.first_token(place, 0)
    if rng.random() < 0.3:
        state.sticky["incumbent:test:m:interactive"] = rng.choice(views).name
    return views, state


def alike(reason: str) -> str:
    """Whether somebody else would have kept the promise is not known of those not looked at."""
    return "cheapest" if reason in ("cheapest_feasible", "only_feasible", "only_candidate") else reason


def test_who_wins_is_the_same() -> None:
    rng, policy, reasons = random.Random(7), make_policy(), Counter[str]()
    fewer = 0
    for seed in range(1500):
        views, state = fleet(rng)
        request = make_request(may_hold=True, arrived_ns=0, prompt_tokens=rng.choice((100, 1000, 4000)))
        sought, _ = policy.decide(request, make_snapshot(*views), state, 1, seed, "d")
        thorough, _ = policy.decide(request, make_snapshot(*views), state, 1, seed, "d", thorough=True)
        assert alike(sought.reason) == alike(thorough.reason)
        if sought.chosen is not None:
            assert thorough.chosen is not None
            assert sought.chosen.view.name == thorough.chosen.view.name
        reasons[sought.reason] += 1
        fewer += bool(sought.unseen)
    assert fewer > 500
    assert {"more_slack", "cheapest_feasible", "least_violation", "wait"} <= reasons.keys()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_identical_backends_get_equal_shares(count: int) -> None:
    views, policy = tuple(make_view(f"b{index}") for index in range(count)), make_policy()
    won = Counter[str]()
    for seed in range(400 * count):
        decision, _ = policy.decide(make_request(), make_snapshot(*views), RoutingState(), 0, seed, "d")
        assert decision.chosen is not None
        won[decision.chosen.view.name] += 1
    assert all(320 <= won[view.name] <= 480 for view in views), won
