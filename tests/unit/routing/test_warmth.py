"""Backends that are scaled to zero when idle: what is expected of them, who goes there, and what is learned of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.errors import Conflict, NotFound
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.routing import warmth
from app.routing.exploration import Exploration, explored
from app.routing.overload import OverloadRules, none_feasible
from app.routing.plugins import Pick, Turn
from app.routing.policy import reservation
from app.routing.predictor import costs_nusd, predict
from app.routing.slo import fit
from app.routing.state import RoutingState, Warmth
from app.routing.types import BackendView, Candidate, CostForecast, Reservation, RouteRequest, Slo
from backends.types import ColdStart
from tests.builders import (
    make_candidate,
    make_outcome,
    make_policy,
    make_profile,
    make_request,
    make_snapshot,
    make_view,
)
from tests.fakes import ScriptedBackend

S = 1_000_000_000
DECLARED = ColdStart(90.0, 600.0)
DEAR = CostForecast(1000.0, 8000.0)


def cold_view(name: str = "cold", declared: ColdStart = DECLARED, **fields: object) -> BackendView:
    return make_view(name, cold_start=declared, **fields)


def known(*views: BackendView, now_ns: int = 0) -> RoutingState:
    state = RoutingState()
    warmth.know(state, views, now_ns)
    return state


def sent(state: RoutingState, view: BackendView, now_ns: int, ticket: int = 1) -> Reservation:
    """A request goes there; gives its place."""
    request = make_request()
    prediction = predict(request, view, state, "reference", now_ns)
    place = reservation(request, make_candidate(view)._replace(prediction=prediction), ticket)
    state.reserve(place, now_ns)
    return place


@pytest.mark.parametrize(
    ("warm_ns", "used_ns", "now_ns", "left_ns"),
    [
        (None, 0, 5 * S, 90 * S),  # nobody has asked
        (100 * S, None, 30 * S, 70 * S),  # it warms up
        (100 * S, None, 100 * S, 0),
        (100 * S, 200 * S, 800 * S - 1, 0),
        (100 * S, 200 * S, 800 * S, 90 * S),  # idle for long enough
        (100 * S, None, 9999 * S, 0),  # in use
        (100 * S, 20 * S, 699 * S, 0),  # idle time begins when it is warm
        (100 * S, 20 * S, 700 * S, 90 * S),
    ],
)
def test_what_is_left_of_a_warm_up(warm_ns: int | None, used_ns: int | None, now_ns: int, left_ns: int) -> None:
    assert DECLARED.left_ns(warm_ns, used_ns, now_ns) == left_ns


def test_without_an_idle_time_it_stays_warm() -> None:
    assert ColdStart(90.0).left_ns(0, 0, 1 << 60) == 0


def test_a_fraction_that_no_float_holds_is_whole_nanoseconds() -> None:
    assert ColdStart(0.29).left_ns(None, 0, 0) == 290_000_000


@pytest.mark.parametrize("prefill", ["shared", "serial", "parallel"])
def test_the_prediction_is_the_warm_ones_and_what_is_left(prefill: str) -> None:
    view = cold_view(profile=make_profile(prefill=prefill))
    state, request = known(view), make_request()
    warm, cold = predict(request, view, RoutingState(), "reference"), predict(request, view, state, "reference", 5 * S)
    assert cold.warm_up_s == 90.0
    assert (cold.ttft_s, cold.ttft_q90_s) == pytest.approx((warm.ttft_s + 90, warm.ttft_q90_s + 90))
    assert (cold.tpot_s, cold.wait_s, cold.prior_ttft_s) == (warm.tpot_s, warm.wait_s, warm.prior_ttft_s)
    assert cold.ttft_stratum == warm.ttft_stratum
    sent(state, view, 5 * S)
    later = predict(request, view, state, "reference", 65 * S)
    assert later.warm_up_s == pytest.approx(30.0)
    assert 30.0 < later.ttft_s < 30.0 + 3 * warm.ttft_s, "and perhaps a prompt before it, read once it is warm"
    state.answers("cold", 95 * S)
    assert predict(request, view, state, "reference", 95 * S).warm_up_s == 0.0


def test_prompts_that_came_while_it_warms_up_are_still_to_be_read_when_it_is_warm() -> None:
    view = cold_view()
    state, request = known(view), make_request(prompt_tokens=2000)
    alone = predict(request, view, state, "reference", 0)
    for ticket in range(8):
        sent(state, view, ticket * S, ticket)
    ninth = predict(request, view, state, "reference", 60 * S)
    assert ninth.warm_up_s == pytest.approx(30.0)
    # Eight prompts of 1,000 tokens at 0.1 ms each are before it.
    assert ninth.ttft_s - 30.0 >= (alone.ttft_s - 90.0) + 0.8 * 0.9


def test_it_is_cold_again_when_nobody_has_used_it_for_long_and_not_while_somebody_does() -> None:
    view = cold_view()
    state = known(view)
    place = sent(state, view, 0)
    assert warmth.standing(state, view, 10 * S) == ("warming", 80.0)
    state.answers("cold", 91 * S)
    state.first_token(place, 91 * S)
    assert warmth.standing(state, view, 5000 * S) == ("warm", 0.0), "it is still answering"
    state.release(place, 5000 * S)
    assert warmth.standing(state, view, 5599 * S) == ("warm", 0.0)
    assert warmth.standing(state, view, 5600 * S) == ("cold", 90.0)


def test_a_request_that_gives_up_while_it_warms_up_does_not_make_it_warm() -> None:
    view = cold_view()
    state = known(view)
    place = sent(state, view, 0)
    state.first_token(place, 10 * S)
    state.release(place, 10 * S)
    assert warmth.standing(state, view, 10 * S) == ("warming", 80.0)


def test_a_first_token_proves_it_warm_however_long_that_was_to_take() -> None:
    view = cold_view()
    state = known(view)
    sent(state, view, 0)
    state.answers("cold", 12 * S)
    assert warmth.standing(state, view, 12 * S) == ("warm", 0.0)


def test_waking_forgets_the_prefixes_it_had_and_keeps_those_sent_since() -> None:
    view = cold_view(profile=make_profile(prefix_cache=True))
    state = known(view)
    state.reserve(Reservation("cold", 1, 10, None, blocks=(1, 2), most_blocks=9, warm_up_s=90.0), 0)
    state.reserve(Reservation("cold", 1, 10, None, blocks=(3,), most_blocks=9, ticket=1, warm_up_s=89.0), S)
    assert set(state.prefixes["cold"].until_ns) == {1, 2, 3}
    for ticket in (0, 1):
        state.release(Reservation("cold", 1, 10, None, ticket=ticket), 100 * S)
    assert warmth.standing(state, view, 1000 * S) == ("cold", 90.0)
    state.reserve(Reservation("cold", 1, 10, None, blocks=(4,), most_blocks=9, ticket=2, warm_up_s=90.0), 1000 * S)
    assert set(state.prefixes["cold"].until_ns) == {4}


def test_what_was_sent_to_one_that_was_not_warm_teaches_nothing_of_its_ttft() -> None:
    view = cold_view()
    state = known(view)
    before = predict(make_request(), view, RoutingState(), "reference")
    cold = make_candidate(view)._replace(prediction=predict(make_request(), view, state, "reference"))
    for _ in range(50):
        state.observe(make_outcome(chosen=cold, ttft_s=95.0, tpot_s=before.tpot_s, completion_tokens=200), 0)
    learned = state.corrections(view.key)
    assert (learned.ttft.pool.samples, learned.reading.samples) == (0, 0)
    assert learned.tpot.pool.samples == 50, "its pace is that of a warm one"
    warm = make_candidate(view)
    state.observe(make_outcome(chosen=warm, ttft_s=before.ttft_s), 0)
    assert learned.ttft.pool.samples == 1


def test_the_configuration_says_how_they_start_and_another_one_changes_nothing_that_is_known() -> None:
    warm, cold = cold_view("warm", ColdStart(9, 60, "warm")), cold_view("cold")
    state = RoutingState()
    warmth.know(state, [warm, cold, make_view("never")], 7 * S)
    assert state.warmth == {"warm": Warmth(7 * S, 7 * S), "cold": Warmth(None, 7 * S)}
    assert warmth.standing(state, warm, 67 * S) == ("cold", 9.0), "its idle time has begun"
    state.warm("cold", 90.0, 8 * S)
    warmth.know(state, [cold], 9 * S)
    assert state.warmth == {"cold": Warmth(98 * S, 8 * S)}
    assert warmth.standing(state, make_view("never"), 9 * S) is None


def fleet(*views: BackendView) -> Fleet:
    backends = {view.name: ScriptedBackend(view.name) for view in views}
    made = Fleet(backends, make_snapshot(*views), {"cheapest-slo": make_policy()}, Receipts(10, "d-"), 0)
    made.know_warmth(0)
    return made


def chosen(made: Fleet, now_ns: int = 0, **fields: object) -> str | None:
    decision, _ = made.decide(make_request(**fields), now_ns)
    return None if decision.chosen is None else decision.chosen.view.name


LOOSE, TIGHT = Slo(e2e_s=300.0), Slo(ttft_s=1.0, tpot_s=0.05)


def test_a_cheap_cold_backend_is_asked_where_the_promise_allows_it_and_by_everybody_once_it_is_warm() -> None:
    made = fleet(cold_view(), make_view("dear", cost=DEAR))
    assert chosen(made, slo=TIGHT) == "dear"
    assert chosen(made, slo=LOOSE) == "cold"
    assert chosen(made, 50 * S, slo=TIGHT) == "dear", "it warms up"
    made.state.answers("cold", 90 * S)
    assert chosen(made, 90 * S, slo=TIGHT) == "cold"


def test_if_nobody_else_is_there_a_cold_one_takes_what_it_cannot_take_in_time() -> None:
    made = fleet(cold_view())
    for now_ns in (0, 30 * S):
        decision, _ = made.decide(make_request(slo=TIGHT, may_hold=True, arrived_ns=now_ns), now_ns)
        assert decision.chosen is not None
        assert decision.reason == "least_violation"


def jam(made: Fleet, name: str, now_ns: int = 0) -> None:
    """So many requests that nobody can be in time there any more."""
    for ticket in range(400):
        made.state.reserve(Reservation(name, 1, 8000, None, 0.8, 9000, ticket=ticket), now_ns)


def test_where_nobody_keeps_a_promise_that_a_cold_one_would_it_is_woken_one_at_a_time() -> None:
    made = fleet(cold_view("a", cost=DEAR), cold_view("b"), make_view("warm"))
    jam(made, "warm")
    hold = make_request(slo=TIGHT, may_hold=True, arrived_ns=S)
    assert made.preview(hold, S).reason == "hold"
    assert made.warmth("b", S) == ("cold", 90.0), "looking wakes nobody"
    assert made.decide(hold, S)[0].reason == "hold"
    assert (made.warmth("a", S), made.warmth("b", S)) == (("cold", 90.0), ("warming", 90.0)), "the cheaper one"
    made.decide(make_request(slo=TIGHT, priority=-1, arrived_ns=2 * S), 2 * S)
    assert [made.backends[name].warmed for name in ("a", "b", "warm")] == [0, 1, 0]  # type: ignore[attr-defined]


def test_a_promise_that_it_would_not_keep_warm_either_wakes_nobody() -> None:
    made = fleet(cold_view(profile=make_profile(overhead_s=3.0)), make_view("warm"))
    jam(made, "warm")
    assert made.decide(make_request(slo=TIGHT, priority=-1, arrived_ns=0), 0)[0].reason == "shed"
    assert made.warmth("cold", 0) == ("cold", 90.0)


def test_the_same_moment_told_again_and_again_does_not_creep() -> None:
    made = fleet(cold_view())
    made.warm_elsewhere("cold", 90 * S, 0, 0)
    for number in range(100):
        made.warm_elsewhere("cold", 90 * S - number % 2 * S // 1000 - S // 1000, number, number)
    assert made.state.warmth["cold"] == Warmth(90 * S, 99)
    made.warm_elsewhere("cold", 30 * S, 100, 100)
    assert made.state.warmth["cold"].warm_ns == 30 * S


def test_where_warm_ones_could_not_keep_it_even_idle_a_cold_one_that_would_is_woken() -> None:
    slow = make_view("slow", profile=make_profile(decode_base_s=0.2))
    made = fleet(slow, cold_view(cost=DEAR))
    decision = made.decide(make_request(slo=Slo(1.0, 0.05)), 0)[0]
    assert (decision.reason, decision.chosen is not None and decision.chosen.view.name) == ("least_violation", "slow")
    stands = made.warmth("cold", 1)
    assert stands is not None
    assert stands.warmth == "warming"


def test_one_in_use_that_becomes_one_that_can_be_cold_is_warm() -> None:
    state = RoutingState()
    state.reserve(Reservation("cold", 1, 100, None, ticket=1), 0)
    warmth.know(state, [cold_view()], 5 * S)
    stands = warmth.standing(state, cold_view(), 5 * S)
    assert stands is not None
    assert stands.warmth == "warm"


def test_a_cold_one_has_lost_what_it_had_read() -> None:
    view = cold_view(declared=ColdStart(90.0, 30.0), profile=make_profile(prefix_cache=True))
    state, request = known(view), make_request(blocks=(1, 2, 3, 4))
    place = reservation(request, make_candidate(view, request), 1)
    state.reserve(place, 0)
    state.answers(view.name, S)
    state.first_token(place, S)
    state.release(place, 2 * S)
    assert predict(request, view, state, "reference", 3 * S).cached_tokens == 1000
    cold = predict(request, view, state, "reference", 60 * S)
    assert (cold.cached_tokens, cold.warm_up_s) == (0, 90.0)
    assert costs_nusd(request, [view], state, 60 * S, "reference") == [cold.cost_nusd]


def test_by_hand_a_cold_one_is_warmed_and_others_are_left_or_refused() -> None:
    made = fleet(cold_view(), make_view("never"))
    made.warm("cold", 0)
    made.warm("cold", 40 * S)
    assert made.warmth("cold", 40 * S) == ("warming", 50.0)
    made.warm("cold", 100 * S)
    assert made.state.warmth["cold"] == Warmth(90 * S, 0), "warm, it is left as it is"
    assert made.backends["cold"].warmed == 1  # type: ignore[attr-defined]
    with pytest.raises(Conflict, match="no cold_start"):
        made.warm("never", 0)
    with pytest.raises(NotFound):
        made.warm("nobody", 0)


def candidates(request: RouteRequest, state: RoutingState, *views: BackendView) -> list[Candidate]:
    found = []
    for view in views:
        prediction = predict(request, view, state, "reference")
        found.append(Candidate(view, prediction, 0, *fit(prediction, request.slo, None, 0.0)))
    return found


def test_who_must_be_served_is_not_sent_to_a_cold_one_while_others_are_warm() -> None:
    cold, slow = cold_view(), make_view("slow", profile=make_profile(overhead_s=0.02))
    state = known(cold)
    request = make_request(slo=TIGHT, priority=1, arrived_ns=0)
    cold_one, slow_one = candidates(request, state, cold, slow)
    late = slow_one._replace(feasible=False, violation=3.0, why_not="ttft")
    pick = none_feasible(OverloadRules(), request, [cold_one, late], Turn(state, 0, 0, "k"))
    assert (pick.reason, pick.position) == ("overflow", 1)


def test_exploration_wakes_nobody() -> None:
    cold, warm = cold_view(), make_view("warm")
    state = known(cold)
    rules = Exploration(epsilon=1.0)
    request = make_request(slo=LOOSE, priority=-1)

    def outcome(listed: Sequence[Candidate]) -> str:
        return explored(rules, request, listed, Turn(state, 0, 0, "k"), Pick(1, "cheapest_feasible"))[0].reason

    first, second = candidates(request, state, cold, warm)
    busy = state.corrections(warm.key).ttft.pool
    busy.samples, busy.seen_ns = 100, 0
    assert outcome([first, second]) == "cheapest_feasible"
    assert outcome([first._replace(prediction=warmth.if_warm(first.prediction)), second]) == "explored"


def test_what_an_old_backend_of_that_name_still_says_does_not_make_the_new_one_warm() -> None:
    old = fleet(cold_view())
    backends = {"cold": ScriptedBackend("cold")}
    new = old.successor(backends, old.snapshot, old.policies, 0, {})
    old.supersede(new)
    new.know_warmth(5 * S)
    old.answers("cold", 6 * S)
    assert new.warmth("cold", 6 * S) == ("cold", 90.0)
    new.answers("cold", 7 * S)
    assert new.warmth("cold", 7 * S) == ("warm", 0.0)
