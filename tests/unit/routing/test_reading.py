"""The picture of how prompts are read: steps one after another, made up when they begin or one step ahead."""

from __future__ import annotations

from math import inf

import pytest

from app.routing.reading import Pace, Reading

MS = 1_000_000
AHEAD = Pace(left_s=0.0, step_s=0.010, budget_s=inf, lag_steps=1)
NOT_AHEAD = AHEAD._replace(lag_steps=0)


def takes_ms(reading: Reading, prompt_s: float, pace: Pace, now_ms: float) -> float:
    return round(reading.takes_s(prompt_s, pace, int(now_ms * MS))[0] * 1e3, 6)


def step_ms(reading: Reading) -> tuple[float, float, float]:
    """(how much is read, from when, until when)."""
    return round(reading.chunk_s * 1e3, 3), round(reading.start_ns / MS, 3), round(reading.end_ns / MS, 3)


def test_who_comes_while_a_step_runs_is_read_a_step_later_where_steps_are_made_up_ahead() -> None:
    reading = Reading()
    reading.send(1, 0.100, AHEAD, 0)
    assert step_ms(reading) == (100.0, 10.0, 120.0)
    assert takes_ms(reading, 0.050, AHEAD, 50) == 70 + 10 + 10 + 50
    reading.send(2, 0.050, AHEAD, 50 * MS)
    reading.first_token(1, 120 * MS)
    assert step_ms(reading) == (50.0, 130.0, 190.0), "a step passes that reads nothing"
    assert takes_ms(reading, 0.020, AHEAD, 125) == 65 + 10 + 20, "that step is made up already"
    reading.send(3, 0.020, AHEAD, 125 * MS)
    assert step_ms(reading) == (50.0, 130.0, 190.0)
    reading.first_token(2, 190 * MS)
    assert step_ms(reading) == (20.0, 190.0, 220.0), "it was there when the step before began"


def test_who_comes_before_the_step_that_nobody_waits_for_ends_is_read_along() -> None:
    reading = Reading()
    reading.send(1, 0.100, AHEAD._replace(left_s=0.005), 0)
    assert step_ms(reading) == (100.0, 15.0, 125.0)
    assert takes_ms(reading, 0.030, AHEAD, 4) == 11 + 10 + 100 + 30
    reading.send(2, 0.030, AHEAD, 4 * MS)
    assert step_ms(reading) == (130.0, 15.0, 155.0)


def test_where_steps_are_made_up_as_they_begin_the_next_one_reads_whoever_is_there() -> None:
    reading = Reading()
    reading.send(1, 0.100, NOT_AHEAD, 0)
    reading.send(2, 0.050, NOT_AHEAD, 50 * MS)
    reading.first_token(1, 110 * MS)
    assert step_ms(reading) == (50.0, 110.0, 170.0)


def test_a_step_far_shorter_than_expected_has_read_less() -> None:
    reading = Reading()
    for ticket in (1, 2, 3):
        reading.send(ticket, 0.100, NOT_AHEAD, 0)
    assert step_ms(reading)[0] == 100.0
    reading.first_token(1, 110 * MS)
    assert step_ms(reading)[0] == 200.0
    reading.first_token(2, 220 * MS)
    assert reading.read_s == pytest.approx(0.2)
    assert step_ms(reading) == (100.0, 220.0, 330.0)


def test_steps_that_end_unseen_are_imagined() -> None:
    reading = Reading()
    pace = NOT_AHEAD._replace(budget_s=0.050)
    reading.send(1, 0.200, pace, 0)
    assert reading.read_by(0) == 0.0
    assert reading.read_by(125 * MS) == pytest.approx(0.1)
    assert reading.read_by(10_000 * MS) == pytest.approx(0.2)
