"""Failing backends are told of once, then seldom, then once more when it is over."""

from __future__ import annotations

import pytest

from app.fleet.troubles import SAY_AGAIN_NS, Troubles
from backends import errors


def test_a_failure_is_said_at_once_then_once_a_minute_then_its_end(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles()
    troubles.failed("a", errors.Unavailable("401: check its api_key"), 0)
    for second in range(1, 60):
        troubles.failed("a", errors.Unavailable("401: check its api_key"), second * 10**9)
    assert len(caplog.records) == 1
    assert "check its api_key" in caplog.text
    troubles.failed("a", errors.Unavailable("401: check its api_key"), SAY_AGAIN_NS)
    assert "61 times in a row" in caplog.text
    found = troubles.of("a")
    assert found is not None
    assert (found.failures, found.last_error) == (61, "401: check its api_key")
    troubles.answered("a")
    assert troubles.of("a") is None
    assert "answers again, after 61 failures" in caplog.text
    troubles.answered("a")
    assert len(caplog.records) == 3


@pytest.mark.parametrize("error", [errors.Saturated("full"), errors.ContextExceeded("long", "messages")])
def test_what_is_no_fault_of_the_backends_is_not_held_against_it(error: errors.BackendError) -> None:
    troubles = Troubles()
    troubles.failed("a", error, 0)
    assert troubles.of("a") is None
