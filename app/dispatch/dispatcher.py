"""Plays requests' dispatch machines in real time: asks backends, reports what comes of it. The thin asyncio shell.

Without hedging a request has one attempt at a time, awaited in its own task: a backend that says nothing is left by
cancelling that very wait. One timer looks after all who wait, every 50 ms. Only hedging makes tasks (`race`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from app.dispatch.attempt import Attempt, Began
from app.dispatch.commands import Ask, Command, Hold, Refuse, Wake
from app.dispatch.machine import Dispatch, silent
from app.dispatch.race import Race
from app.dispatch.terms import Terms
from app.fleet.fleet import Fleet
from app.fleet.health import NEVER_NS
from app.routing.types import Decision, Reservation, RouteRequest
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import Event, GenerationRequest

LOOKED_AFTER_S = 0.05

Settled = Callable[[Attempt], None]


class Opened(NamedTuple):
    """A running attempt, its first event, and how long it was waited for until then: for backends, failed ones
    included, and in the queue."""

    attempt: Attempt
    first: Event
    waited_ns: int


class Dispatcher:
    """Gets a first event out of some backend."""

    def __init__(self, fleet: Fleet, clock: Clock, terms: Terms, decided: Callable[[Decision, int], None]) -> None:
        """`decided(decision, duration_ns)` is told of every decision."""
        self._fleet = fleet
        self._clock = clock
        self._terms = terms
        self._decided = decided
        self._waiting: dict[Dispatch, asyncio.Future[None]] = {}
        self._watched: dict[_Watch, None] = {}
        self._looking = False
        self._opening_ns: dict[str, int] = {}
        if terms.queue is not None:
            fleet.released = self._released

    async def open(
        self, route: RouteRequest, request: GenerationRequest, settled: Settled, tenant: str = "default"
    ) -> Opened:
        """Get somebody to begin; `settled` is called for every attempt, failed ones included.

        Raises: ApiError when nobody could begin to answer.
        """
        clock, waited_ns = self._clock, 0
        dispatch = Dispatch(route, request.endpoint, self, self._terms, request.stream, tenant)
        commands = dispatch.begin(clock.now_ns())
        while True:
            command = commands[0]
            if isinstance(command, Refuse):
                command.error.waited_ns = waited_ns
                raise command.error
            began_ns = clock.now_ns()
            if isinstance(command, Hold):
                commands = await self._hold(dispatch, command, route.model)
                waited_ns += clock.now_ns() - began_ns
                continue
            if self._terms.hedge is None:
                came = await self._ask(dispatch, commands, request, settled)
            else:
                race = Race(dispatch, lambda ask: Attempt(ask, request, self._fleet, clock, settled), clock)
                came = await race.run(commands)
            waited_ns += clock.now_ns() - began_ns
            if isinstance(came, Began):
                return Opened(came.attempt, came.first, waited_ns)
            commands = came

    def decide(self, request: RouteRequest, now_ns: int) -> tuple[Decision, Reservation | None]:
        """Decide at the fleet, and tell how long it took."""
        decided = self._fleet.decide(request, now_ns)
        self._decided(decided[0], self._clock.now_ns() - now_ns)
        return decided

    async def _ask(
        self, dispatch: Dispatch, commands: Sequence[Command], request: GenerationRequest, settled: Settled
    ) -> Began | Sequence[Command]:
        """One attempt, awaited here: what it began with, or what is to be done instead."""
        clock, ask = self._clock, commands[0]
        assert isinstance(ask, Ask)
        attempt = Attempt(ask, request, self._fleet, clock, settled)
        watch = None
        if len(commands) > 1:
            wake = commands[1]
            assert isinstance(wake, Wake)
            watch = _Watch(dispatch, attempt, wake.at_ns)
            self._watched[watch] = None
            if not self._looking:
                self._look_later()
        try:
            first = await attempt.next_event()
        except (BackendError, asyncio.CancelledError) as error:
            if watch is not None and watch.instead is not None:  # its connection may even have failed to close
                if watch.was_it():
                    return watch.instead
                self._give_back(watch.instead)
            elif isinstance(error, BackendError):
                return dispatch.failed(attempt.number, error, clock.now_ns())
            dispatch.leave(clock.now_ns())
            raise
        finally:
            if watch is not None:
                del self._watched[watch]
        dispatch.began(attempt.number, clock.now_ns())
        return Began(attempt, first)

    def _look_later(self) -> None:
        self._looking = True
        asyncio.get_running_loop().call_later(LOOKED_AFTER_S, self._look)

    def _look(self) -> None:
        """Wake the dispatches whose time has come; look again while anybody waits."""
        self._looking = False
        now_ns = self._clock.now_ns()
        for watch in list(self._watched):
            if watch.at_ns is not None and now_ns >= watch.at_ns:
                watch.due(now_ns)
        if self._watched:
            self._look_later()

    async def _hold(self, dispatch: Dispatch, hold: Hold, model: str) -> Sequence[Command]:
        """Wait for the request's turn, or for the end of its patience."""
        loop, clock = asyncio.get_running_loop(), self._clock
        turn = self._waiting[dispatch] = loop.create_future()
        self._expect(model, clock.now_ns())
        timer = loop.call_later(max(0.0, (hold.at_ns - clock.now_ns()) / 1e9), _resolve, turn)
        try:
            await turn
        except asyncio.CancelledError:
            now_ns = clock.now_ns()
            dispatch.leave(now_ns)
            if turn.done() and not turn.cancelled():
                self._room(model, now_ns)  # it had been called: somebody else may have its place
            raise
        finally:
            timer.cancel()
            del self._waiting[dispatch]
        now_ns = clock.now_ns()
        commands = dispatch.wake(now_ns)
        if isinstance(commands[0], Ask):
            self._room(model, now_ns)  # perhaps there is room for another
        return commands

    def _released(self, backend: str, now_ns: int) -> None:
        if self._waiting:
            for model in self._fleet.backends[backend].info.deployments:
                self._room(model, now_ns)

    def _expect(self, model: str, now_ns: int) -> None:
        """Have those who wait at a model called when the next of its backends opens by itself."""
        opens_ns = self._fleet.opens_ns(model, now_ns)
        if opens_ns is not None and opens_ns < self._opening_ns.get(model, NEVER_NS):
            self._opening_ns[model] = opens_ns
            asyncio.get_running_loop().call_later((opens_ns - now_ns) / 1e9, self._opens, model, opens_ns)

    def _opens(self, model: str, opens_ns: int) -> None:
        if self._opening_ns.get(model) != opens_ns:
            return  # another one was sooner, and has been waited for
        del self._opening_ns[model]
        if self._waiting:
            now_ns = self._clock.now_ns()
            self._room(model, now_ns)
            self._expect(model, now_ns)

    def _room(self, model: str, now_ns: int) -> None:
        """Call those whose turn it is at a model."""
        assert self._terms.queue is not None
        for dispatch in self._terms.queue.turns(model, self._terms.re_decisions, now_ns):
            if (turn := self._waiting.get(dispatch)) is not None:
                _resolve(turn)

    def _give_back(self, commands: Sequence[Command]) -> None:
        """Places that were reserved for attempts nobody will make."""
        now_ns = self._clock.now_ns()
        for command in commands:
            if isinstance(command, Ask):
                self._fleet.first_token(command.reservation, now_ns)
                self._fleet.release(command.reservation, now_ns)


class _Watch:
    """Wakes a dispatch at a time while its attempt is awaited; if that is to be left, cancels the wait. `instead` is
    what then follows."""

    __slots__ = ("_attempt", "_dispatch", "_task", "at_ns", "instead")

    def __init__(self, dispatch: Dispatch, attempt: Attempt, at_ns: int) -> None:
        self._dispatch = dispatch
        self._attempt = attempt
        self._task = asyncio.current_task()
        self.at_ns: int | None = at_ns
        self.instead: Sequence[Command] | None = None

    def was_it(self) -> bool:
        """Whether nobody else has cancelled the task too."""
        assert self._task is not None
        return self._task.uncancel() == 0

    def due(self, now_ns: int) -> None:
        """The time has come."""
        commands = self._dispatch.wake(now_ns)
        self.at_ns = None
        if not commands:
            return
        if isinstance(commands[0], Wake):
            self.at_ns = commands[0].at_ns
            return
        self.instead = commands[1:]
        self._attempt.doom(silent(self._attempt.decision))
        assert self._task is not None
        self._task.cancel()


def _resolve(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
