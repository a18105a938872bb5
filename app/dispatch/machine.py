"""One request's way to an answer, as a synchronous state machine: events in, commands out. No I/O, no clock.

The shell (asyncio in `dispatcher`, virtual time in `app.replay`) carries commands out and reports events:

    begin(now)             the request is there
    began(number, now)     attempt `number` has its first event
    failed(number, error)  attempt `number` failed before it
    wake(now)              the time of the last `Wake` has come
    leave(now)             the client has gone: every attempt still open is dropped

`Serve` and `Refuse` end it; an event that comes later is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.dispatch.attempts import Attempts
from app.dispatch.commands import Ask, Command, Drop, Refuse, Serve
from app.dispatch.refusals import nobody
from app.errors import from_backend
from app.routing.types import Decision, Reservation, RouteRequest
from backends.errors import BackendError
from backends.types import Endpoint


class Desk(Protocol):
    """Where decisions are made and reserved (`app.fleet.fleet.Fleet`)."""

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]: ...


class Dispatch:
    """The dispatch of one request."""

    def __init__(self, route: RouteRequest, endpoint: Endpoint, desk: Desk, max_attempts: int) -> None:
        self._route = route
        self._endpoint: Endpoint = endpoint
        self._desk = desk
        self._attempts = Attempts(max_attempts)
        self._open: dict[int, Decision] = {}
        self._done = False

    def begin(self, now_ns: int) -> Sequence[Command]:
        """The request is there."""
        return self._ask(now_ns)

    def began(self, number: int, now_ns: int) -> Sequence[Command]:
        """An attempt has its first event."""
        if self._done:
            return ()
        self._done = True
        return [*(Drop(other) for other in self._open if other != number), Serve(number)]

    def failed(self, number: int, error: BackendError, now_ns: int) -> Sequence[Command]:
        """An attempt failed before its first event."""
        decision = self._open.pop(number, None)
        if self._done or decision is None:
            return ()
        if not self._attempts.failed(error):
            self._done = True
            return [Refuse(from_backend(error).after(decision, number, 0))]
        self._route = self._route._replace(exclude=self._attempts.tried)
        return self._ask(now_ns)

    def wake(self, now_ns: int) -> Sequence[Command]:
        """The time of the last `Wake` has come."""
        return ()

    def leave(self, now_ns: int) -> Sequence[Command]:
        """The client has gone."""
        if self._done:
            return ()
        self._done = True
        return [Drop(number) for number in self._open]

    def _ask(self, now_ns: int) -> Sequence[Command]:
        decision, reservation = self._desk.decide(self._route, now_ns)
        if decision.chosen is None or reservation is None:
            self._done = True
            error = nobody(decision, self._attempts.last_error, self._endpoint)
            return [Refuse(error.after(decision, self._attempts.number, 0))]
        number = self._attempts.begin(decision.chosen.view.name)
        self._open[number] = decision
        return [Ask(number, decision, reservation)]
