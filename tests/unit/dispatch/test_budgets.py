"""Extra attempts stay within their share of traffic, whatever is asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.dispatch.budgets import WINDOW_NS, Budget

STEPS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.5, 1.0]), st.integers(0, WINDOW_NS // 3)), max_size=300)


@given(STEPS)
def test_extra_attempts_never_exceed_share_plus_what_was_saved_plus_the_floor(
    steps: list[tuple[bool, float, int]],
) -> None:
    budget = Budget(0.1, 10.0, 3.0)
    now_ns, requests, taken = 5, 0, 0.0
    for is_request, cost, later_ns in steps:
        now_ns += later_ns
        if is_request:
            budget.request()
            requests += 1
        elif budget.take(cost, now_ns):
            taken += cost
        windows = now_ns // WINDOW_NS + 1
        assert taken <= 0.1 * requests + 3.0 * windows + 1e-6


def test_without_traffic_three_retries_in_ten_seconds_are_free() -> None:
    budget = Budget(0.1, 10.0, 3.0)
    assert [budget.take(1.0, 1) for _ in range(4)] == [True, True, True, False]
    assert budget.take(1.0, WINDOW_NS)


def test_what_may_be_taken_is_what_is_taken() -> None:
    budget = Budget(0.05, 10.0, 0.0)
    for _ in range(20):
        assert not budget.may(1.0, 0)
        budget.request()
    assert budget.may(1.0, 0)
    assert budget.take(1.0, 0)
    assert not budget.may(1.0, 0)
