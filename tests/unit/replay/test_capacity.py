"""Bisection: the highest load that keeps the bar, whatever it is, in few tries."""

from __future__ import annotations

import pytest

from app.replay.capacity import HIGHEST, PRECISION, Attained, capacity, described


@pytest.mark.parametrize("true", [0.02, 0.3, 1.0, 1.3, 7.7, 900.0])
def test_the_highest_load_is_found_from_below(true: float) -> None:
    load, tried = capacity(lambda load: Attained(load, 1.0 if load <= true else 0.9, True))
    assert load is not None
    assert true / (1 + PRECISION) <= load <= true
    assert len(tried) < 20


def test_none_and_more_than_enough_are_said() -> None:
    assert capacity(lambda load: Attained(load, 0.5, False))[0] is None
    assert capacity(lambda load: Attained(load, 1.0, True))[0] == HIGHEST


def test_the_result_is_told_in_requests_per_second() -> None:
    found = described(2.0, [Attained(2.0, 0.999, True, 10)], 5.5)
    assert found["requests_per_s"] == 11.0
    assert found["tried"][0]["slo_attainment"] == 0.999
    assert described(None, [], 5.5)["requests_per_s"] is None
