"""More and less traffic: the right amount, shifted and not squeezed, the same for the same seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.replay.formats import Arrival
from app.replay.load import scaled, span

TRACE = [Arrival(float(number), 10 + number, 5, (number,)) for number in range(1000)]


@pytest.mark.parametrize("load", [0.25, 0.5, 1.0, 1.5, 2.0, 3.7])
def test_there_is_as_much_as_asked_for(load: float) -> None:
    rows = scaled(TRACE, load, 1)
    assert len(rows) == pytest.approx(1000 * load, rel=0.08)
    times = [arrival.at_s for arrival in rows]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] < span(TRACE)


def test_once_is_the_trace_itself() -> None:
    assert scaled(TRACE, 1.0, 5) == TRACE


def test_time_is_never_squeezed() -> None:
    """Every copy keeps its gaps, but for the one where it wraps around."""
    rows = scaled(TRACE, 2.0, 3)
    copied = [arrival for arrival in rows if arrival.blocks[0] >= 1000]
    gaps = {round(after.at_s - before.at_s, 6) for before, after in pairwise(copied)}
    assert len(copied) == 1000
    assert gaps == {1.0}


def test_a_copys_blocks_are_its_own() -> None:
    assert len({arrival.blocks for arrival in scaled(TRACE, 3.0, 1)}) == 3000


@given(load=st.floats(0.01, 4), seed=st.integers(0, 99))
def test_the_same_seed_gives_the_same(load: float, seed: int) -> None:
    assert scaled(TRACE[:50], load, seed) == scaled(TRACE[:50], load, seed)


@pytest.mark.parametrize("load", [0.5, 1.5, 2.0])
def test_another_seed_gives_another(load: float) -> None:
    assert scaled(TRACE, load, 1) != scaled(TRACE, load, 2)


def test_a_trace_of_one_request_can_be_scaled() -> None:
    assert len(scaled(TRACE[:1], 3.0, 1)) == 3
