"""Rows of other processes add up, whatever the order, and the own one is never counted twice."""

from __future__ import annotations

import json
from functools import reduce
from operator import add
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fleet.sharing.rows import Row, Share, Warm, decode, encode, merged, own_row
from app.routing.predictor import predict
from app.routing.reading import Pace
from app.routing.slo import fitted
from app.routing.state import NOBODY, Others, RoutingState
from app.routing.types import Reservation
from tests.builders import make_request, make_view

S = 1_000_000_000
counts = st.integers(0, 1 << 30)
shares = st.builds(Share, counts, counts, counts, counts, st.none() | st.integers(1, 1 << 30))
names = st.sampled_from(["a", "b", "c"])
warms = st.dictionaries(names, st.builds(Warm, counts, counts))
some_rows = st.builds(Row, st.dictionaries(names, shares), st.dictionaries(names, counts), warms)
processes = st.dictionaries(st.sampled_from(["p1", "p2", "p3", "p4"]), some_rows)


@given(shares, shares, shares)
def test_sums_commute_and_associate(one: Share, two: Share, three: Share) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Share() == one


@given(processes, st.sampled_from(["p1", "p2", "nobody"]), st.randoms())
def test_merging_is_the_sum_over_distinct_others_in_any_order(rows: dict[str, Row], own: str, random: Any) -> None:
    shuffled = list(rows.items())
    random.shuffle(shuffled)
    found = merged(dict(shuffled), own)
    assert found == merged(rows, own)
    others = [row for name, row in rows.items() if name != own]
    for name in "abc":
        told = [row.loads[name] for row in others if name in row.loads]
        assert found.loads.get(name, Share()) == reduce(add, told, Share())
        until = [row.open_until_ms[name] for row in others if name in row.open_until_ms]
        assert found.open_until_ms.get(name) == max(until, default=None)
        warm = [row.warm[name] for row in others if name in row.warm]
        assert found.warm.get(name) == (reduce(add, warm) if warm else None)


def test_a_backend_is_warm_as_soon_as_anybody_knows_and_used_by_whoever_used_it_last() -> None:
    rows = {"p1": Row({}, {}, {"a": Warm(50, 90)}), "p2": Row({}, {}, {"a": Warm(70, 60)})}
    assert merged(rows, "me").warm == {"a": Warm(50, 90)}


def test_a_row_of_before_warmth_was_told_is_understood() -> None:
    assert decode(b'{"v":1,"loads":{},"open":{"a":5}}') == Row({}, {"a": 5})


@given(some_rows)
def test_a_row_comes_back_as_it_was_stored(row: Row) -> None:
    assert decode(encode(row)) == row


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"v":2,"loads":{},"open":{}}', '{"v":1,"loads":{"a":[1,2]},"open":{}}', "nonsense", "\xff",
     '{"v":1,"loads":{"a":[1,2,3,-4,null]},"open":{}}', '{"v":1,"loads":{"a":[1,2,3,1e9,null]},"open":{}}',
     '{"v":1,"loads":{},"open":{},"warm":{"a":[1]}}', '{"v":1,"loads":{},"open":{},"warm":{"a":[1,-2]}}',
     '{"v":1,"loads":{},"open":{},"warm":[1]}', '{"v":1,"loads":{},"open":{"a":true}}', '{"v":1,"loads":7,"open":{}}'],
)  # fmt: skip
def test_what_is_not_understood_is_as_if_it_were_not_there(text: str) -> None:
    assert decode(text.encode("latin-1")) is None


@given(st.binary())
def test_any_bytes_are_a_row_or_none(text: bytes) -> None:
    row = decode(text)
    assert row is None or isinstance(row, Row)


def reservation(ticket: int, prompt_s: float = 2.0) -> Reservation:
    pace = Pace(0.0, 0.01, 1.0, 0)
    return Reservation("a", 1, 1000, 0.05, prompt_s=prompt_s, resident_tokens=1100, pace=pace, ticket=ticket)


def test_a_process_tells_its_own_part_and_never_what_it_was_told() -> None:
    state = RoutingState()
    state.reserve(reservation(1), 0)
    state.load("a").others = Others(7, 7, 7, 7.0, 0.001)
    state.load("idle")
    told = own_row(state, ["a", "idle", "unseen"], {}, 0)
    assert told == Row({"a": Share(1, 1100, 1000, 2_000_000, 50_000)}, {})
    assert json.loads(encode(told))["loads"] == {"a": [1, 1100, 1000, 2_000_000, 50_000]}


def test_a_prompt_is_unread_until_its_first_token() -> None:
    state = RoutingState()
    state.reserve(reservation(1), 0)
    assert [own_row(state, ["a"], {}, now).loads["a"].prompt_tokens for now in (0, 9 * S)] == [1000, 1000]
    state.first_token(reservation(1), 3 * S)
    state.release(reservation(1), 3 * S)
    assert own_row(state, ["a"], {}, 3 * S).loads["a"]._replace(reading_us=0) == Share()
    assert Share().others() == NOBODY


def test_others_load_makes_a_newcomer_wait_and_binds_it_to_their_pace() -> None:
    state, view, request = RoutingState(), make_view(), make_request()
    idle = predict(request, view, state, "reference")
    state.load("a").others = Others(8, 8000, 5000, 1.0, 0.001)
    beside = predict(request, view, state, "reference")
    assert beside.wait_s == pytest.approx(5000 * 1e-4)
    assert beside.ttft_s > idle.ttft_s + 0.4
    assert beside.tpot_s > idle.tpot_s
    candidate = fitted([view], [beside], state.loads, request.slo, 0.05, 0.05)[0]
    assert candidate.in_flight == 8
    assert "resident_tpot" in candidate.why_not
