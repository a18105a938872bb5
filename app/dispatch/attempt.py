"""One attempt at one backend: the reservation it holds, what it observed, and how it ends (exactly once)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from app.fleet.fleet import Fleet
from app.routing.types import Candidate, Decision, Outcome, Reservation
from backends.base import Generation
from backends.clock import Clock
from backends.errors import BackendError
from backends.types import EngineShare, Event, GenerationRequest, TokenChunk, Usage

AttemptEnd = Literal["ok", "cancelled", "failed"]


class Attempt:
    """A generation under way. `settled` is called once, whichever way it ends."""

    def __init__(
        self,
        number: int,
        decision: Decision,
        chosen: Candidate,
        reservation: Reservation,
        request: GenerationRequest,
        fleet: Fleet,
        clock: Clock,
        settled: Callable[[Attempt], None],
    ) -> None:
        self.number = number
        self.decision = decision
        self.chosen = chosen
        self.request = request
        self.dispatched_ns = clock.now_ns()
        self.first_token_ns: int | None = None
        self.ended_ns: int | None = None
        self.end: AttemptEnd | None = None
        self.error: BackendError | None = None
        self._fleet = fleet
        self._clock = clock
        self._settled = settled
        self._reservation = reservation
        self._usage: Usage | None = None
        backend = fleet.backends[chosen.view.name]
        # A real service that does not stream says everything at its end: when its first token was there, nobody knows.
        self._first_token_seen = request.stream or backend.info.mode == "emulated"
        try:
            self._generation: Generation = backend.generate(request)
        except BaseException:  # nothing was asked, so nothing is billed, but the place is free again
            fleet.first_token(reservation)
            fleet.release(reservation)
            raise

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
            self.error = error
            await self._finish("failed")
            raise
        except asyncio.CancelledError:
            await self._finish("cancelled")
            raise
        except BaseException:  # a bug of the backend's is no doing of the client's
            await self._finish("failed")
            raise
        if self.first_token_ns is None and self._first_token_seen and type(event) is TokenChunk:
            self.first_token_ns = self._clock.now_ns()
            self._fleet.first_token(self._reservation)
        return event

    async def cancel(self) -> None:
        """Stop early; what was generated so far is billed. Does nothing once settled."""
        await self._finish("cancelled")

    def usage(self) -> Usage:
        """Tokens so far; final once settled."""
        return self._usage or self._generation.usage()

    def engine_share(self) -> EngineShare | None:
        """Busy engine time so far; final once settled."""
        return self._generation.engine_share()

    def energy_j(self) -> float | None:
        """Joules that its share of engine time is estimated to have taken; None where share or power are unknown."""
        share, power = self.engine_share(), self._fleet.backends[self.chosen.view.name].info.power
        return None if share is None or power is None else power.energy_j(share.total_ns)

    def tpot_s(self) -> float | None:
        """(last token - first token) / (tokens per choice - 1); None below two tokens."""
        if self.first_token_ns is None or self.ended_ns is None:
            return None
        tokens = self.usage().completion_tokens / self.request.choices
        if tokens < 2:
            return None
        return (self.ended_ns - self.first_token_ns) / 1e9 / (tokens - 1)

    async def _finish(self, end: AttemptEnd) -> None:
        if self.end is not None:
            return
        self.end = end
        self.ended_ns = self._clock.now_ns()
        if self.first_token_ns is None:
            self._fleet.first_token(self._reservation)
        self._fleet.release(self._reservation)
        if end == "failed":
            self._fleet.troubles.failed(self.chosen.view.name, self.error, self.ended_ns)
        elif end == "ok":
            self._fleet.troubles.answered(self.chosen.view.name)
        try:
            await self._generation.aclose()
        finally:  # whatever happens to the connection, what was used is billed
            self._usage = self._generation.usage()
            self._learn()
            self._settled(self)

    def _learn(self) -> None:
        """Completed answers teach everything; cut ones only what was seen (their first token)."""
        if self.end == "failed":
            return
        usage = self.usage()
        completed = self.end == "ok"
        prediction = self.chosen.prediction
        self._fleet.observe(
            Outcome(
                self.chosen.view.name,
                self.chosen.view.model,
                (prediction.prior_ttft_s, prediction.prior_tpot_s),
                None if self.first_token_ns is None else (self.first_token_ns - self.dispatched_ns) / 1e9,
                self.tpot_s() if completed else None,
                sum(map(len, self.request.prompts)),
                usage.prompt_tokens + usage.cached_tokens if completed else None,
                usage.completion_tokens // self.request.choices if completed else None,
            )
        )
