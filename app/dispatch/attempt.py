"""One attempt at one backend, in real time: a generation under way, and its `Flight`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from app.dispatch.commands import Ask
from app.dispatch.flight import AttemptEnd, Flight
from app.fleet.fleet import Fleet
from app.routing.types import Candidate, Decision
from backends.base import Generation, ServiceTimes
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import EngineShare, Event, GenerationRequest, TokenChunk, Usage


class Began(NamedTuple):
    """An attempt and its first event."""

    attempt: Attempt
    first: Event


class Attempt:
    """A generation under way. `settled` is called once, whichever way it ends."""

    def __init__(
        self,
        ask: Ask,
        request: GenerationRequest,
        fleet: Fleet,
        clock: Clock,
        settled: Callable[[Attempt], None],
    ) -> None:
        self.flight = flight = Flight(ask, fleet, clock.now_ns())
        if warm_up_s := flight.chosen.prediction.warm_up_s:
            request = request._replace(warm_up_s=warm_up_s)
        self.request = request
        self._clock = clock
        self._settled = settled
        self._usage: Usage | None = None
        self._doom: BackendError | None = None
        self.lost = False
        """Another attempt at the same request began first."""
        backend = fleet.backends[flight.chosen.view.name]
        self._heard = fleet.heard(flight.chosen.view.name)
        self._power = backend.info.power
        # A real service that does not stream says everything at its end: when its first token was there, nobody knows.
        self._first_token_seen = request.stream or backend.info.mode == "emulated"
        try:
            self._generation: Generation = backend.generate(request)
        except BaseException:  # nothing was asked, so nothing is billed, but the place is free again
            flight.abandoned(clock.now_ns())
            raise

    @property
    def number(self) -> int:
        return self.flight.number

    @property
    def decision(self) -> Decision:
        return self.flight.decision

    @property
    def chosen(self) -> Candidate:
        return self.flight.chosen

    @property
    def end(self) -> AttemptEnd | None:
        return self.flight.end

    @property
    def error(self) -> BackendError | None:
        return self.flight.error

    @property
    def first_token_ns(self) -> int | None:
        return self.flight.first_token_ns

    @property
    def ended_ns(self) -> int | None:
        return self.flight.ended_ns

    async def next_event(self) -> Event:
        """The next event.

        Raises: StopAsyncIteration at the end; BackendError on failure. Either way the attempt is then settled.
        """
        try:
            event = await self._generation.__anext__()
        except StopAsyncIteration:
            await self._finish("ok")
            raise
        except BackendError as error:
            await self._finish("failed", error)
            raise
        except asyncio.CancelledError:
            await self.drop()
            raise
        except BaseException:  # a bug of the backend's is no doing of the client's
            await self._finish("failed")
            raise
        flight = self.flight
        if flight.first_token_ns is None and self._first_token_seen and type(event) is TokenChunk:
            flight.first_token(self._clock.now_ns())
        elif self.request.stream:
            self._heard.ns = self._clock.now_ns()
        return event

    def doom(self, error: BackendError) -> None:
        """Whoever cancels it now does so because of this failure."""
        self._doom = error

    async def drop(self) -> None:
        """Stop early: failed if it is doomed, else cancelled. Does nothing once settled."""
        await self._finish("cancelled" if self._doom is None else "failed", self._doom)

    async def cancel(self) -> None:
        """Stop early; what was generated so far is billed. Does nothing once settled."""
        await self._finish("cancelled")

    def usage(self) -> Usage:
        """Tokens so far; final once settled."""
        return self._usage or self._generation.usage()

    def engine_share(self) -> EngineShare | None:
        """Busy engine time so far; final once settled."""
        return self._generation.engine_share()

    def service_times(self) -> ServiceTimes | None:
        """What a real service told of its own time."""
        return self._generation.service_times()

    def energy_j(self) -> float | None:
        """Joules that its share of engine time is estimated to have taken; None where share or power are unknown."""
        share, power = self.engine_share(), self._power
        return None if share is None or power is None else power.energy_j(share.total_ns)

    def tpot_s(self) -> float | None:
        """(last token - first token) / (tokens per choice - 1); None below two tokens."""
        return self.flight.tpot_s(self.usage().completion_tokens / self.request.choices)

    async def _finish(self, end: AttemptEnd, error: BackendError | None = None) -> None:
        if self.flight.end is not None:
            return
        self.flight.ended(end, self._clock.now_ns(), error)
        try:
            await self._generation.aclose()
        finally:  # whatever happens to the connection, what was used is billed
            self._usage = self._generation.usage()
            self.flight.learn(self._usage, self.request.choices, sum(map(len, self.request.prompts)))
            self._settled(self)
