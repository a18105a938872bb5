"""The terms of dispatch, as configured."""

from __future__ import annotations

from collections.abc import Callable

from app.config.deciding import DelayedHedge
from app.config.models import Config
from app.dispatch.admission import Admission, Place
from app.dispatch.machine import Dispatch
from app.dispatch.terms import Guard, Hedge, Terms


def terms(config: Config, left: Callable[[Place, float, bool], None] | None = None) -> Terms:
    """`left(place, seconds, placed)` is told of every request that leaves the queue."""
    dispatch = config.dispatch
    queue, hedge, guard = dispatch.queue, dispatch.hedge, dispatch.guard
    return Terms(
        max_attempts=config.routing.max_attempts,
        retry_share=dispatch.retry.share,
        retry_floor=dispatch.retry.at_least_per_10s,
        guard=Guard(guard.times_q90, guard.at_least_s, guard.at_most_s),
        hedge=Hedge(hedge.times_q90, hedge.at_least_s, hedge.share) if isinstance(hedge, DelayedHedge) else None,
        queue=Admission[Dispatch](queue.max_waiting, queue.max_waiting_per_tenant, left),
        max_wait_s=queue.max_wait_s,
        re_decisions=queue.re_decisions,
    )
