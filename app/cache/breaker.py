"""When a store that fails is asked again, and what is said of it. Pure.

It opens with the first failure: others that were under way then belong to the same outage and are not counted again.
While it is open nothing is asked on a request's way; a probe beside it finds out when the store is back, first after a
second, then ever later, up to `LONGEST_NS`. What is said is bounded: an outage within `QUIET_NS` of the last one that
was said is only counted, and so is its end.
"""

from __future__ import annotations

import logging

FIRST_NS, LONGEST_NS = 1_000_000_000, 4_000_000_000
QUIET_NS = 60_000_000_000

log = logging.getLogger("turnout.cache")


class Breaker:
    """State of one store. Times are of a monotonic clock."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._retry_ns = FIRST_NS
        self._probe_at_ns = 0
        self._probing = False
        self._quiet_until_ns = 0
        self._said = False
        self._unsaid = 0
        self._grumble_at_ns = 0
        self.open = False
        self.outages = 0
        self.refusals = 0

    def due(self, now_ns: int) -> bool:
        """Whether somebody should probe now; whoever is told so has to, and say how it went."""
        if not self.open or self._probing or now_ns < self._probe_at_ns:
            return False
        self._probing = True
        return True

    def failed(self, now_ns: int, why: str) -> None:
        """An operation failed, or a probe."""
        if self.open and not self._probing:
            return
        self._retry_ns = min(2 * self._retry_ns, LONGEST_NS) if self.open else FIRST_NS
        self._probe_at_ns = now_ns + self._retry_ns
        self._probing = False
        if self.open:
            return
        self.open = True
        self.outages += 1
        if self._said or now_ns < self._quiet_until_ns:
            self._unsaid += 1
            return
        before = f"; {self._unsaid} outages before it were not said" if self._unsaid else ""
        log.warning("%s unreachable (%s): going on without it%s", self._what, why, before)
        self._said, self._unsaid = True, 0
        self._quiet_until_ns = now_ns + QUIET_NS

    def refused(self, now_ns: int, why: str) -> None:
        """It answers, but will not do what was asked."""
        self.refusals += 1
        if now_ns >= self._grumble_at_ns:
            self._grumble_at_ns = now_ns + QUIET_NS
            log.warning("%s refuses (%s)", self._what, why)

    def succeeded(self) -> None:
        """A probe was answered."""
        if not self.open:
            return
        self.open = self._probing = False
        if self._said:
            self._said = False
            log.warning("%s is back", self._what)
