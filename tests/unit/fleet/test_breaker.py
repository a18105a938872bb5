"""The circuit breaker: a table of what opens it, what closes it, and what never counts; then what always holds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.fleet.breaker import JITTER, SECOND_NS, Breaker


def play(breaker: Breaker, outcomes: Sequence[bool | None], now_ns: int, every_ns: int = 0) -> int:
    for outcome in outcomes:
        breaker.ended(breaker.begin(now_ns), outcome, now_ns)
        now_ns += every_ns
    return now_ns


@pytest.mark.parametrize(
    ("outcomes", "every_s", "opens"),
    [
        ([False] * 4, 0.0, False),
        ([False] * 5, 0.0, True),
        ([False] * 5, 60.0, True),  # in a row, however slowly
        ([False, False, False, False, True] * 2 + [False], 0.0, True),  # 9 of 11, never 5 in a row
        ([True, False] * 5, 0.0, True),  # half of 10
        ([True, False] * 4, 0.0, False),  # too few
        ([True, True, False] * 20, 0.0, False),  # a third
        ([True, False] * 20, 2.0, False),  # never 10 within 10 s
        ([None] * 50, 0.0, False),
        ([False, None] * 4, 0.0, False),
        ([False, False, False, False, None, False], 0.0, True),  # what says nothing does not interrupt
    ],
)
def test_what_opens_it(outcomes: Sequence[bool | None], every_s: float, opens: bool) -> None:
    breaker = Breaker(1)
    play(breaker, outcomes, SECOND_NS, int(every_s * SECOND_NS))
    assert breaker.state == ("open" if opens else "closed")


def opened(seed: int = 1) -> Breaker:
    breaker = Breaker(seed)
    play(breaker, [False] * 5, 0)
    return breaker


def test_it_is_open_for_five_seconds_then_asked_once_at_a_time_and_three_answers_close_it() -> None:
    breaker = opened()
    assert 5 * (1 - JITTER) * SECOND_NS <= breaker.until_ns <= 5 * (1 + JITTER) * SECOND_NS
    assert breaker.at(breaker.until_ns - 1) == "open"
    now_ns = breaker.until_ns
    for _ in range(3):
        assert breaker.at(now_ns) == "half_open"
        ticket = breaker.begin(now_ns)
        assert breaker.probing
        assert breaker.ended(ticket, True, now_ns)
        assert not breaker.probing
    assert breaker.state == "closed"
    play(breaker, [False] * 4, now_ns)
    assert breaker.state == "closed", "what was before is forgotten"


def test_each_reopening_lasts_twice_as_long_up_to_a_minute_and_is_forgiven_after_a_minute_closed() -> None:
    breaker, lasted = opened(), []
    for _ in range(6):
        now_ns = breaker.until_ns
        breaker.ended(breaker.begin(now_ns), False, now_ns)
        assert breaker.state == "open"
        lasted.append((breaker.until_ns - now_ns) / SECOND_NS)
    for seconds, expected in zip(lasted, (10, 20, 40, 60, 60, 60), strict=True):
        assert expected * (1 - JITTER) <= seconds <= expected * (1 + JITTER)
    now_ns = breaker.until_ns
    play(breaker, [True] * 3, now_ns)
    play(breaker, [False] * 5, now_ns + 59 * SECOND_NS)
    assert breaker.until_ns - now_ns > 100 * SECOND_NS
    now_ns = breaker.until_ns
    play(breaker, [True] * 3, now_ns)
    play(breaker, [False] * 5, now_ns + 60 * SECOND_NS)
    assert breaker.until_ns - now_ns < 66 * SECOND_NS


def test_who_was_asked_before_it_opened_says_nothing_afterwards() -> None:
    breaker = Breaker(1)
    early = breaker.begin(0)
    play(breaker, [False] * 5, 0)
    assert not breaker.ended(early, True, 1)
    now_ns = breaker.until_ns
    probe = breaker.begin(now_ns)
    assert not breaker.ended(early, False, now_ns)
    assert breaker.probing
    breaker.ended(probe, True, now_ns)
    assert breaker.state == "half_open"


def test_a_probe_that_says_nothing_makes_room_for_the_next() -> None:
    breaker = opened()
    now_ns = breaker.until_ns
    assert breaker.ended(breaker.begin(now_ns), None, now_ns)
    assert (breaker.state, breaker.probing) == ("half_open", False)


def test_an_answer_while_it_is_open_ends_that() -> None:
    for outcome, expected in ((False, "open"), (None, "open"), (True, "half_open")):
        breaker = opened()
        breaker.ended(breaker.begin(SECOND_NS), outcome, SECOND_NS)
        assert breaker.state == expected


def test_replicas_do_not_come_back_in_step_and_a_seed_repeats() -> None:
    assert len({opened(seed).until_ns for seed in range(8)}) == 8
    assert opened(3).until_ns == opened(3).until_ns


STEPS = st.lists(
    st.tuples(st.sampled_from([True, False, None]), st.integers(0, 4 * SECOND_NS), st.booleans()), max_size=120
)


@given(STEPS)
def test_whatever_happens(steps: list[tuple[bool | None, int, bool]]) -> None:
    breaker, now_ns = Breaker(7), 0
    open_tickets: list[int] = []
    for outcome, later_ns, leave_open in steps:
        now_ns += later_ns
        was, answers_needed = breaker.at(now_ns), breaker.state
        ticket = breaker.begin(now_ns)
        if leave_open:
            open_tickets.append(ticket)
            continue
        breaker.ended(ticket, outcome, now_ns)
        if was == "closed" and outcome is not False:
            assert breaker.state == "closed", "only failures open it"
        if breaker.state == "open":
            assert breaker.until_ns - breaker.since_ns <= 66 * SECOND_NS
        if answers_needed == "open" and was == "open" and not outcome:
            assert breaker.state == "open"
        assert not breaker.probing or open_tickets
    for ticket in open_tickets:
        breaker.ended(ticket, None, now_ns)
    assert not breaker.probing


@given(st.lists(st.none(), max_size=50), st.integers(0, 4))
def test_what_never_counts_never_opens(nothing: list[None], failures: int) -> None:
    breaker = Breaker(7)
    play(breaker, [*nothing, *[False] * failures, *nothing], 0)
    assert breaker.state == "closed"
