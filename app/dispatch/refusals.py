"""Why no backend can take a request, as its client is told."""

from __future__ import annotations

from app.call import FIELDS
from app.errors import ApiError, BadRequest, NoBackend, Overloaded, from_backend
from app.fleet.health import GATES
from app.routing.types import Decision
from backends.errors import BackendError
from backends.types import PROMPT_FIELDS, Endpoint

PASSING = frozenset({"drained", "already_tried"}) | GATES
"""Reasons that say nothing of the request: it may be right and the time wrong."""

RETRY_AFTER_S = 5.0

TURNED_AWAY = {
    "request_shed": "no backend can keep this request's promise now, and it may not wait for one",
    "queue_full": "too many requests wait already",
    "queue_too_long": "this request's promise would be broken before its turn comes",
}


def nobody(decision: Decision, last_error: BackendError | None, endpoint: Endpoint) -> ApiError:
    """Why no backend can take a request: the client's doing, overload, or ours."""
    if last_error is not None:
        return from_backend(last_error)
    every_reason = {reason for _, reason in decision.rejected}
    reasons = every_reason - PASSING
    listed = ", ".join(f"{name}: {reason}" for name, reason in decision.rejected)
    if reasons == {"context"}:
        return BadRequest(
            f"the prompt (about {decision.request.longest_prompt_tokens} tokens) exceeds the context of every backend "
            f"serving '{decision.request.model}'",
            param=PROMPT_FIELDS[endpoint],
            code="context_length_exceeded",
        )
    unsupported = sorted(reason for reason in reasons if reason.startswith("unsupported:"))
    if unsupported and len(unsupported) == len(reasons):
        needs = unsupported[0].partition(":")[2]
        return BadRequest(
            f"no backend serving '{decision.request.model}' supports: {needs}",
            param=FIELDS.get(needs.split(",")[0], needs.split(",")[0]),
            code="unsupported_capability",
        )
    if reasons == {"over_max_cost"}:
        return BadRequest(
            f"every backend is forecast to cost more than x-turnout-max-cost-usd allows ({listed})",
            param="x-turnout-max-cost-usd",
            code="over_max_cost",
        )
    retry_after_s = RETRY_AFTER_S if decision.retry_after_s is None else decision.retry_after_s
    if every_reason & {"retry_after", "full"} and every_reason <= PASSING:
        return Overloaded(f"every backend that could serve this is full ({listed})", retry_after_s=retry_after_s)
    if every_reason == {"drained"}:
        return NoBackend(f"every backend serving '{decision.request.model}' is drained", retry_after_s=RETRY_AFTER_S)
    return NoBackend(f"no backend can serve this request ({listed})", retry_after_s=retry_after_s)


def turned_away(decision: Decision, why: str) -> Overloaded:
    """Somebody could serve this, but not now: `why` is `request_shed`, `queue_full` or `queue_too_long`."""
    retry_after_s = RETRY_AFTER_S if decision.retry_after_s is None else decision.retry_after_s
    return Overloaded(TURNED_AWAY[why], code=why, retry_after_s=retry_after_s)
