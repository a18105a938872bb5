"""What filters, scorers and pickers are: one suite over all of them, found by listing their packages."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config.load import load
from app.routing import discovery, filters, pickers, scorers
from app.routing.plugins import Turn
from app.routing.predictor import predict
from app.routing.slo import fit
from app.routing.state import RoutingState
from app.routing.types import Candidate, CostForecast, Reservation, RouteRequest
from tests.builders import make_profile, make_request, make_snapshot, make_view

SCORERS = discovery.names(scorers)
PICKERS = discovery.names(pickers)


@st.composite
def requests(draw: st.DrawFn) -> RouteRequest:
    return make_request(
        prompt_tokens=draw(st.integers(1, 10**6)),
        completion_tokens=draw(st.integers(1, 10**5)),
        max_cost_nusd=draw(st.none() | st.floats(1, 1e12)),
        exclude=draw(st.frozensets(st.sampled_from("abc"))),
        capabilities=draw(st.frozensets(st.sampled_from(["n", "tools"]))),
    )


@st.composite
def candidates(draw: st.DrawFn, count: int = 1) -> list[Candidate]:
    made = []
    for name in "abcdefgh"[:count]:
        profile = make_profile(
            overhead_s=draw(st.floats(0, 10)),
            prefill_s_per_token=draw(st.floats(0, 0.1)),
            decode_base_s=draw(st.floats(1e-5, 1)),
            max_sequences=draw(st.integers(1, 512)),
        )
        view = make_view(name, profile=profile, cost=CostForecast(draw(st.floats(0, 1e6)), draw(st.floats(0, 1e6))))
        state, sequences = RoutingState(), draw(st.integers(0, 1000))
        state.reserve(Reservation(name, sequences, 0, None), 0)
        request = make_request()
        prediction = predict(request, view, state, "reference")
        graded = fit(prediction, request.slo, None, 0.05)
        made.append(Candidate(view, prediction, sequences, *graded, scores=(("x", draw(st.floats(0, 1))),)))
    return made


@pytest.mark.parametrize("name", SCORERS)
@settings(max_examples=60, deadline=None)
@given(request=requests(), drawn=candidates())
def test_a_score_is_finite_and_between_0_and_1(name: str, request: RouteRequest, drawn: list[Candidate]) -> None:
    score = discovery.scorer(name, {})(request, drawn[0])
    assert math.isfinite(score)
    assert 0.0 <= score <= 1.0
    assert score == discovery.scorer(name, {})(request, drawn[0])


@pytest.mark.parametrize("name", discovery.names(filters))
@settings(max_examples=60, deadline=None)
@given(request=requests())
def test_a_filter_gives_a_reason_or_none_and_repeats_itself(name: str, request: RouteRequest) -> None:
    found = next(each for each in discovery.hard_filters() if each.name == name)
    reject = found.reject
    view = make_view()
    reason = reject(request, view)
    assert reason is None or (reason and reason == reason.strip())
    assert reject(request, view) == reason
    facts = make_snapshot(view).facts["m"]
    if found.concerns is not None and not found.concerns(request, facts):
        assert reason is None


@pytest.mark.parametrize("name", PICKERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data(), count=st.integers(1, 8), seed=st.integers(0, 2**40), cursor=st.integers(0, 1000))
def test_a_picker_picks_one_of_them_with_a_reason_and_a_margin(
    name: str, data: st.DataObject, count: int, seed: int, cursor: int
) -> None:
    drawn = data.draw(candidates(count))
    state = RoutingState()
    state.sticky["cursor:p:m"] = cursor
    turn = Turn(state, 0, seed, "p:m")
    pick = discovery.picker(name, {})(make_request(priority=1), drawn, turn)
    assert pick.position is not None
    assert 0 <= pick.position < count
    assert pick.reason.isidentifier()
    assert pick.margin >= 0
    assert pick == discovery.picker(name, {})(make_request(priority=1), drawn, turn)
    assert state.sticky == {"cursor:p:m": cursor}


def test_every_shipped_policy_is_made_of_plugins_that_exist() -> None:
    for policy in load().config.policies.values():
        discovery.picker(policy.picker.use, policy.picker.params)
        for scorer in policy.scorers:
            discovery.scorer(scorer.use, scorer.params)
    assert set(load().config.policies) >= {
        "cheapest-slo",
        "lowest-latency",
        "lowest-cost",
        "weighted",
        "round-robin",
        "least-busy",
    }


def test_an_unknown_plugin_or_parameter_is_refused_by_name() -> None:
    with pytest.raises(discovery.UnknownPlugin, match="no 'speed'"):
        discovery.scorer("speed", {})
    with pytest.raises(discovery.UnknownPlugin, match="ref_usdx"):
        discovery.scorer("cost", {"ref_usdx": 1.0})
