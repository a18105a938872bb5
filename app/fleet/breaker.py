"""A circuit breaker: one backend's failures of late, and whether it may be asked. Pure: no clock, no I/O.

    closed     asked. Opens at 10 requests and half of them failed within 10 s, or at 5 failures in a row
    open       not asked for 5 s x 2^k (60 s at most, +-10 %: replicas must not come back in step), then half-open
    half_open  asked once at a time. 3 answers close it; a failure opens it again with k + 1

k falls back to 0 once it has been closed for 60 s. What counts is told by the caller: `True` answered, `False` failed,
`None` neither (a client that left, a client's own fault, a full queue). Only attempts begun since the state last
changed count: those in flight when it opened say nothing of how the backend is now.
"""

from __future__ import annotations

from random import Random
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]

SECOND_NS = 1_000_000_000
WINDOW_S = 10
FEWEST_REQUESTS = 10
FAILED_SHARE = 0.5
FAILURES_IN_A_ROW = 5
ANSWERS_TO_CLOSE = 3
FIRST_OPEN_S = 5.0
LONGEST_OPEN_S = 60.0
JITTER = 0.1
FORGIVEN_AFTER_NS = 60 * SECOND_NS


class Breaker:
    """The breaker of one backend. Times are monotonic nanoseconds."""

    __slots__ = (
        "_answers", "_counts", "_failures", "_in_a_row", "_jitter", "_probes", "_second", "epoch", "openings",
        "since_ns", "state", "until_ns",
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        self.state: BreakerState = "closed"
        self.since_ns = 0
        self.until_ns = 0
        self.openings = 0
        self.epoch = 0
        self._jitter = Random(seed)
        self._probes = 0
        self._answers = 0
        self._in_a_row = 0
        self._second = 0
        self._counts = [0] * WINDOW_S
        self._failures = [0] * WINDOW_S

    @property
    def probing(self) -> bool:
        """Half-open, and what it was asked is not answered yet: nothing more is asked meanwhile."""
        return self.state == "half_open" and self._probes > 0

    def at(self, now_ns: int) -> BreakerState:
        """The state as of now: an open breaker whose time has passed is half-open."""
        return "half_open" if self.state == "open" and now_ns >= self.until_ns else self.state

    def begin(self, now_ns: int) -> int:
        """A request is sent; returns what `ended` wants to know of it."""
        if self.state != "closed":
            if self.at(now_ns) != self.state:
                self._become("half_open", now_ns)
            self._probes += 1
        return self.epoch

    def ended(self, epoch: int, answered: bool | None, now_ns: int) -> bool:
        """The request that `begin` gave `epoch` has ended; True if the state or the probing changed."""
        if epoch != self.epoch:
            return False
        if self.state == "closed":
            return self._count(answered, now_ns)
        self._probes -= 1
        if answered is None:
            return True
        if self.state == "open":  # asked nonetheless, because nobody else was left (`Health.panic`)
            if answered:
                self._become("half_open", now_ns)
                self._answers = 1
            return answered
        if not answered:
            self._open(now_ns)
            return True
        self._answers += 1
        if self._answers >= ANSWERS_TO_CLOSE:
            self._become("closed", now_ns)
        return True

    def _count(self, answered: bool | None, now_ns: int) -> bool:
        if answered is None:
            return False
        self._advance(now_ns // SECOND_NS)
        place = self._second % WINDOW_S
        self._counts[place] += 1
        if answered:
            self._in_a_row = 0
            return False
        self._failures[place] += 1
        self._in_a_row += 1
        requests = sum(self._counts)
        enough = requests >= FEWEST_REQUESTS and sum(self._failures) >= FAILED_SHARE * requests
        if not enough and self._in_a_row < FAILURES_IN_A_ROW:
            return False
        if now_ns - self.since_ns >= FORGIVEN_AFTER_NS:
            self.openings = 0
        self._open(now_ns)
        return True

    def _advance(self, second: int) -> None:
        """Forget what is older than the window."""
        if second <= self._second:
            return
        for passed in range(self._second + 1, min(second, self._second + WINDOW_S) + 1):
            self._counts[passed % WINDOW_S] = self._failures[passed % WINDOW_S] = 0
        if second - self._second >= WINDOW_S:
            self._counts, self._failures = [0] * WINDOW_S, [0] * WINDOW_S
        self._second = second

    def _open(self, now_ns: int) -> None:
        open_s = min(LONGEST_OPEN_S, FIRST_OPEN_S * 2.0 ** min(self.openings, 10))
        self.openings += 1
        self._become("open", now_ns)
        self.until_ns = now_ns + int(open_s * self._jitter.uniform(1 - JITTER, 1 + JITTER) * SECOND_NS)

    def _become(self, state: BreakerState, now_ns: int) -> None:
        self.state, self.since_ns = state, now_ns
        self.epoch += 1
        self._probes = self._answers = self._in_a_row = 0
        if state == "closed":
            self._counts, self._failures = [0] * WINDOW_S, [0] * WINDOW_S
