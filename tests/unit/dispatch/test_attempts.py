"""When another backend is tried, as a conversation: events in, verdicts out."""

from __future__ import annotations

import pytest

from app.dispatch.attempts import Attempts
from backends import errors


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.Saturated("full"), True),
        (errors.Unavailable("gone"), True),
        (errors.BackendTimeout("slow"), True),
        (errors.ContextExceeded("long"), False),
        (errors.Unsupported("no tools"), False),
        (errors.StreamCut("cut"), False),
    ],
)
def test_only_failures_another_backend_need_not_share_are_retried(error: errors.BackendError, again: bool) -> None:
    attempts = Attempts(max_attempts=2)
    assert attempts.begin("a") == 1
    assert attempts.failed(error) is again
    assert attempts.last_error is error


def test_backends_that_are_full_do_not_use_the_attempts_up() -> None:
    attempts = Attempts(max_attempts=2)
    for name in "abc":
        attempts.begin(name)
        assert attempts.failed(errors.Saturated("full"))
    attempts.begin("d")
    assert attempts.failed(errors.Unavailable("gone"))
    attempts.begin("e")
    assert not attempts.failed(errors.Unavailable("gone"))


def test_backends_nobody_can_connect_to_do_not_use_them_up_either() -> None:
    attempts = Attempts(max_attempts=1)
    for name in "abc":
        attempts.begin(name)
        assert attempts.failed(errors.Unreachable("refused"))
    attempts.begin("d")
    assert not attempts.failed(errors.Unavailable("500"))


def test_attempts_are_bounded_and_remember_who_was_asked() -> None:
    attempts = Attempts(max_attempts=2)
    attempts.begin("a")
    assert attempts.failed(errors.Unavailable("gone"))
    assert attempts.begin("b") == 2
    assert not attempts.failed(errors.Unavailable("gone too"))
    assert attempts.tried == {"a", "b"}
