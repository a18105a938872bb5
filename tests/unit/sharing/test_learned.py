"""What others observed adds up, stands in where little is known here, and never comes back as news."""

from __future__ import annotations

import random
from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fleet.sharing.learned import Row, Sum, decode, encode, faded, merged, own, profile_hash, take
from app.routing.predictor import predict
from app.routing.residuals import PRIOR_Q90
from app.routing.state import RoutingState
from tests.builders import make_candidate, make_outcome, make_profile, make_request, make_snapshot, make_view

S = 1_000_000_000
VIEW = make_view()
SNAPSHOT = make_snapshot(VIEW)
steps = st.dictionaries(st.integers(-120, 120), st.integers(0, 256)).map(lambda each: tuple(sorted(each.items())))
sums = st.integers(0, 256).flatmap(
    lambda samples: st.builds(Sum, st.just(samples), st.integers(-3_000_000, 3_000_000).map(samples.__mul__), steps)
)
keys = st.tuples(
    st.sampled_from(["a m", "b m"]), st.just("cafe"), st.sampled_from(["ttft", "tpot"]), st.integers(-1, 3)
)
some_rows = st.dictionaries(keys, sums, max_size=4)


def taught(count: int, factor: float, seed: int = 0) -> RoutingState:
    """A process that found everything to take `factor` times what was predicted, give or take a little."""
    state, rng = RoutingState(), random.Random(seed)
    idle, request = make_candidate(VIEW), make_request()
    for number in range(count):
        now_ns = number * S // 100
        chosen = idle._replace(prediction=predict(request, VIEW, state, "reference", now_ns))
        ttft_s = idle.prediction.prior_ttft_s * factor * exp(rng.gauss(0, 0.1))
        state.observe(make_outcome(chosen=chosen, ttft_s=ttft_s), now_ns)
    return state


@given(sums, sums, sums)
def test_sums_commute_and_associate(one: Sum, two: Sum, three: Sum) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Sum() == one


@given(st.dictionaries(st.sampled_from(["p1", "p2", "p3"]), some_rows), st.sampled_from(["p1", "none"]))
def test_the_own_row_is_not_among_the_others(told: dict[str, Row], name: str) -> None:
    found = merged(told, name)
    assert found == merged({key: row for key, row in told.items() if key != name}, "nobody")


@given(some_rows)
def test_a_row_comes_back_as_it_was_stored(row: Row) -> None:
    assert decode(encode(row)) == row


@given(
    st.binary() | st.sampled_from([b'{"v":1,"learned":[[1]]}', b'{"v":1,"learned":[["a","b","ttft",1,1,1,[[1e9,1]]]]}'])
)
def test_any_bytes_are_a_row_or_none(text: bytes) -> None:
    assert decode(text) is None


def test_a_new_process_begins_from_what_the_others_know() -> None:
    told = {name: own(taught(200, 2.0, seed), SNAPSHOT, 2 * S) for seed, name in enumerate(("x", "y"))}
    new, request = RoutingState(), make_request()
    before = predict(request, VIEW, new, "reference", 2 * S)
    take(new, SNAPSHOT, merged(told, "new"))
    after = predict(request, VIEW, new, "reference", 2 * S)
    ratio = after.ttft_s / before.prior_ttft_s
    assert ratio == pytest.approx(2.0, rel=0.15)
    assert after.ttft_q90_s / after.ttft_s < PRIOR_Q90, "the others' spread is known, too"
    assert not own(new, SNAPSHOT, 2 * S), "nothing of it is told on"
    take(new, SNAPSHOT, {})
    assert predict(request, VIEW, new, "reference", 2 * S).ttft_s == pytest.approx(before.ttft_s)


def test_who_knows_better_stays_by_it() -> None:
    knows, request = taught(256, 1.0), make_request()
    take(knows, SNAPSHOT, own(taught(256, 3.0), SNAPSHOT, 3 * S))
    assert predict(request, VIEW, knows, "reference", 3 * S).ttft_s < 1.5 * make_candidate(VIEW).prediction.prior_ttft_s


def test_another_profile_s_residuals_are_ignored() -> None:
    other = make_snapshot(make_view(profile=make_profile(overhead_s=0.5)))
    new = RoutingState()
    take(new, other, own(taught(200, 2.0), SNAPSHOT, 2 * S))
    assert not new.learned


def test_old_word_counts_for_less() -> None:
    row = own(taught(200, 2.0), SNAPSHOT, 2 * S)
    old: Any = faded(row, 60.0)
    for key, each in row.items():
        assert abs(old[key].samples - each.samples / 2) <= 1
        if each.samples > 50:
            assert old[key].total_micro / old[key].samples == pytest.approx(each.total_micro / each.samples, rel=0.05)
    slow = row[VIEW.key, profile_hash(VIEW.profile), "reading", -1]
    assert slow.total_micro / slow.samples / 1e6 == pytest.approx(log(2), abs=0.1)
