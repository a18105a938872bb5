"""Plays a request's dispatch machine in real time: asks backends, reports what comes of it. The thin asyncio shell."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from app.dispatch.attempt import Attempt
from app.dispatch.commands import Ask, Refuse
from app.dispatch.machine import Dispatch
from app.fleet.fleet import Fleet
from app.routing.types import Decision, Reservation, RouteRequest
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Event, GenerationRequest


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
        clock, waited_ns = self._clock, 0
        dispatch = Dispatch(route, request.endpoint, self, self._max_attempts)
        commands = dispatch.begin(clock.now_ns())
        while True:
            command = commands[0]
            if isinstance(command, Refuse):
                command.error.waited_ns = waited_ns
                raise command.error
            assert isinstance(command, Ask)
            dispatched_ns = clock.now_ns()
            attempt = Attempt(command, request, self._fleet, clock, settled)
            try:
                first = await attempt.next_event()
                dispatch.began(command.number, clock.now_ns())
                return Opened(attempt, first, waited_ns + clock.now_ns() - dispatched_ns)
            except BackendError as error:
                waited_ns += clock.now_ns() - dispatched_ns
                commands = dispatch.failed(command.number, error, clock.now_ns())

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]:
        """Decide at the fleet, and tell how long it took."""
        decided = self._fleet.decide(request, now_ns)
        self._decided(decided[0], self._clock.now_ns() - now_ns)
        return decided
