"""Caps hold in the step in which a slot is taken; parts and chunks never add up to more than the cap."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from app.config.load import load
from app.fleet.fleet import Fleet
from app.fleet.receipts import Receipts
from app.fleet.sharing.leases import part, want
from app.replay.runs import Ledgered
from app.replay.stage import stage
from app.routing.types import Reservation
from tests.builders import make_policy, make_request, make_snapshot, make_view
from tests.fakes import ScriptedBackend


def capped(cap: int = 2, *, shared: bool = False) -> Fleet:
    names = ("a", "b")
    snapshot = make_snapshot(*(make_view(name) for name in names))
    made = Fleet({name: ScriptedBackend(name) for name in names}, snapshot, {"cheapest-slo": make_policy()},
                 Receipts(10, "d-"), 0)  # fmt: skip
    made.caps.configure({"a": cap, "b": cap}, shared=shared, now_ns=0)
    return made


def take(fleet: Fleet) -> Reservation | None:
    return fleet.decide(make_request(), 0)[1]


def test_no_more_than_the_cap_is_in_flight_and_room_is_room_again() -> None:
    fleet = capped()
    taken = [take(fleet) for _ in range(6)]
    assert [each is not None for each in taken] == [True] * 4 + [False] * 2
    refused = fleet.decide(make_request(), 0)[0]
    assert {reason for _, reason in refused.rejected} == {"full"}
    assert refused.retry_after_s == 0.05
    first = taken[0]
    assert first is not None
    fleet.release(first, 0)
    again = take(fleet)
    assert again is not None
    assert again.backend == first.backend
    assert take(fleet) is None


def test_panic_is_no_way_around_a_cap() -> None:
    fleet = capped(1)
    for _ in range(2):
        assert take(fleet) is not None
    for name in "ab":
        fleet.health.elsewhere(name, 10_000_000_000, 0)
    assert take(fleet) is None


def test_shared_caps_allow_what_is_leased_and_say_where_more_is_wanted() -> None:
    fleet, calls = capped(5, shared=True), list[int]()
    fleet.caps.wanted = lambda: calls.append(1)
    assert take(fleet) is None
    assert (fleet.caps.missed, calls) == ({"a", "b"}, [1])
    fleet.caps.allow("a", 1, 0)
    reservation = take(fleet)
    assert reservation is not None
    assert reservation.backend == "a"
    assert take(fleet) is None
    fleet.caps.configure({"a": 5}, shared=True, now_ns=0)
    assert take(fleet).backend == "b"  # type: ignore[union-attr] # no cap any more
    fleet.caps.configure({"a": 5}, shared=False, now_ns=0)
    assert fleet.caps.allowed == {"a": 5}


names = st.sets(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=12)


@given(st.integers(1, 1000), names)
def test_parts_of_all_processes_are_the_cap(cap: int, processes: set[str]) -> None:
    assert sum(part(cap, each, processes - {each}) for each in processes) == cap


@given(st.integers(1, 1000), names, st.integers(0, 1000), st.booleans(), st.booleans())
def test_nobody_asks_for_more_than_the_cap_nor_for_nothing_while_it_wants(
    cap: int, others: set[str], used: int, missed: bool, elsewhere: bool
) -> None:
    slots = want(cap, "me", others, used, missed=missed, wanted_elsewhere=elsewhere)
    assert 0 <= slots <= cap
    assert slots >= 1 or (elsewhere and not used and not missed)
    if elsewhere:
        assert slots <= max(1, part(cap, "me", others))


def test_a_replay_shares_with_nobody_and_leases_nothing(tmp_path: Path) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text('version: 1\nextends: shipped\nsharing: {type: redis, url: "redis://nowhere"}\n')
    loaded = load(path)
    capped = tuple(each.model_copy(update={"max_in_flight": 1}) for each in loaded.config.backends)
    made = stage(replace(loaded, config=loaded.config.model_copy(update={"backends": capped})), 0, Ledgered())
    assert set(made.fleet.caps.allowed.values()) == {1}
