"""What happens when nobody can keep the promise."""

from __future__ import annotations

from app.routing.policy import Policy
from app.routing.predictor import predict
from app.routing.state import RoutingState
from app.routing.types import BackendView, Decision, Reservation, RouteRequest, Slo
from tests.builders import make_policy, make_profile, make_request, make_snapshot, make_view

VIEWS = (make_view("a", profile=make_profile(max_sequences=8)), make_view("b", profile=make_profile(max_sequences=8)))


def crowded(a: int, b: int) -> RoutingState:
    """So many sequences of 200 tokens at each; eight decode together."""
    state = RoutingState()
    for name, sequences in (("a", a), ("b", b)):
        for _ in range(sequences):
            reservation = Reservation(name, 1, 100, None, 0.01, 200)
            state.reserve(reservation, 0)
            state.first_token(reservation, 0)
    return state


def decide(state: RoutingState, policy: Policy | None = None, views: tuple[BackendView, ...] = VIEWS, **fields: object):  # type: ignore[no-untyped-def]
    request: RouteRequest = make_request(**fields)
    made = (policy or make_policy()).decide(request, make_snapshot(*views), state, 0, 1, "d")
    state.sticky.update(made[1].sticky)
    return made


def test_a_promise_nobody_could_keep_gets_the_least_violation_whatever_the_load() -> None:
    state = crowded(20, 4)
    for _ in range(50):
        decision: Decision = decide(state, slo=Slo(1.0, 1e-4))[0]
        assert (decision.reason, decision.chosen and decision.chosen.view.name) == ("least_violation", "b")


def test_a_small_violation_is_allowed_for_a_bounded_share() -> None:
    state = crowded(12, 12)
    reasons = [decide(state, slo=Slo(1.6, 0.05))[0].reason for _ in range(200)]
    assert reasons[:10] == ["least_violation"] * 10
    assert 25 <= reasons.count("least_violation") <= 35


def test_past_that_the_sheddable_are_shed_with_a_time_to_come_back() -> None:
    decision, delta = decide(crowded(60, 80), priority=-1)
    assert (decision.chosen, decision.reason, delta.reservation) == (None, "shed", None)
    assert 0.1 <= (decision.retry_after_s or 0) <= 30


def test_who_may_wait_is_held_then_shed_and_who_must_be_served_goes_where_it_is_worst() -> None:
    state = crowded(60, 80)
    held, delta = decide(state, may_hold=True)
    assert (held.chosen, held.reason, delta.reservation) == (None, "hold", None)
    shed, delta = decide(state)
    assert (shed.chosen, shed.reason, delta.reservation) == (None, "shed", None)
    decision, delta = decide(state, priority=1)
    assert decision.chosen is not None
    assert (decision.chosen.view.name, decision.reason) == ("b", "overflow")
    assert delta.reservation is not None


def test_time_spent_waiting_comes_off_the_promise() -> None:
    state = crowded(0, 0)
    request = make_request(slo=Slo(0.3, 0.05), arrived_ns=0)
    policy, snapshot = make_policy(), make_snapshot(*VIEWS)
    assert policy.decide(request, snapshot, state, 0, 1, "d")[0].chosen.feasible  # type: ignore[union-attr]
    late = policy.decide(request, snapshot, state, 250_000_000, 1, "d")[0]
    assert not any(candidate.feasible for candidate in late.candidates)


def test_an_end_that_only_load_puts_out_of_reach_asks_nothing_impossible() -> None:
    slo = Slo(e2e_s=1.25 * predict(make_request(), VIEWS[0], RoutingState(), "reference").e2e_q90_s)
    state = RoutingState()
    for view in VIEWS:
        state.reserve(Reservation(view.name, view.profile.max_sequences * 3, 0, None, 0.0, 0), 0)
    made = [decide(state, slo=slo, may_hold=True)[0] for _ in range(50)]
    assert {candidate.why_not for each in made for candidate in each.candidates} == {"e2e"}
    assert [each.reason for each in made].count("hold") >= 30


def test_who_would_only_harm_others_asks_nothing_impossible() -> None:
    """With nobody else there nobody would be harmed: such a prompt waits until answers have grown out of danger, and is
    not thrown among them whenever it comes."""
    state = RoutingState()
    for view in VIEWS:
        for ticket in range(6):
            reservation = Reservation(view.name, 1, 0, 0.05, 0.0, 200, ticket=ticket)
            state.reserve(reservation, 0)
            state.first_token(reservation, 0)
    made = [decide(state, prompt_tokens=5000, may_hold=True)[0] for _ in range(200)]
    assert {candidate.why_not for each in made for candidate in each.candidates} == {"harm"}
    reasons = [each.reason for each in made]
    assert reasons[:5] == ["least_violation"] * 5
    assert 170 <= reasons.count("hold") <= 185
