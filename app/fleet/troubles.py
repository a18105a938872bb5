"""Which backends fail just now: one log line when it begins, one a minute while it lasts, one when it is over.

Without it an operator's wrong key or address would show in counters alone. It only tells; who is asked next is the
policy's affair.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from backends.errors import BackendError, Saturated

SAY_AGAIN_NS = 60_000_000_000

log = logging.getLogger("turnout.fleet")


@dataclass(slots=True)
class Trouble:
    """Failures of a backend since it last answered."""

    failures: int
    last_error: str
    said_ns: int


class Troubles:
    """Counts failures in a row; a client's own fault and a full queue are none."""

    def __init__(self) -> None:
        self._open: dict[str, Trouble] = {}

    def of(self, backend: str) -> Trouble | None:
        """What is wrong with a backend; None if it answered last."""
        return self._open.get(backend)

    def failed(self, backend: str, error: BackendError | None, now_ns: int) -> None:
        """An attempt failed; None is a fault of the backend's code rather than of the service."""
        if isinstance(error, Saturated) or (error is not None and error.client_fault):
            return
        text = str(error) if error is not None else "a bug; see the traceback"
        trouble = self._open.get(backend)
        if trouble is None:
            self._open[backend] = Trouble(1, text, now_ns)
            log.warning("backend '%s' fails: %s", backend, text)
            return
        trouble.failures += 1
        trouble.last_error = text
        if now_ns - trouble.said_ns >= SAY_AGAIN_NS:
            trouble.said_ns = now_ns
            log.warning("backend '%s' still fails, %d times in a row: %s", backend, trouble.failures, text)

    def forget(self, backend: str) -> None:
        """It is another one now, or none."""
        self._open.pop(backend, None)

    def answered(self, backend: str) -> None:
        """It has answered a request to the end."""
        if self._open and (trouble := self._open.pop(backend, None)) is not None:
            log.warning("backend '%s' answers again, after %d failures", backend, trouble.failures)
