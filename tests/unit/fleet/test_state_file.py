"""The routing state as plain data: nothing is lost on the way, and nothing that cannot be is taken in."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import StateFileError
from app.fleet.state_file import PARTS, dump, restore
from app.routing.predictor import predict
from app.routing.prefixes import PrefixTable
from app.routing.state import Gate, RoutingState, Scraped, Warmth
from app.routing.types import Reservation
from tests.builders import make_outcome, make_request, make_view

S = 1_000_000_000
Names = st.sampled_from(["a", "b", "c"])


def full() -> RoutingState:
    state = RoutingState()
    first = Reservation("a", 2, 500, 0.05)
    state.reserve(first, 0)
    state.reserve(Reservation("a", 1, 100, 0.02), 0)
    state.reserve(Reservation("b", 1, 7, None), 0)
    state.first_token(first, 0)
    for ttft_s in (0.5, 0.7, 0.9):
        state.observe(make_outcome(ttft_s=ttft_s, tpot_s=0.02, completion_tokens=50), 9 * S)
    state.sticky["cursor:round-robin:m"] = 5
    state.sticky["incumbent:cheapest-slo:m:interactive"] = "a"
    state.prefixes["a"] = PrefixTable()
    state.prefixes["a"].dispatched((1, 2, 3), 100, 9 * S)
    state.gates["b"] = Gate("breaker", 30 * S)
    state.scraped["a"] = Scraped(3, 1, 0.5, 8 * S, 23 * S)
    state.scraped["b"] = Scraped(0, 0, None, 1 * S, 16 * S)
    state.warmth["a"], state.warmth["b"] = Warmth(95 * S, 5 * S), Warmth(None, 2 * S)
    return state


def same(one: RoutingState, other: RoutingState) -> bool:
    return dump(one) == dump(other)


def test_every_slot_has_a_part() -> None:
    assert set(PARTS) == set(RoutingState.__slots__)


def test_what_is_dumped_comes_back_through_json() -> None:
    state = full()
    back = restore(json.loads(json.dumps(dump(state, 10 * S))), 10 * S)
    assert same(state, back)
    assert back.gates == state.gates
    assert back.scraped == state.scraped
    assert back.warmth == state.warmth
    assert back.load("a").tightest_tpot_slo_s == 0.02
    assert back.load("a").begun == state.load("a").begun == [(0, 0.0)]
    request, view = make_request(), make_view()
    assert predict(request, view, back, "reference", 10 * S) == predict(request, view, state, "reference", 10 * S)
    back.release(Reservation("a", 1, 100, 0.02), 0)
    assert back.load("a").tightest_tpot_slo_s == 0.05, "what follows goes on as it would have"


def test_times_are_those_of_whoever_restores() -> None:
    back = restore(dump(full(), 10 * S), 1000 * S)
    assert back.gates["b"].until_ns == 1020 * S
    assert back.warmth["a"] == Warmth(1085 * S, 995 * S)
    assert back.load("a").begun == [(990 * S, 0.0)]
    assert (back.scraped["a"].at_ns, back.scraped["a"].fresh_until_ns) == (998 * S, 1013 * S)


@given(st.lists(st.tuples(Names, st.integers(1, 9), st.integers(0, 9999), st.none() | st.floats(0.001, 10))))
def test_any_load_comes_back(reserved: list[tuple[str, int, int, float | None]]) -> None:
    state = RoutingState()
    places = [Reservation(*each, ticket=number) for number, each in enumerate(reserved)]
    for each in places:
        state.reserve(each, 0)
    back = restore(json.loads(json.dumps(dump(state))))
    assert same(state, back)
    for each in places:
        back.first_token(each, 0)
        back.release(each, 0)
    assert all(load.sequences == load.pending_prompt_tokens == 0 for load in back.loads.values())


def test_parts_that_are_missing_are_new() -> None:
    assert same(restore({"version": 2}), RoutingState())


def test_a_file_from_before_answers_beginnings_were_kept_is_taken() -> None:
    data = json.loads(json.dumps(dump(full(), 10 * S)))
    for load in data["loads"].values():
        del load["begun"]
    assert restore(data, 10 * S).load("a").begun == []


def _broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(dump(full(), 10 * S)))
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data.update(version=1), "version 2"),
        (lambda data: data["loads"]["a"].pop("sequences"), "loads: .*sequences"),
        (lambda data: data["loads"]["a"].update(sequences="x"), "loads: "),
        (lambda data: data["loads"]["a"].update(sequences=None), "loads: "),
        (lambda data: data["loads"]["a"].update(reading_s=float("nan")), "loads: .*nan.* is no number"),
        (lambda data: data["loads"]["a"].update(tpot_slos=[1]), "loads: "),
        (lambda data: data["loads"]["a"].update(begun=[[1]]), "loads: "),
        (lambda data: data["loads"]["a"].update(begun=[["x", 1]]), "loads: .*x.* is no number"),
        (lambda data: data.update(loads=[]), "loads: "),
        (lambda data: data["learned"]["a m"].pop("tpot"), "learned: .*tpot"),
        (lambda data: data.update(learned=3), "learned: "),
        (lambda data: data.update(sticky={"a": [1]}), "sticky: "),
        (lambda data: data["prefixes"]["a"].update(blocks=[[1]]), "prefixes: "),
        (lambda data: data["gates"]["b"].update(for_s=float("inf")), "gates: "),
        (lambda data: data["scraped"]["a"].pop("running"), "scraped: .*running"),
        (lambda data: data.update(scraped={"a": None}), "scraped: "),
        (lambda data: data["warmth"]["a"].pop("used_age_s"), "warmth: .*used_age_s"),
        (lambda data: data["warmth"]["a"].update(warm_in_s="soon"), "warmth: .*soon"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: Callable[[dict[str, Any]], object], told: str) -> None:
    with pytest.raises(StateFileError, match=told):
        restore(_broken(change))
