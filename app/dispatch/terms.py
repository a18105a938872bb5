"""What all requests' dispatches share: limits, budgets and the queue. One for each gateway (or simulated one)."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.dispatch.admission import Admission
from app.dispatch.budgets import Budget

BUDGET_SAVED_MOST = 10.0
CHEAP_RETRY = 0.5
"""What a retry costs the budget after a backend that was full or unreachable: it has worked on nothing."""


class Guard(NamedTuple):
    """When a backend that says nothing is given up: after `times_q90` times the predicted 0.9 quantile of what is
    waited for, at least `at_least_s`; a stream at `at_most_s` at the latest."""

    times_q90: float = 5.0
    at_least_s: float = 2.0
    at_most_s: float = 300.0


class Hedge(NamedTuple):
    """When a second backend is asked beside the first: past `times_q90` times the predicted 0.9 quantile, for at most
    `share` of requests."""

    times_q90: float = 1.1
    at_least_s: float = 0.05
    share: float = 0.05


class Terms:
    """Limits of a gateway's configuration, and what is counted against them."""

    __slots__ = ("guard", "hedge", "hedges", "max_attempts", "max_wait_s", "queue", "re_decisions", "retries")

    def __init__(
        self,
        max_attempts: int = 2,
        retry_share: float = 0.1,
        retry_floor: float = 20.0,
        guard: Guard | None = Guard(),  # noqa: B008 - a constant
        hedge: Hedge | None = None,
        queue: Admission[Any] | None = None,
        max_wait_s: float = 30.0,
        re_decisions: int = 4,
    ) -> None:
        """`retry_floor` retries may be made in 10 s whatever the traffic; `queue` None = nobody waits; `max_wait_s` is
        for requests without a promise, and the most for others; `re_decisions` may be made for each release."""
        self.max_attempts = max_attempts
        self.retries = Budget(retry_share, BUDGET_SAVED_MOST, retry_floor)
        self.guard = guard
        self.hedge = hedge
        self.hedges = Budget(0.0 if hedge is None else hedge.share, BUDGET_SAVED_MOST, 0.0)
        self.queue = queue
        self.max_wait_s = max_wait_s
        self.re_decisions = re_decisions
