"""When to try again elsewhere: a synchronous state machine, events in, verdicts out. No I/O, no clock.

A request may move to another backend only while nothing has reached the client and only for failures another backend
need not share. At most `max_attempts` backends may fail it; one that is full or cannot be connected to has cost nothing
and does not count.
"""

from __future__ import annotations

from backends.errors import BackendError, Saturated, Unreachable


class Attempts:
    """The attempts of one request."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts
        self._tried: list[str] = []
        self._failures = 0
        self.last_error: BackendError | None = None

    @property
    def number(self) -> int:
        """Attempts begun so far."""
        return len(self._tried)

    @property
    def tried(self) -> frozenset[str]:
        """Backends that are not asked again."""
        return frozenset(self._tried)

    def begin(self, backend: str) -> int:
        """An attempt starts; returns its number, from 1."""
        self._tried.append(backend)
        return len(self._tried)

    def failed(self, error: BackendError) -> bool:
        """An attempt failed before its first byte; True = try another backend."""
        self.last_error = error
        if not isinstance(error, Saturated | Unreachable):
            self._failures += 1
        return error.retryable and self._failures < self._max_attempts
