"""Rows of the property table in research: herding, exploration, hard filters, hysteresis."""

from __future__ import annotations

from collections import Counter
from math import sqrt

from hypothesis import given, settings
from hypothesis import strategies as st

from app.routing import discovery
from app.routing.exploration import Exploration
from app.routing.policy import Policy
from app.routing.state import RoutingState
from app.routing.types import BackendView, CostForecast, RouteRequest, Slo
from tests.builders import make_outcome, make_policy, make_profile, make_request, make_snapshot, make_view

S = 1_000_000_000
CAPABILITIES = ("tools", "json_schema", "vision", "logprobs", "n")


SLOTS = {"big": 200, "small": 20, "other": 20}


def shares(apply: bool, count: int = 200) -> Counter[str]:
    """Who gets how many of `count` requests that arrive before any has been answered; all cost the same everywhere."""
    views = tuple(make_view(name, profile=make_profile(max_sequences=slots)) for name, slots in SLOTS.items())
    state, policy, snapshot, taken = RoutingState(), make_policy(), make_snapshot(*views), Counter[str]()
    for seed in range(count):
        request = make_request(prompt_tokens=10, completion_tokens=200, slo=Slo(ttft_s=1.0))
        decision, delta = policy.decide(request, snapshot, state, 0, seed, "d")
        assert decision.chosen is not None
        taken[decision.chosen.view.name] += 1
        if apply and delta.reservation is not None:
            state.reserve(delta.reservation, 0)
            state.sticky.update(delta.sticky)
    return taken


def test_two_hundred_at_once_do_not_herd_and_without_reservations_they_would() -> None:
    """Row: no herding, with its mutation. Nobody gets more than its slots and those who may wait there for at most the
    promise's second: of `slots` answers of 200 tokens one is done every 200 steps / slots."""

    def kept(taken: Counter[str]) -> bool:
        for name, slots in SLOTS.items():
            answer_s = 200 * make_profile().tpot_s(slots)
            if taken[name] > slots * (1 + 1.0 / answer_s) + 1:
                return False
        return True

    assert kept(shares(apply=True)), shares(apply=True)
    assert not kept(shares(apply=False)), "a third each, however few their slots"
    one = make_view("cheap", cost=CostForecast(10.0, 80.0), profile=make_profile(max_sequences=20))
    rest = make_view("dear", profile=make_profile(max_sequences=200))
    for apply, most in ((True, 40), (False, 200)):
        state, taken = RoutingState(), Counter[str]()
        for seed in range(200):
            request = make_request(prompt_tokens=10, slo=Slo(ttft_s=1.0))
            decision, delta = make_policy().decide(request, make_snapshot(one, rest), state, 0, seed, "d")
            taken[decision.chosen.view.name] += 1  # type: ignore[union-attr]
            if apply and delta.reservation is not None:
                state.reserve(delta.reservation, 0)
        assert taken["cheap"] <= most
        assert apply or taken["cheap"] == 200, "without the reservation everybody goes where it was cheapest"


def explore(priority: int, cap_usd: float, epsilon: float = 0.1) -> tuple[int, float, list[float]]:
    """(explored, extra cost in USD, propensities) of 2,000 decisions within a minute; one backend is known, two not."""
    views = (
        make_view("a"),
        make_view("b", cost=CostForecast(200.0, 1600.0)),
        make_view("c", cost=CostForecast(300, 2400)),
    )
    state = RoutingState()
    for _ in range(40):
        state.observe(make_outcome(ttft_s=0.12, tpot_s=0.01, completion_tokens=200), S)
    rules = Exploration(epsilon, cap_usd, 60.0)
    policy, explored, extra_nusd, propensities = make_policy(exploration=rules), 0, 0.0, []
    for seed in range(2000):
        request = make_request(priority=priority)
        decision, delta = policy.decide(request, make_snapshot(*views), state, S + seed, seed, "d")
        state.sticky.update(delta.sticky)
        if decision.reason == "explored":
            assert decision.chosen is not None
            explored += 1
            extra_nusd += decision.chosen.prediction.cost_nusd - 260_000
            propensities.append(decision.propensity)
    return explored, extra_nusd / 1e9, propensities


def test_exploration_is_bounded_in_share_and_cost_and_spares_the_important() -> None:
    """Row: exploration budget."""
    explored, _, propensities = explore(0, cap_usd=1e9)
    assert 0 < explored <= 2000 * 0.1 + 3 * sqrt(2000 * 0.1 * 0.9)
    assert set(propensities) == {0.05}, "one in ten, shared by two"
    capped, extra_usd, _ = explore(0, cap_usd=0.01)
    assert 0 < capped < explored
    assert extra_usd <= 0.01
    assert explore(1, cap_usd=1e9)[0] == 0
    assert explore(0, cap_usd=1e9, epsilon=0.0)[0] == 0


@st.composite
def views(draw: st.DrawFn) -> tuple[BackendView, ...]:
    return tuple(
        make_view(
            f"b{index}",
            context_tokens=draw(st.integers(100, 10_000)),
            capabilities=frozenset(draw(st.sets(st.sampled_from(CAPABILITIES)))),
            cost=CostForecast(draw(st.floats(1, 1e4)), draw(st.floats(1, 1e4))),
            drained=draw(st.booleans()),
        )
        for index in range(draw(st.integers(1, 6)))
    )


@settings(max_examples=300, deadline=None)
@given(
    views(), st.sets(st.sampled_from(CAPABILITIES), max_size=2), st.integers(1, 12_000),
    st.none() | st.floats(1e4, 1e8), st.sets(st.sampled_from(["b0", "b1", "b2"]), max_size=2),
    st.sampled_from(["cheapest_feasible", "p2c", "round_robin"]),
)  # fmt: skip
def test_nobody_is_asked_for_what_it_cannot_do(
    fleet: tuple[BackendView, ...], needs: set[str], prompt: int, ceiling: float | None, tried: set[str], picker: str
) -> None:
    """Row: hard filters."""
    request: RouteRequest = make_request(
        prompt_tokens=prompt, capabilities=frozenset(needs), max_cost_nusd=ceiling, exclude=frozenset(tried)
    )
    decision, delta = make_policy(picker).decide(request, make_snapshot(*fleet), RoutingState(), 0, 1, "d")
    if decision.chosen is None:
        assert decision.reason == "no_candidates"
        assert {name for name, reason in decision.rejected if reason} == {view.name for view in fleet}
        assert delta.reservation is None
        return
    view = decision.chosen.view
    assert needs <= view.capabilities
    assert prompt < view.context_tokens * 1.3
    assert not view.drained
    assert view.name not in tried
    assert ceiling is None or decision.chosen.prediction.cost_nusd <= ceiling * (1 + 1e-9)


def switches(policy: Policy) -> int:
    """How often the choice changes while load on the cheaper backend swings about its limit, 4 swings a second."""
    views = (
        make_view("cheap", cost=CostForecast(10.0, 80.0), profile=make_profile(decode_s_per_sequence=1e-3)),
        make_view("dear"),
    )
    state, snapshot, changes, before = RoutingState(), make_snapshot(*views), 0, ""
    for step in range(200):
        state.load("cheap").sequences = 24 if step % 2 else 30
        now_ns = step * S // 8
        decision, delta = policy.decide(make_request(), snapshot, state, now_ns, step, "d")
        state.sticky.update(delta.sticky)
        assert decision.chosen is not None
        changes += before not in ("", decision.chosen.view.name)
        before = decision.chosen.view.name
    return changes


def test_hysteresis_settles_what_would_swing_with_the_load() -> None:
    """Row: hysteresis: at most one switch for every dwell of 2 s; without it, one for every swing."""
    plain = make_policy()
    settled = Policy(
        "test", discovery.hard_filters(), (), discovery.picker("cheapest_feasible", {"back_on": 0.85, "dwell_s": 2.0})
    )
    assert switches(plain) > 100
    assert switches(settled) <= 2 * 25 / 2
