"""Decide, reserve, ask; on a failure before the first byte, ask another. The thin shell around `attempts`."""

from __future__ import annotations

from collections.abc import Callable

from app.dispatch.attempt import Attempt
from app.dispatch.attempts import Attempts
from app.errors import ApiError, BadRequest, NoBackend, from_backend
from app.fleet.fleet import Fleet
from app.routing.types import Decision, RouteRequest
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Event, GenerationRequest


class Dispatcher:
    """Gets a first event out of some backend."""

    def __init__(self, fleet: Fleet, clock: Clock, max_attempts: int, decided: Callable[[Decision, int], None]) -> None:
        """`decided(decision, duration_ns)` is told of every decision."""
        self._fleet = fleet
        self._clock = clock
        self._max_attempts = max_attempts
        self._decided = decided

    async def open(
        self, route: RouteRequest, request: GenerationRequest, settled: Callable[[Attempt], None]
    ) -> tuple[Attempt, Event]:
        """A running attempt and its first event; `settled` is called for every attempt, failed ones included.

        Raises: ApiError when nobody could begin to answer.
        """
        attempts = Attempts(self._max_attempts)
        while True:
            before_ns = self._clock.now_ns()
            decision = self._fleet.decide(route)
            self._decided(decision, self._clock.now_ns() - before_ns)
            if decision.chosen is None:
                raise nobody(decision, attempts.last_error).after(decision, attempts.number)
            number = attempts.begin(decision.chosen.view.name)
            attempt = Attempt(number, decision, decision.chosen, request, self._fleet, self._clock, settled)
            try:
                return attempt, await attempt.next_event()
            except BackendError as error:
                if not attempts.failed(error):
                    raise from_backend(error).after(decision, number) from error
                route = route._replace(exclude=attempts.tried)


def nobody(decision: Decision, last_error: BackendError | None) -> ApiError:
    """Why no backend can take a request: the client's doing, overload, or ours."""
    if last_error is not None:
        return from_backend(last_error)
    reasons = {reason for _, reason in decision.rejected}
    listed = ", ".join(f"{name}: {reason}" for name, reason in decision.rejected)
    if reasons == {"context"}:
        return BadRequest(
            f"the prompt (about {decision.request.prompt_tokens} tokens) exceeds the context of every backend "
            f"serving '{decision.request.model}'",
            param="messages",
            code="context_length_exceeded",
        )
    unsupported = sorted(reason for reason in reasons if reason.startswith("unsupported:"))
    if unsupported and len(unsupported) == len(reasons):
        needs = unsupported[0].partition(":")[2]
        return BadRequest(
            f"no backend serving '{decision.request.model}' supports: {needs}",
            param=needs.split(",")[0],
            code="unsupported_capability",
        )
    if reasons == {"over_max_cost"}:
        return BadRequest(
            f"every backend is forecast to cost more than x-turnout-max-cost-usd allows ({listed})",
            param="x-turnout-max-cost-usd",
            code="over_max_cost",
        )
    if reasons == {"drained"}:
        return NoBackend(f"every backend serving '{decision.request.model}' is drained", retry_after_s=5.0)
    return NoBackend(f"no backend can serve this request ({listed})")
