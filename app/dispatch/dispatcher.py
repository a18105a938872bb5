"""Decide, reserve, ask; on a failure before the first byte, ask another. The thin shell around `attempts`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.call import FIELDS
from app.dispatch.attempt import Attempt
from app.dispatch.attempts import Attempts
from app.errors import ApiError, BadRequest, NoBackend, from_backend
from app.fleet.fleet import Fleet
from app.routing.types import Decision, RouteRequest
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Endpoint, Event, GenerationRequest

PASSING = frozenset({"drained", "already_tried"})
"""Reasons that say nothing of the request: it may be right and the time wrong."""

RETRY_AFTER_S = 5.0


class Opened(NamedTuple):
    """A running attempt, its first event, and how long backends were waited for until then, failed ones included."""

    attempt: Attempt
    first: Event
    waited_ns: int


class Dispatcher:
    """Gets a first event out of some backend."""

    def __init__(self, fleet: Fleet, clock: Clock, max_attempts: int, decided: Callable[[Decision, int], None]) -> None:
        """`decided(decision, duration_ns)` is told of every decision."""
        self._fleet = fleet
        self._clock = clock
        self._max_attempts = max_attempts
        self._decided = decided

    async def open(self, route: RouteRequest, request: GenerationRequest, settled: Callable[[Attempt], None]) -> Opened:
        """Get somebody to begin; `settled` is called for every attempt, failed ones included.

        Raises: ApiError when nobody could begin to answer.
        """
        attempts, waited_ns = Attempts(self._max_attempts), 0
        while True:
            before_ns = self._clock.now_ns()
            decision, reservation = self._fleet.decide(route)
            dispatched_ns = self._clock.now_ns()
            self._decided(decision, dispatched_ns - before_ns)
            if decision.chosen is None or reservation is None:
                error = nobody(decision, attempts.last_error, request.endpoint)
                raise error.after(decision, attempts.number, waited_ns)
            number = attempts.begin(decision.chosen.view.name)
            attempt = Attempt(
                number, decision, decision.chosen, reservation, request, self._fleet, self._clock, settled
            )
            try:
                first = await attempt.next_event()
                return Opened(attempt, first, waited_ns + self._clock.now_ns() - dispatched_ns)
            except BackendError as error:
                waited_ns += self._clock.now_ns() - dispatched_ns
                if not attempts.failed(error):
                    raise from_backend(error).after(decision, number, waited_ns) from error
                route = route._replace(exclude=attempts.tried)


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
            param="messages" if endpoint == "chat" else "prompt",
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
    if every_reason == {"drained"}:
        return NoBackend(f"every backend serving '{decision.request.model}' is drained", retry_after_s=RETRY_AFTER_S)
    return NoBackend(f"no backend can serve this request ({listed})", retry_after_s=RETRY_AFTER_S)
