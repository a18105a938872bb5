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
from app.routing.state import Gate, RoutingState, Scraped
from app.routing.types import Reservation

S = 1_000_000_000
Names = st.sampled_from(["a", "b", "c"])


def full() -> RoutingState:
    state = RoutingState()
    first = Reservation("a", 2, 500, 0.05)
    state.reserve(first, 0)
    state.reserve(Reservation("a", 1, 100, 0.02), 0)
    state.reserve(Reservation("b", 1, 7, None), 0)
    state.first_token(first, 0)
    ttft, tpot = state.correction("a", "m")
    for observed_s in (0.5, 0.7, 0.9):
        ttft.learn(observed_s, 0.4)
    tpot.learn(0.01, 0.02)
    state.cursors["round-robin:m"] = 5
    state.length("m").completion_tokens = 100.5
    state.gates["b"] = Gate("breaker", 30 * S)
    state.scraped["a"] = Scraped(3, 1, 0.5, 8 * S, 23 * S)
    state.scraped["b"] = Scraped(0, 0, None, 1 * S, 16 * S)
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
    assert back.load("a").tightest_tpot_slo_s == 0.02
    assert back.correction("a", "m")[0].factor_q90 == state.correction("a", "m")[0].factor_q90
    back.release(Reservation("a", 1, 100, 0.02), 0)
    assert back.load("a").tightest_tpot_slo_s == 0.05, "what follows goes on as it would have"


def test_times_are_those_of_whoever_restores() -> None:
    back = restore(dump(full(), 10 * S), 1000 * S)
    assert back.gates["b"].until_ns == 1020 * S
    assert (back.scraped["a"].at_ns, back.scraped["a"].fresh_until_ns) == (998 * S, 1013 * S)


@given(st.lists(st.tuples(Names, st.integers(1, 9), st.integers(0, 9999), st.none() | st.floats(0.001, 10))))
def test_any_load_comes_back(reserved: list[tuple[str, int, int, float | None]]) -> None:
    state = RoutingState()
    for each in reserved:
        state.reserve(Reservation(*each), 0)
    back = restore(json.loads(json.dumps(dump(state))))
    assert same(state, back)
    for each in reserved:
        back.first_token(Reservation(*each), 0)
        back.release(Reservation(*each), 0)
    assert all(load.sequences == load.pending_prompt_tokens == 0 for load in back.loads.values())


def test_parts_that_are_missing_are_new() -> None:
    assert same(restore({"version": 1}), RoutingState())


def _broken(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(dump(full(), 10 * S)))
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data.update(version=2), "version 1"),
        (lambda data: data["loads"]["a"].pop("sequences"), "loads: .*sequences"),
        (lambda data: data["loads"]["a"].update(sequences="3"), "loads: .*sequences is no number"),
        (lambda data: data["loads"]["a"].update(sequences=None), "loads: .*sequences is no number"),
        (lambda data: data["loads"]["a"].update(sequences=float("nan")), "loads: .*sequences is no number"),
        (lambda data: data["loads"]["a"].update(_tpot_slos=[1]), "loads: "),
        (lambda data: data.update(loads=[]), "loads: "),
        (lambda data: data["corrections"][0].pop("model"), "corrections: .*model"),
        (lambda data: data.update(corrections=3), "corrections: "),
        (lambda data: data.update(cursors={"a": "x"}), "cursors: "),
        (lambda data: data["gates"]["b"].update(for_s=float("inf")), "gates: "),
        (lambda data: data["scraped"]["a"].pop("running"), "scraped: .*running"),
        (lambda data: data.update(scraped={"a": None}), "scraped: "),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: Callable[[dict[str, Any]], object], told: str) -> None:
    with pytest.raises(StateFileError, match=told):
        restore(_broken(change))
