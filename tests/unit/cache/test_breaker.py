"""A store that fails: when it is asked again, and how much is said of it."""

from __future__ import annotations

import pytest

from app.cache.breaker import LONGEST_NS, QUIET_NS, Breaker

S = 1_000_000_000


def test_one_failure_opens_it_and_the_others_of_that_outage_count_for_nothing() -> None:
    breaker = Breaker("the store")
    for _ in range(1000):
        breaker.failed(0, "gone")
    assert (breaker.open, breaker.outages) == (True, 1)


def test_one_probe_at_a_time_ever_later_and_never_later_than_the_longest() -> None:
    breaker, now_ns, waits = Breaker("the store"), 0, []
    breaker.failed(now_ns, "gone")
    for _ in range(6):
        before_ns = now_ns
        while not breaker.due(now_ns):
            now_ns += S // 10
        assert not breaker.due(now_ns), "one at a time"
        waits.append((now_ns - before_ns) // S)
        breaker.failed(now_ns, "gone")
    assert waits[0] == 1
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_NS // S
    assert breaker.outages == 1
    now_ns += LONGEST_NS
    assert breaker.due(now_ns)
    breaker.succeeded()
    assert not breaker.open
    assert not breaker.due(now_ns + 100 * S)


def test_a_store_that_flaps_is_said_once_a_while(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker("the store")
    for second in range(600):
        breaker.failed(second * S, "gone")
        assert breaker.due(second * S + S // 2) is False
        assert breaker.due((second + 1) * S)
        breaker.succeeded()
    assert breaker.outages == 600
    minutes = 600 * S // QUIET_NS
    assert len(caplog.records) <= 2 * (minutes + 1)
    assert "were not said" in caplog.records[-2].message


def test_refusals_are_counted_and_said_once_a_while(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker("the store")
    for second in range(120):
        breaker.refused(second * S, "OOM")
    assert (breaker.refusals, breaker.open, len(caplog.records)) == (120, False, 2)
