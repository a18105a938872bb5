"""Load that no gateway of ours has sent."""

from __future__ import annotations

from app.routing.predictor import predict
from app.routing.state import Load, Others, RoutingState, Scraped
from app.routing.strangers import loads_with_strangers
from app.routing.types import Reservation
from tests.builders import make_profile, make_request, make_view

S = 1_000_000_000
A, B = make_view("a", profile=make_profile(max_sequences=8)), make_view("b")


def reported(running: int, waiting: int, fresh_until_s: int = 15) -> RoutingState:
    state = RoutingState()
    state.reserve(Reservation("a", 2, 0, None, 0.0, 400), 0)
    state.scraped["a"] = Scraped(running, waiting, None, 0, fresh_until_s * S)
    return state


def test_strangers_are_what_nobody_of_ours_has_sent() -> None:
    state = reported(8, 4)
    assert loads_with_strangers(state, (A, B), S)["a"].others.sequences == 10
    assert state.load("a").others.sequences == 0, "the state itself is as it was"
    waiting = predict(make_request(), A, state, "reference", S)
    assert waiting.wait_s > predict(make_request(), A, reported(2, 0), "reference", S).wait_s
    assert loads_with_strangers(reported(1, 0), (A, B), S)["a"].others.sequences == 0


def test_one_stale_report_makes_all_of_them_unknown() -> None:
    """Row: staleness. Frozen scrapes fall back to own counts, and no fresh figure is compared with a missing one."""
    state = reported(8, 4)
    state.scraped["b"] = Scraped(8, 40, None, 0, 2 * S)
    assert loads_with_strangers(state, (A, B), S)["b"].others.sequences == 48
    assert loads_with_strangers(state, (A, B), 3 * S) is state.loads
    assert loads_with_strangers(state, (A,), 3 * S)["a"].others.sequences == 10, "b is not in this comparison"


def test_a_load_beside_others_is_the_same_in_all_else() -> None:
    load = Load()
    for number, name in enumerate(Load.__slots__):
        setattr(load, name, number)
    others = Others(sequences=7)
    twin = load.beside(others)
    assert {name: getattr(twin, name) for name in Load.__slots__} == {
        name: others if name == "others" else number for number, name in enumerate(Load.__slots__)
    }
